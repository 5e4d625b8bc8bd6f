package gateway

import (
	"context"
	"errors"
	"net"
	"os"
	"sync/atomic"
	"time"

	"github.com/polder/polder/gateway/audit"
	"github.com/polder/polder/gateway/ledger"
)

// AuditStatus is what the last audit of the region's Envoy found.
type AuditStatus struct {
	At      time.Time     `json:"at"`
	Trusted bool          `json:"trusted"` // false from a drift on until an audit finds everything in order
	Settled bool          `json:"settled"` // everything could be compared
	Running string        `json:"running"` // digest of what the Envoy has
	Drift   []audit.Drift `json:"drift,omitempty"`
	Fault   string        `json:"fault,omitempty"` // why the Envoy could not be audited
}

// attestation keeps what is known of the Envoy's honesty. An Envoy is innocent
// until an audit finds a drift.
type attestation struct {
	last     atomic.Pointer[AuditStatus]
	distrust atomic.Bool
	suspect  atomic.Int64 // process that was not trusted last; 0 for none
}

func (a *attestation) status() AuditStatus {
	s := AuditStatus{}
	if last := a.last.Load(); last != nil {
		s = *last
	}
	s.Trusted = !a.distrust.Load()
	return s
}

// absolves takes the distrust back, now that an audit found everything in order, and
// tells whether there was any. The process that was not trusted is never absolved:
// what it did may not be seen in what it has, and it is to end.
func (a *attestation) absolves(pid int) bool {
	if pid != 0 && int64(pid) == a.suspect.Load() {
		return false
	}
	return a.distrust.Swap(false)
}

// watchEnvoy audits the region's Envoy until ctx ends. One that is not as it
// should be gets no more callers from other regions, and is replaced: what is
// foreign in it did not come through the gate, so nobody knows what else is.
// relisten makes sure that a new Envoy finds this control plane and no other.
func (r *Region) watchEnvoy(ctx context.Context, relisten func() error) error {
	return r.auditor.Run(ctx, func(result audit.Result, err error) (trusted bool) {
		switch {
		case err != nil:
			status := r.attestation.status()
			status.Fault = err.Error() // an Envoy that starts does not answer yet
			r.attestation.last.Store(&status)
			return status.Trusted
		case len(result.Drift) > 0:
			r.distrust(result)
			if err := relisten(); err != nil {
				r.options.Log.Error("the control plane's socket is not ours, and cannot be taken back", "reason", err)
			}
			r.envoy.Restart("audit: " + result.Summary())
		case result.Settled && result.Resources > 0 && r.attestation.distrust.Load():
			if !r.attestation.absolves(r.envoyStatus().PID) {
				r.envoy.Restart("audit: it was distrusted, and runs on")
				break
			}
			r.options.Log.Info("the Envoy is as it should be again", "node", r.node)
			r.journal.repaired(result)
		}
		r.attestation.last.Store(&AuditStatus{At: result.At, Settled: result.Settled, Running: result.Running, Drift: result.Drift})
		return !r.attestation.distrust.Load()
	})
}

// distrust takes the region out of service, for others, and says why.
func (r *Region) distrust(result audit.Result) {
	r.attestation.suspect.Store(int64(r.envoyStatus().PID))
	r.attestation.distrust.Store(true)
	r.setHealthy(false)
	for _, d := range result.Drift {
		r.options.Log.Error("the Envoy is not as it was published, and is replaced", "node", r.node, "drift", d.String())
	}
	r.journal.drifted(result)
}

// Audit audits the region's Envoy now.
func (r *Region) Audit(ctx context.Context) (audit.Result, error) { return r.auditor.Audit(ctx) }

// LedgerReport is the state of a region's ledger, and what reading all of it
// found.
type LedgerReport struct {
	LedgerStatus
	Summary ledger.Summary `json:"summary"`
	Faults  []ledger.Fault `json:"faults,omitempty"`
}

// Ledger verifies the region's ledger, against what this process knows to have
// written. An error says that it cannot be read.
func (r *Region) Ledger() (LedgerReport, error) {
	report := LedgerReport{LedgerStatus: r.journal.status()}
	var err error
	report.Summary, err = ledger.VerifyFrom(r.layout.Ledger(), report.Head)
	var damage *ledger.DamageError
	if errors.As(err, &damage) {
		report.Faults, err = damage.Faults, nil
	}
	return report, err
}

// relistener gives a function that listens on the control plane's socket again
// if the file in its place is not the one of listener.
func relistener(path string, serve func(net.Listener)) func() error {
	mine, _ := os.Stat(path) // nil is like a file that is gone
	return func() error {
		there, err := os.Stat(path)
		if err == nil && mine != nil && os.SameFile(mine, there) {
			return nil
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		listener, err := listenUnix(path)
		if err != nil {
			return err
		}
		mine, _ = os.Stat(path)
		serve(listener)
		return nil
	}
}

// withdrawKeys takes from Envoy the keys that it may no longer have.
func (r *Region) withdrawKeys() {
	for _, s := range r.servers() {
		var names []string
		for _, name := range s.SecretNames() {
			if !r.reconciler.gate.lawful(name) {
				names = append(names, name)
			}
		}
		if len(names) > 0 {
			s.Touch(names...)
		}
	}
}
