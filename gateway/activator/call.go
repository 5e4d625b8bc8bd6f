package activator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"strconv"
	"strings"
	"time"

	"github.com/polder/polder"
)

// maxWakes is how often a request asks for an instance: once more than once,
// because an instance can die between its last sign of life and our dial.
const maxWakes = 2

// atOnce makes ReverseProxy send each part of an answer on as it comes.
const atOnce = -1

// errStopping is the cause of the context that ends the requests of a server
// that stops.
var errStopping = errors.New("the gateway stops")

// call is one request on its way. Only the goroutine of its handler touches it.
type call struct {
	*Activator
	w       http.ResponseWriter
	r       *http.Request
	service polder.ServiceName
	id      string
	stays   bool // until it is answered: no Envoy sent it
	class   Class
	bytes   polder.Bytes // what holding it is charged
	stage   stage
	upload  *upload // once forwarded; nil without a body
	target  Target
	wakes   int
	answer  polder.ColdAnswer // what its caller got in place of the instance's; "" for that one

	noticed   time.Time
	queued    time.Time // zero until it is held
	published time.Time // zero unless it is moved
	forwarded time.Time // zero until it is connected to an instance
}

// stage is how far a call has come, as the book knows it.
type stage int

const (
	arrived stage = iota
	held
	sent   // forwarded
	failed // counted as such; nothing more is counted
)

// run holds the request until there is an instance, then forwards it.
func (c *call) run(ctx context.Context) {
	c.class, c.bytes = c.Activator.class(c.service), cost(c.r)
	if !c.book.arrive(c.service, c.class, c.bytes) {
		c.fail(ctx, &Failure{Reason: ActivatorFull, Err: fmt.Errorf("no room for another %s request of %d bytes", c.class, c.bytes)})
		return
	}
	c.stage, c.queued = held, time.Now()
	defer func() {
		if c.stage == held { // Wake panicked; the room must not be lost
			c.book.abandon(c.service, c.class, c.bytes, StartFailed)
		}
	}()
	to, err := c.reach(ctx)
	if errors.Is(err, errMoved) {
		c.move()
		c.target.release()
		return
	}
	if c.inherited(err) {
		c.run(ctx)
		return
	}
	if err != nil {
		c.fail(ctx, err)
		return
	}
	defer c.target.release()
	defer to.Close()
	c.book.forward(c.service, c.class, c.bytes, c.target)
	defer c.book.end(c.service)
	c.stage, c.forwarded = sent, time.Now()
	c.forward(ctx, to)
}

// inherited tells whether a request that was held belongs to another service now,
// because its own went while it waited, and hands it over.
func (c *call) inherited(err error) bool {
	var failure *Failure
	if c.stays || !errors.As(err, &failure) || failure.Reason != UnknownService || c.options.Known(c.service) {
		return false
	}
	heir, ok := c.heir(c.r)
	if ok {
		c.book.inherit(c.service, c.class, c.bytes)
		c.service, c.stage, c.wakes = heir, arrived, 0
	}
	return ok
}

// reach returns a connection to an instance. Nothing of the request has been
// read or sent before.
func (c *call) reach(ctx context.Context) (link, error) {
	wait := c.budget(c.class).Wait
	waiting, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	cause := Cause{Kind: CauseRequest, Request: c.id}
	for {
		c.wakes++
		target, err := c.options.Wake(waiting, c.service, cause)
		c.target = target
		if err == nil {
			if before, ok := c.movable(); ok && c.settles(waiting, before) {
				return nil, errMoved
			}
			var to link
			if to, err = c.dialer.dial(waiting, target); err == nil {
				return to, nil
			}
			target.release()
			err = &Failure{Reason: InstanceGone, Err: err}
			if c.wakes < maxWakes && waiting.Err() == nil {
				cause = Cause{Kind: CauseGone, Request: c.id, Gone: target.Address}
				continue
			}
		}
		if ctx.Err() == nil && waiting.Err() != nil {
			if c.class == Saturation || c.Activator.class(c.service) == Saturation {
				return nil, &Failure{Reason: Saturated, Err: fmt.Errorf("no instance had room within %s: %w", wait, err)}
			}
			return nil, &Failure{Reason: StartTimeout, Err: fmt.Errorf("no instance within %s: %w", wait, err)}
		}
		return nil, err
	}
}

// forward sends the request and the answer on, both while they arrive.
func (c *call) forward(ctx context.Context, to link) {
	w, control := c.w, http.NewResponseController(c.w)
	if c.r.ProtoMajor == 1 {
		if err := control.EnableFullDuplex(); err != nil {
			c.quiet.Printf("the answer waits for the whole request: %v", err)
		}
		w = &tunnel{w}
	}
	stop := func() {}
	defer func() { stop() }()
	proxy := httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) {
			rewrite(p, c.target.Address.String())
			if p.Out.Body != nil {
				c.upload = &upload{ReadCloser: p.Out.Body, in: p.In, trailer: p.Out.Trailer,
					control: control, left: func() bool { return ctx.Err() != nil }}
				p.Out.Body = c.upload
			}
			stop = to.watch(ctx, c.upload)
		},
		Transport:     to,
		FlushInterval: atOnce,
		BufferPool:    c.buffers,
		ErrorLog:      c.quiet,
		ErrorHandler:  func(_ http.ResponseWriter, _ *http.Request, err error) { c.broke(ctx, err) },
	}
	proxy.ModifyResponse = func(res *http.Response) error {
		if res.ContentLength == 0 {
			// A header that ends the stream must arrive as one: gRPC reads its status
			// there. Flushed by itself, it would be followed by an empty body.
			proxy.FlushInterval = 0
		}
		return c.answered(res)
	}
	whole := false
	defer func() {
		if c.upload != nil {
			c.upload.settle()
		}
		if !whole { // ReverseProxy panics, so that half an answer does not look whole
			c.count(c.failure(ctx, &Failure{Reason: InstanceFailed, Err: errors.New("the answer ended early")}))
		}
	}()
	proxy.ServeHTTP(w, c.r.WithContext(ctx))
	whole = true
}

// answered notes the first byte of the instance's answer.
func (c *call) answered(res *http.Response) error {
	if c.upload != nil {
		c.upload.settle() // from here on the answer's end tells what becomes of the connection
	}
	if _, ok := res.Header["Content-Type"]; !ok {
		c.w.Header()["Content-Type"] = nil // or the server would guess one
	}
	if c.target.Warm {
		return nil
	}
	p := c.record(time.Now(), res.StatusCode, nil)
	switch {
	case !c.options.ServerTiming:
	case c.target.Busy:
		res.Header.Add("Server-Timing", timing(Step{"saturated", p.Total()}))
	default:
		res.Header.Add("Server-Timing", serverTiming(p))
		res.Header.Set("X-Polder-Cold", "1")
	}
	return nil
}

// broke answers for an instance that took the request and then failed.
func (c *call) broke(ctx context.Context, err error) {
	if c.upload != nil && c.r.ProtoMajor == 1 {
		c.w.Header().Set("Connection", "close") // what remains of the body is not read
	}
	c.fail(ctx, &Failure{Reason: InstanceFailed, Err: err})
}

// fail counts, logs and answers what went wrong.
func (c *call) fail(ctx context.Context, err error) {
	failure, was := c.failure(ctx, err), c.stage
	c.count(failure)
	status := failure.Reason.status()
	if failure.Reason == CallerGone {
		status = 0
	}
	if was != arrived && !c.target.Warm {
		c.record(time.Now(), status, failure)
	}
	if status == 0 || failure.Reason == Stopping && was == sent {
		// Without this the server would answer an empty 200 to a half-closed
		// connection, or advise to repeat what an instance may have done already.
		panic(http.ErrAbortHandler)
	}
	refuse(c.w, c.r, refusal{Reason: failure.Reason, at: c.at()}, failure.RetryAfter)
}

// failure finds the one reason under which an error is known to callers.
func (c *call) failure(ctx context.Context, err error) *Failure {
	if ctx.Err() != nil && (c.upload == nil || !c.upload.wasBroken()) {
		if errors.Is(context.Cause(ctx), errStopping) {
			return &Failure{Reason: Stopping, Err: err}
		}
		return &Failure{Reason: CallerGone, Err: err}
	}
	var failure *Failure
	if !errors.As(err, &failure) {
		return &Failure{Reason: StartFailed, Err: err}
	}
	if _, ok := public[failure.Reason]; !ok {
		return &Failure{Reason: StartFailed, RetryAfter: failure.RetryAfter, Err: err}
	}
	return failure
}

// count puts a failure into counters and log, once.
func (c *call) count(failure *Failure) {
	switch c.stage {
	case arrived:
		c.book.refuse(c.service, failure.Reason)
	case held:
		c.book.abandon(c.service, c.class, c.bytes, failure.Reason)
	case sent:
		c.book.broken(c.service, failure.Reason)
	case failed:
		return
	}
	c.stage = failed
	write, suppressed := c.book.mayLog(c.service, failure.Reason, time.Now())
	if !write {
		return
	}
	level := slog.LevelWarn
	if failure.Reason == CallerGone || failure.Reason == Asleep { // as the caller wished, and as the owner
		level = slog.LevelDebug
	}
	c.options.Log.Log(context.Background(), level, "request not answered", "service", c.service, "region", c.options.Region,
		"request", c.id, "reason", failure.Reason, "error", failure.Err, "waited", time.Since(c.noticed), "suppressed", suppressed)
}

// record puts the request into the ledger. The failure is nil when an instance
// answered.
func (c *call) record(now time.Time, status int, failure *Failure) Phases {
	p := newMarks(c.queued, c.target.Start, c.published, c.forwarded).split(c.noticed, now, failure == nil)
	entry := ColdRequest{
		ID: c.id, Trace: traceOf(c.r.Header), Service: c.service, Region: c.options.Region, Instance: c.target.Instance, Class: c.class,
		Noticed: c.noticed, Phases: p, Wakes: c.wakes, Status: status, Why: c.target.Why, Answer: c.answer,
	}
	entry.Moved = !c.published.IsZero()
	if c.target.Busy || failure != nil && failure.Reason == Saturated {
		entry.Class = Saturation
	}
	if failure != nil {
		entry.Reason = failure.Reason
		if failure.Err != nil {
			cause := failure.Err.Error()
			entry.Cause = strings.Clone(cause[:min(len(cause), maxCause)])
		}
	}
	c.RememberMore(entry)
	if c.options.Observe != nil && c.answer == "" { // the others did not wait
		c.options.Observe(entry)
	}
	return p
}

// serverTiming tells a caller in milliseconds what it waited for: the whole
// time to the first byte, and of that until the start began, and the start.
func serverTiming(p Phases) string {
	return timing(Step{"cold", p.Total()}, Step{"queued", p.Queued + p.Decided}, Step{"start", p.Started + p.Listening + p.Ready})
}

func timing(parts ...Step) string {
	var b strings.Builder
	for i, part := range parts {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(part.Name + ";dur=" + strconv.FormatFloat(float64(part.Took)/float64(time.Millisecond), 'f', 3, 64))
	}
	return b.String()
}

func errNotNamed(h http.Header) error {
	return fmt.Errorf("the header %s is %q: want the name of one configured service", serviceHeader, h[serviceHeader])
}
