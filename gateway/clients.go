package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"github.com/polder/polder"
	"github.com/polder/polder/xds"
	"github.com/polder/polder/xds/load"
	"github.com/polder/polder/xds/server"
)

// clientFarewell is how long a client that is no longer listed stays connected, so
// that it takes in that there is nothing for it any more. gRPC keeps what it has when
// it only loses its control plane.
const clientFarewell = ackDeadline

// clients is everything that the region has for programs that call without an Envoy.
type clients struct {
	server *server.Server
	load   *load.Server
	plane  *clientPlane
	door   atomic.Pointer[door]
	names  atomic.Pointer[[]string]
}

// connectClients prepares for programs that call without an Envoy, if the region
// listens for them.
func (r *Region) connectClients() error {
	if r.listen.Clients == "" {
		return nil
	}
	bind, err := bindAddress(r.listen.Clients)
	if err != nil || bind.Addr().IsUnspecified() {
		return fmt.Errorf("region %s: listen.clients is %q: write an address that the clients connect to, such as 10.0.0.1:7445", r.options.Region, r.listen.Clients)
	}
	if r.nodes == nil {
		return fmt.Errorf("region %s: listen.clients is %s, and there is no control plane for clients: write listen.xds beside it", r.options.Region, r.listen.Clients)
	}
	c := new(clients)
	c.server = server.New(server.Options{Log: r.options.Log, Sees: func(name string, _ xds.Key) bool { return c.listed(name) }})
	c.load = load.NewClients(loadInterval, func(reports []load.Report) { r.reconciler.LoadReported(r.context(), reports) })
	c.plane = newClientPlane(r.reconciler.gate.site, bind, c.list)
	c.plane.publisher = c.server
	r.reconciler.gate.clients, r.reconciler.settled = c.plane, c.load.Settle
	r.clients = c
	return nil
}

// listed tells whether the configuration in force has a client of that name.
func (c *clients) listed(name string) bool {
	names := c.names.Load()
	return names != nil && slices.Contains(*names, name)
}

// list brings another list of clients into force. Whoever is no longer in it is told
// that there is nothing, and then cut off.
func (c *clients) list(names []string) {
	before := c.names.Swap(&names)
	if before == nil {
		return
	}
	gone := slices.DeleteFunc(slices.Clone(*before), c.listed)
	for _, name := range gone {
		c.server.Review(name)
	}
	if d := c.door.Load(); d != nil && len(gone) > 0 {
		d.sweep()
	}
}

// openClients listens for programs that call without an Envoy: for the activator at
// listen.clients, and for a control plane of their own behind the door for nodes at
// control. It gives the door for that, and what to run; nil without any.
func (r *Region) openClients(control net.Addr) (*door, []func(context.Context) error, error) {
	c := r.clients
	if c == nil {
		return nil, nil, nil
	}
	listener, err := net.Listen("tcp", r.listen.Clients)
	if err != nil {
		return nil, nil, fmt.Errorf("region %s: activator for clients: %w; set listen.clients to a free address of this machine", r.options.Region, err)
	}
	d := newDoor(r.options.Log, r.options.Region, r.keys, clientGuests, c.listed, r.nodes.refusals, control)
	d.calls, d.farewell = true, clientFarewell
	c.door.Store(d)
	services := func(to grpc.ServiceRegistrar) { c.server.Register(to); c.load.Register(to) }
	return d, []func(context.Context) error{
		func(ctx context.Context) error { return d.run(ctx, listener) },
		func(ctx context.Context) error { return r.serveControl(ctx, d.control, services, d.guard()...) },
		func(ctx context.Context) error {
			return r.activator.ServeHosts(ctx, d.activator, c.plane.hosts.service)
		},
	}, nil
}

// allClients lists every client of the region, also those that are not connected. One
// that runs in several copies is there several times.
func (r *Region) allClients() []server.NodeStatus {
	if r.clients == nil {
		return nil
	}
	all := r.clients.server.Nodes()
	connected := map[string]bool{}
	for i, n := range all {
		all[i].Client, connected[n.Node] = true, true
	}
	if names := r.clients.names.Load(); names != nil {
		for _, name := range *names {
			if !connected[name] {
				all = append(all, server.NodeStatus{Node: name, Client: true})
			}
		}
	}
	return all
}

// reported returns when it is known what clients have in progress, or after
// reportDeadline: what they sent straight to an instance is told by their load
// reports only.
func (r *reconciler) reported() {
	if r.settled == nil {
		return
	}
	ctx, cancel := context.WithTimeout(r.ctx, reportDeadline)
	defer cancel()
	if err := r.settled(ctx); err != nil && r.ctx.Err() == nil && !errors.Is(err, context.Canceled) {
		r.log.Warn("going on without a load report", "reason", err)
	}
}

// expectClients counts a service whose instance was adopted as in use for silentAfter,
// if clients may have been told of it: they call it straight and connect to Polder
// again when they like, and until then nobody knows what they have in progress there.
func (r *reconciler) expectClients(s *service, now time.Time) {
	if r.gate.clients != nil && s.spec.Protocol == polder.HTTP2 {
		s.inProgress["clients of an earlier Polder"] = progress{requests: 1, at: now}
	}
}

// reportDeadline bounds the wait for clients' load reports.
const reportDeadline = 5*loadInterval + time.Second
