package load

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/polder/polder/xds"
)

// NewClients makes a Server for programs that call without an Envoy. It differs from
// one for Envoys in two things. Several copies of a program call themselves the same
// and have a stream each, so that Report.Node names the stream as well. And what
// they report of one service comes as two reports, of its instances and of the
// activator, from clusters with names of their own.
func NewClients(interval time.Duration, receive func([]Report)) *Server {
	s := New(interval, receive)
	s.clients = true
	return s
}

// identify gives what a report is, by the name of the cluster that it is of.
func (s *Server) identify(cluster string, w *watched) (r Report, activator, ok bool) {
	if !s.clients {
		r.Node = w.node
		r.Service, ok = xds.ClusterService(cluster)
		return r, false, ok
	}
	r.Service, activator, ok = xds.ClientService(cluster)
	where := "instances"
	if activator {
		where = "activator"
	}
	r.Node = fmt.Sprintf("client %s #%d, %s", w.node, w.number, where)
	return r, activator, ok
}

// Settle returns once every stream that is open now has reported twice, or has
// ended: then what was in progress when Settle began is known. One report would not
// do, because it may have been on its way. It returns the context's error. Whoever was
// waited for until a deadline is not waited for again before it has reported.
func (s *Server) Settle(ctx context.Context) error {
	s.mu.Lock()
	seen := make(map[*watched]uint64, len(s.open))
	for w := range s.open {
		if !w.silent {
			seen[w] = w.reports
		}
	}
	s.mu.Unlock()
	for {
		s.mu.Lock()
		late := ""
		for w := range seen {
			if _, open := s.open[w]; open && w.reports < seen[w]+2 {
				late = w.node
				w.silent = w.silent || errors.Is(ctx.Err(), context.DeadlineExceeded)
			}
		}
		changed := s.changed
		s.mu.Unlock()
		if late == "" {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("waiting for client %q to report its load: %w", late, ctx.Err())
		}
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
}
