package gateway

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/regions/law"
)

// DrainStatus tells how far a peer is with giving its callers to others.
type DrainStatus struct {
	Region    polder.RegionName `json:"region"`
	Peer      string            `json:"peer"`
	Draining  bool              `json:"draining"`
	Moved     int               `json:"moved"`           // services whose new callers go elsewhere
	Waiting   int               `json:"waiting"`         // services that have their callers here until they are warm elsewhere
	Instances int               `json:"instances"`       // of the services that can be elsewhere, still here
	Open      int               `json:"open"`            // requests in progress on these
	Stays     []DrainStay       `json:"stays,omitempty"` // services that nobody else may or can have
	Done      bool              `json:"done"`            // it drains, and only what stays is left
}

// DrainStay is a service that would have no home without the peers that drain.
type DrainStay struct {
	Service polder.ServiceName `json:"service"`
	Reason  string             `json:"reason"`
}

// PinnedError says which services draining would leave without a home.
type PinnedError struct {
	Peer  string
	Stays []DrainStay
}

func (e *PinnedError) Error() string {
	text := fmt.Sprintf("draining %s would leave %d services without a home:", e.Peer, len(e.Stays))
	for i, s := range e.Stays {
		if i == maxListed {
			text += fmt.Sprintf("\n  and %d more", len(e.Stays)-i)
			break
		}
		text += fmt.Sprintf("\n  %s: %s", s.Service, s.Reason)
	}
	return text
}

// drainFile marks a peer that was told to drain: it drains still when it is
// started again.
func (l Layout) drainFile() string { return filepath.Join(l.Dir(), "draining") }

// wasDrained tells whether the peer was told to drain before it was started.
func wasDrained(l Layout) (bool, error) {
	_, err := os.Stat(l.drainFile())
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// Drain gives the peer's callers to others, without a lost request: new ones at
// once, those that are connected after their present request. with names other
// peers that drain at the same time, so that nothing is given to them. What cannot
// be elsewhere stays and is served here on; unless force is set that is a reason
// to change nothing, and a *PinnedError.
func (r *Region) Drain(ctx context.Context, with []string, force bool) (DrainStatus, error) {
	status, err := r.DrainStatus(ctx, with)
	if err != nil {
		return status, err
	}
	if len(status.Stays) > 0 && !force {
		return status, &PinnedError{Peer: r.options.Peer, Stays: status.Stays}
	}
	if err := os.WriteFile(r.layout.drainFile(), nil, 0o600); err != nil {
		return status, fmt.Errorf("peer %s: %w", r.options.Peer, err)
	}
	if !r.drained.Swap(true) {
		r.options.Log.Info("peer drains: its callers are given to others", "peer", r.options.Peer)
	}
	r.publishRow()
	return r.DrainStatus(ctx, with)
}

// Undrain lets the peer have callers again. Services come back when they were
// asleep for once, and busy ones when they are warm here.
func (r *Region) Undrain(ctx context.Context) (DrainStatus, error) {
	if err := os.Remove(r.layout.drainFile()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return DrainStatus{}, fmt.Errorf("peer %s: %w", r.options.Peer, err)
	}
	if r.drained.Swap(false) {
		r.options.Log.Info("peer drains no more", "peer", r.options.Peer)
	}
	r.publishRow()
	return r.DrainStatus(ctx, nil)
}

// DrainStatus tells how far the peer is. with is as for Drain.
func (r *Region) DrainStatus(ctx context.Context, with []string) (DrainStatus, error) {
	status, err := r.reconciler.drainStatus(ctx, with)
	status.Region, status.Peer, status.Draining = r.options.Region, r.options.Peer, r.drained.Load()
	status.Done = status.Draining && status.Done
	return status, err
}

func (r *reconciler) drainStatus(ctx context.Context, with []string) (DrainStatus, error) {
	answer := make(chan DrainStatus, 1)
	if r.post(ctx, func(now time.Time) { answer <- r.drainStatusNow(with, now) }) {
		select {
		case status := <-answer:
			return status, nil
		case <-ctx.Done():
		}
	}
	return DrainStatus{}, fmt.Errorf("asking how far the drain is: %w", ctx.Err())
}

func (r *reconciler) drainStatusNow(with []string, now time.Time) DrainStatus {
	var d DrainStatus
	for _, s := range r.services {
		if s.approved.Verdict() != law.Serve {
			continue
		}
		if reason := r.stays(s, with); reason != "" {
			d.Stays = append(d.Stays, DrainStay{s.spec.Name, reason})
			continue
		}
		if s.elsewhere() || s.spec.Run == nil { // a routed service's callers come to others by their names
			d.Moved++
		} else {
			d.Waiting++
		}
		n := s.countAll()
		d.Instances += n.Warm()
		d.Open += s.busy(now) + len(s.waiters)
	}
	slices.SortFunc(d.Stays, func(a, b DrainStay) int { return cmp.Compare(a.Service, b.Service) })
	d.Done = r.lost && d.Waiting == 0 && d.Instances == 0 && d.Open == 0
	return d
}

// stays says why a service cannot be elsewhere; "" if it can.
func (r *reconciler) stays(s *service, with []string) string {
	allowed := s.approved.Permission().Allowed()
	can := func(region polder.RegionName) bool { return s.spec.Run != nil || len(s.spec.Endpoints[region]) > 0 }
	for _, p := range r.around.agreeing {
		if p.Row.Peer != r.peer && p.Usable && slices.Contains(allowed, p.Row.Region) && can(p.Row.Region) && !slices.Contains(with, p.Row.Peer) {
			return ""
		}
	}
	return fmt.Sprintf("it is allowed in %s only, and no other peer there can have it", words(allowed))
}
