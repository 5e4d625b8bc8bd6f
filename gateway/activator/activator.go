package activator

import (
	"context"
	"errors"
	"log"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/polder/polder"
)

// heldCost is charged to the budget for each held request beside its header
// and its receive window: goroutines, connection, buffers. In bytes;
// BenchmarkHeld measures it.
const heldCost polder.Bytes = 32 << 10

// receiveWindow is how much of a body an HTTP/2 caller may send before it is
// read, in bytes. It cannot be smaller: a caller may send as much before it has
// heard of our window (RFC 9113, 6.9.2), and the library calls that an error.
//
// maxStreams of them fit into a connection's window, so that held requests
// never block one that is being forwarded. There are many of them because Envoy
// answers 503 for streams that are refused until it has heard of the limit.
const (
	receiveWindow polder.Bytes = 64 << 10
	maxStreams                 = 1000
)

// maxHeader bounds a request's header, in bytes; Envoy's own bound is 60 KiB.
const maxHeader = 256 << 10

// Activator holds requests until an instance can answer them. It is an
// http.Handler; Serve gives it a listener.
type Activator struct {
	options Options // fixed after construction
	book    *book
	ledger  *ledger
	movers  *movers
	dialer  *dialer
	buffers *buffers
	quiet   *log.Logger // what net/http says of single connections
}

// New returns an Activator, or every fault of the options. It starts nothing.
func New(o Options) (*Activator, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	dialer, err := newDialer()
	if err != nil {
		return nil, err
	}
	return &Activator{
		options: o,
		book:    newBook(o.Limits, o.Known),
		ledger:  newLedger(o.Remember),
		movers:  newMovers(),
		dialer:  dialer,
		buffers: &buffers{sync.Pool{New: func() any { return new([bufferSize]byte) }}},
		quiet:   slog.NewLogLogger(o.Log.Handler(), slog.LevelDebug),
	}, nil
}

// Stats returns a consistent snapshot of the counters.
func (a *Activator) Stats() Stats { return a.book.snapshot() }

// ColdRequests returns the last requests that waited, the latest first.
func (a *Activator) ColdRequests() []ColdRequest { return a.ledger.all() }

// ServeHTTP holds and forwards one request, as the package promises.
func (a *Activator) ServeHTTP(w http.ResponseWriter, r *http.Request) { a.answer(w, r, false) }

// answer does the same. A request that stays is never moved: nobody would repeat it.
func (a *Activator) answer(w http.ResponseWriter, r *http.Request, stays bool) {
	service, known := a.serviceOf(r)
	c := &call{Activator: a, w: w, r: r, service: service, id: requestID(r.Header), stays: stays, noticed: time.Now()}
	if !known {
		c.fail(r.Context(), &Failure{Reason: UnknownService, Err: errNotNamed(r.Header)})
		return
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	// Over HTTP/1 the server does not see a caller leave while a body is unread.
	defer onHangup(r, cancel)()
	if after, ok := a.asksState(service, r); ok {
		c.tell(ctx, after)
		return
	}
	if answer := a.answerOf(service, r); answer != polder.ColdHold && c.brief(ctx, answer) {
		return
	}
	c.run(ctx)
}

// serviceOf is the service that a request is for, and whether it is known. An Envoy
// that has not heard yet that the host has moved to another service still names the
// former one.
func (a *Activator) serviceOf(r *http.Request) (polder.ServiceName, bool) {
	service, named := serviceOf(r.Header)
	if !named || a.options.Known(service) { // asked once: the answer may change
		return service, named
	}
	if heir, ok := a.heir(r); ok {
		return heir, true
	}
	return service, false
}

// heir is the service that has the host of a request now, for one whose own service is
// no more. The request names it from then on.
func (a *Activator) heir(r *http.Request) (polder.ServiceName, bool) {
	if a.options.Heir == nil {
		return "", false
	}
	host := r.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	heir, ok := a.options.Heir(host)
	if ok {
		r.Header.Set(serviceHeader, string(heir))
	}
	return heir, ok
}

// class tells which budget a request of the service takes.
func (a *Activator) class(service polder.ServiceName) Class {
	if a.options.Saturated != nil && a.options.Saturated(service) {
		return Saturation
	}
	return Cold
}

func (a *Activator) budget(class Class) Budget { return a.book.budget(class) }

// SetBudgets replaces the budgets for holding. What is held already stays, also
// where that is more than the new ones allow. On an error nothing changes.
func (a *Activator) SetBudgets(cold, saturated Budget) error {
	if err := errors.Join(cold.validate(Cold), saturated.validate(Saturation)); err != nil {
		return err
	}
	a.book.setBudgets(cold, saturated)
	return nil
}

// cost is the most memory that holding the request can take, in bytes.
func cost(r *http.Request) polder.Bytes {
	bytes := heldCost + polder.Bytes(len(r.RequestURI))
	for name, values := range r.Header {
		for _, value := range values {
			bytes += polder.Bytes(len(name) + len(value))
		}
	}
	if r.ProtoMajor == 2 && r.ContentLength != 0 {
		window := receiveWindow
		if r.ContentLength > 0 {
			window = min(window, polder.Bytes(r.ContentLength))
		}
		bytes += window
	}
	return bytes
}

// bufferSize is how much of an answer is copied at a time, in bytes.
const bufferSize = 32 << 10

// buffers lends copy buffers to ReverseProxy.
type buffers struct{ pool sync.Pool }

func (b *buffers) Get() []byte  { return b.pool.Get().(*[bufferSize]byte)[:] }
func (b *buffers) Put(p []byte) { b.pool.Put((*[bufferSize]byte)(p)) }
