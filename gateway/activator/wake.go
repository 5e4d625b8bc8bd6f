package activator

import (
	"context"
	"net/netip"
	"time"

	"github.com/polder/polder"
)

// Wake blocks until an instance of the service answers, starting one if none
// runs, or says why not; the reason of a *Failure reaches the caller, any other
// error counts as StartFailed. It is called once for each held request.
type Wake func(ctx context.Context, service polder.ServiceName, cause Cause) (Target, error)

// Cause says why an instance is wanted.
type Cause struct {
	Kind    CauseKind
	Request string         // the x-request-id; may be empty
	Gone    netip.AddrPort // with CauseGone: where nobody accepted a connection
}

// CauseKind is the kind of a Cause.
type CauseKind string

// The kinds of causes.
const (
	CauseRequest CauseKind = "request"       // a request arrived and no instance is published
	CauseGone    CauseKind = "instance-gone" // the instance named before did not accept a connection
)

// Target is where a request can go now.
type Target struct {
	Address  netip.AddrPort
	Protocol polder.Protocol
	Instance polder.InstanceID
	Warm     bool // an instance was ready already when Wake was called, and free
	Busy     bool // one was ready, and all that were had no room for the request until one had
	Start    Start
	Why      string // the decision that started the instance, in words
	Release  func() // gives back the room that the request has at the instance; called once; nil when it takes none
}

// release gives the room back, if the target takes any.
func (t Target) release() {
	if t.Release != nil {
		t.Release()
	}
}

// Start tells when the start that produced an instance passed each step, by
// this process's clock. A zero time means that the step is not known; its
// duration then falls to the next known one. A request that joined a start
// under way is charged only for what remained of it.
type Start struct {
	Decided   time.Time // somebody decided to start
	Started   time.Time // the provider was asked
	Listening time.Time // the port accepts connections
	Ready     time.Time // the instance answers
}

// Reason labels why a request was not answered by an instance. It is a metric
// label and the value of the response header x-polder-reason.
type Reason string

// The reasons. No other value reaches callers or metrics.
const (
	Asleep         Reason = "asleep"          // the service was, and its owner wants callers not to wait
	ActivatorFull  Reason = "activator-full"  // a budget for holding is used up
	CallerGone     Reason = "caller-gone"     // the caller left before its answer was complete; only counted
	CrashLoop      Reason = "crash-loop"      // starts failed in a row, the next try is later
	Moved          Reason = "moved"           // a stream is sent to the ready instance by Envoy itself; callers never see it
	InstanceFailed Reason = "instance-failed" // the instance took the request and broke the connection
	InstanceGone   Reason = "instance-gone"   // twice an instance did not accept a connection
	OverBudget     Reason = "over-budget"     // the money for a start is used up
	OverQuota      Reason = "over-quota"      // a start would exceed the tenant's or the region's quota
	Saturated      Reason = "saturated"       // all instances stayed busy for as long as a request may wait
	StartFailed    Reason = "start-failed"    // no instance came up
	StartTimeout   Reason = "start-timeout"   // none came up for as long as a request may wait
	Stopping       Reason = "stopping"        // this gateway stops
	UnknownService Reason = "unknown-service" // not in the configuration, or not named
)

// Failure is why there is no target.
type Failure struct {
	Reason     Reason
	RetryAfter time.Duration // when another try may help; rounded up to seconds, at least one
	Err        error         // for the operator; callers never see it
}

// Error names the reason and the cause.
func (f *Failure) Error() string {
	if f.Err == nil {
		return string(f.Reason)
	}
	return string(f.Reason) + ": " + f.Err.Error()
}

// Unwrap returns the cause.
func (f *Failure) Unwrap() error { return f.Err }
