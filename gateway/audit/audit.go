package audit

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/xds"
	"github.com/polder/polder/xds/dump"
	"github.com/polder/polder/xds/proof"
	"github.com/polder/polder/xds/server"
)

const (
	// every is the pause between two audits that found nothing, give or take a
	// fifth, so that regions do not keep step.
	every = 5 * time.Second
	// share bounds what audits cost: one that worked for long is followed by a pause
	// that many times as long. To wait for a quiet moment is no work.
	share = 19
	// recheck is the pause while an Envoy is not trusted.
	recheck = 500 * time.Millisecond
	// again is how long after a look the next one of the same audit comes.
	again = 200 * time.Millisecond
	// settleWait bounds how long an audit waits for a quiet moment.
	settleWait = 3 * time.Second
	// strange is how long an Envoy may follow no control plane of ours before
	// everything that was not published here counts against it. Its own pauses
	// between two attempts to connect are half as long.
	strange = time.Minute
)

// Admin is what an audit asks of an Envoy; *envoy.Admin is one.
type Admin interface {
	ConfigDump(ctx context.Context, parameters url.Values) ([]byte, error)
	Runtime(ctx context.Context) ([]byte, error)
}

// ControlPlane tells what an Envoy was sent and took; *server.Server is one.
type ControlPlane interface {
	Held(node string) server.Held
}

// Options of an Auditor. All are needed.
type Options struct {
	Node         string
	Bootstrap    []byte // JSON, as the Envoy was started with
	Admin        Admin
	ControlPlane ControlPlane
	Mirror       *Mirror
}

// Result is what one audit found.
type Result struct {
	Node      string    `json:"node"`
	At        time.Time `json:"at"`
	Took      float64   `json:"took"`    // seconds
	Settled   bool      `json:"settled"` // everything could be compared; otherwise only what is foreign is known
	Resources int       `json:"resources"`
	Secrets   int       `json:"secrets"`
	Running   string    `json:"running"`   // digest of what the Envoy has
	Published string    `json:"published"` // digest of what was published, as in the ledger
	Drift     []Drift   `json:"drift,omitempty"`
}

// Summary names what drifted, on one line.
func (r Result) Summary() string { return names(r.Drift) }

// Auditor audits one Envoy.
type Auditor struct {
	// Fixed after construction.
	options Options
	want    dump.Expected

	mu        sync.Mutex // held during an audit
	reader    dump.Reader
	prover    prover
	known     bool               // it was as it should be at least once
	last      map[xds.Key]string // digests of its resources when it last was
	connected time.Time          // when it last was, or this auditor was made
	hurry     chan struct{}      // of one: the next audit is to come soon
}

// prover keeps the proof of what the Envoy had last.
type prover struct {
	checker  *proof.Checker
	had      map[proof.Key]bool
	services map[polder.ServiceName][]polder.Endpoint
}

// New makes an Auditor. It starts nothing.
func New(o Options) (*Auditor, error) {
	want, err := dump.ExpectBootstrap(o.Bootstrap)
	if err != nil {
		return nil, fmt.Errorf("audit of node %s: %w", o.Node, err)
	}
	return &Auditor{options: o, want: want, connected: time.Now(), hurry: make(chan struct{}, 1)}, nil
}

// Audit looks at the Envoy now. The error says that it could not: that is no
// drift, and no all-clear either.
func (a *Auditor) Audit(ctx context.Context) (Result, error) {
	result, _, err := a.audit(ctx)
	return result, err
}

// audit is Audit, and tells for how long it worked.
func (a *Auditor) audit(ctx context.Context) (result Result, worked time.Duration, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	began := time.Now()
	patience := began.Add(settleWait)
	var last []Drift
	for {
		looked := time.Now()
		l, settled, err := a.look(ctx)
		worked += time.Since(looked)
		if err != nil {
			return Result{}, worked, fmt.Errorf("audit of node %s: %w", a.options.Node, err)
		}
		if !settled && time.Now().Before(patience) {
			if !pause(ctx, again) {
				return Result{}, worked, context.Cause(ctx)
			}
			continue
		}
		compared := time.Now()
		if l.held.Connected {
			a.connected = time.Now()
		}
		drift := compare(l, a.want, settled, a.known || time.Since(a.connected) > strange)
		if settled {
			drift = append(drift, a.prover.prove(l)...)
		}
		confirmed := intersect(last, drift)
		worked += time.Since(compared)
		if len(drift) > 0 && last == nil {
			last = drift
			if !pause(ctx, again) {
				return Result{}, worked, context.Cause(ctx)
			}
			continue
		}
		if settled && len(drift) == 0 {
			a.known, a.last = true, map[xds.Key]string{}
			for _, r := range l.dump.Resources {
				a.last[r.Key] = r.Digest
			}
		}
		return a.result(l, began, settled, confirmed), worked, nil
	}
}

// look takes one look. It is settled if nothing moved meanwhile.
func (a *Auditor) look(ctx context.Context) (look, bool, error) {
	before, held := a.options.Mirror.look(), a.options.ControlPlane.Held(a.options.Node)
	text, err := a.options.Admin.ConfigDump(ctx, url.Values{dump.Parameters: {""}})
	if err != nil {
		return look{}, false, err
	}
	values, err := a.options.Admin.Runtime(ctx)
	if err != nil {
		return look{}, false, err
	}
	after, heldAfter := a.options.Mirror.look(), a.options.ControlPlane.Held(a.options.Node)
	l := look{expectation: after, held: heldAfter, last: a.last}
	if l.dump, err = a.reader.Read(text); err != nil {
		return look{}, false, err
	}
	if l.overrides, err = dump.ReadRuntime(values, a.want.Layers); err != nil {
		return look{}, false, err
	}
	still := func(h server.Held) bool { return h.Connected && h.Settled }
	return l, still(held) && still(heldAfter) && before.sequence == after.sequence && equal(held.Versions, heldAfter.Versions), nil
}

func (a *Auditor) result(l look, began time.Time, settled bool, drift []Drift) Result {
	lines := make([]string, len(l.dump.Resources))
	for i, r := range l.dump.Resources {
		lines[i] = line(r.Key, r.Digest)
	}
	published := make([]string, 0, len(l.now))
	for k, v := range l.now {
		published = append(published, line(k, v.digest))
	}
	return Result{
		Node: a.options.Node, At: began.UTC(), Took: time.Since(began).Seconds(), Settled: settled,
		Resources: len(l.dump.Resources), Secrets: len(l.dump.Secrets),
		Running: digestOf(lines), Published: digestOf(published), Drift: drift,
	}
}

// Run audits until ctx ends, and tells the result of each audit. tell returns
// whether the Envoy is trusted; while it is not, audits come fast.
func (a *Auditor) Run(ctx context.Context, tell func(Result, error) (trusted bool)) error {
	for wait := recheck; a.rest(ctx, wait); {
		result, worked, err := a.audit(ctx)
		if ctx.Err() != nil {
			return nil
		}
		wait = max(every*8/10+rand.N(every*4/10), share*worked)
		if !tell(result, err) {
			wait = recheck
		}
	}
	return nil
}

// Hurry tells that the Envoy is not trusted for a reason that no audit found. Run then
// audits as fast as after a drift. It returns at once, and may be called by anyone.
func (a *Auditor) Hurry() {
	select {
	case a.hurry <- struct{}{}:
	default: // it is told already
	}
}

// rest is pause, and shorter when there is hurry.
func (a *Auditor) rest(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-a.hurry:
		return pause(ctx, min(d, recheck))
	case <-ctx.Done():
		return false
	}
}

// intersect keeps what both looks found.
func intersect(a, b []Drift) []Drift {
	var both []Drift
	for _, d := range b {
		if slices.ContainsFunc(a, func(other Drift) bool { return other.Kind == d.Kind && other.What == d.What }) {
			both = append(both, d)
		}
	}
	return both
}

func equal(a, b map[xds.Key]string) bool {
	if len(a) != len(b) {
		return false
	}
	for k, v := range a {
		if b[k] != v {
			return false
		}
	}
	return true
}

// pause waits, and tells whether the context is still alive.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
