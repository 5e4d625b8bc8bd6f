package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"

	"github.com/polder/polder/gateway/authority"
	"github.com/polder/polder/xds"
	"github.com/polder/polder/xds/server"
)

// nodes is everything that the region has for its Envoys on other machines.
type nodes struct {
	server   *server.Server
	plane    *remotePlane
	refusals *refusals
	door     atomic.Pointer[door]
	view     atomic.Pointer[xds.Remote]
	archive  *server.Archive
}

// connectNodes prepares for Envoys on other machines, if the region has any.
func (r *Region) connectNodes() error {
	if r.listen.XDS == "" {
		return nil
	}
	bind, err := bindAddress(r.listen.XDS)
	if err != nil || bind.Addr().IsUnspecified() {
		return fmt.Errorf("region %s: listen.xds is %q: write an address that the other machines connect to, such as 10.0.0.1:7444", r.options.Region, r.listen.XDS)
	}
	archive, err := server.OpenArchive(r.layout.AcceptedRemote(), r.options.Log)
	if err != nil {
		return fmt.Errorf("region %s: %w", r.options.Region, err)
	}
	n := &nodes{archive: archive, refusals: &refusals{log: r.options.Log, journal: r.journal}}
	n.server = server.New(server.Options{Log: r.options.Log, SecretOf: r.nodeSecret, Asked: r.heardHello, Sees: n.sees, Archive: archive})
	n.plane = newRemotePlane(r.reconciler.gate.site, bind, func(v xds.Remote) {
		n.view.Store(&v)
		if d := n.door.Load(); d != nil {
			d.sweep()
		}
	})
	n.plane.publisher = n.server
	r.reconciler.gate.remote = n.plane
	r.nodes = n
	return nil
}

func (n *nodes) sees(node string, key xds.Key) bool {
	view := n.view.Load()
	return view != nil && view.Sees(node, key)
}

// listed tells whether the view in force has a node of that name. What was not
// proved for it is not given to it either.
func (n *nodes) listed(node string) bool {
	if view := n.view.Load(); view != nil {
		for _, known := range view.Nodes {
			if known.Name == node {
				return true
			}
		}
	}
	return false
}

// nodeSecret gives a remote Envoy what the proof lets it have: its own identity
// in place of the peer's.
func (r *Region) nodeSecret(node, name string) (xds.Resource, bool) {
	if name != xds.SecretIdentity {
		return r.secret(node, name)
	}
	if !r.nodes.listed(node) {
		return xds.Resource{}, false
	}
	identity, err := r.issuer.Node(node)
	if err != nil {
		r.options.Log.Error("a node has no identity", "node", node, "reason", err)
		return xds.Resource{}, false
	}
	return xds.Certificate(name, identity.CertPEM, identity.KeyPEM), true
}

// serveNodes lets Envoys on other machines in until ctx ends.
func (r *Region) serveNodes(ctx context.Context) error {
	if r.nodes == nil {
		<-ctx.Done()
		return nil
	}
	listener, err := net.Listen("tcp", r.listen.XDS)
	if err != nil {
		return fmt.Errorf("region %s: control plane for other machines: %w; set listen.xds to a free address of this machine", r.options.Region, err)
	}
	d := newDoor(r.options.Log, r.options.Region, r.keys, nodeGuests, r.nodes.listed, r.nodes.refusals, listener.Addr())
	d.shown = (&doorCertificates{issue: func(name string) (authority.Pair, error) { return r.issuer.Door(r.options.Peer, name) }}).get
	var forClients []func(context.Context) error
	if d.clients, forClients, err = r.openClients(listener.Addr()); err != nil {
		return errors.Join(err, listener.Close())
	}
	r.nodes.door.Store(d)
	group, inner := errgroup.WithContext(ctx)
	group.Go(func() error { return r.nodes.archive.Run(inner) })
	for _, part := range forClients {
		group.Go(func() error { return part(inner) })
	}
	group.Go(func() error { return d.run(inner, listener) })
	group.Go(func() error { return r.serveControl(inner, d.control, r.envoyServices(r.nodes.server), d.guard()...) })
	group.Go(func() error { return r.activator.Serve(inner, d.activator) })
	return group.Wait()
}

// guard makes a gRPC server serve those who came through the door, as who they
// have proved to be.
func (d *door) guard() []grpc.ServerOption {
	who := func(ctx context.Context) (server.Identity, error) {
		p, _ := peer.FromContext(ctx)
		info, ok := p.AuthInfo.(doorInfo)
		if !ok {
			return server.Identity{}, errors.New("it did not come through the door")
		}
		return d.identify(info.State)
	}
	return []grpc.ServerOption{grpc.Creds(doorCredentials{}), grpc.StreamInterceptor(server.Guard(who, d.refusals.claimed))}
}

// doorInfo is what the door knows of a client of the control plane.
type doorInfo struct{ credentials.TLSInfo }

// doorCredentials take over connections whose handshake was done at the door.
type doorCredentials struct{}

func (doorCredentials) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	through, ok := conn.(*doorConn)
	if !ok {
		return nil, nil, errors.New("a connection that did not come through the door")
	}
	return through, doorInfo{credentials.TLSInfo{State: through.tls.ConnectionState(),
		CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity}}}, nil
}

func (doorCredentials) ClientHandshake(context.Context, string, net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("the door has no clients")
}

func (doorCredentials) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "tls"}
}
func (doorCredentials) Clone() credentials.TransportCredentials { return doorCredentials{} }
func (doorCredentials) OverrideServerName(string) error         { return nil }

// servers are the control planes of the local Envoy and of those on other machines.
func (r *Region) servers() []*server.Server {
	if r.nodes == nil {
		return []*server.Server{r.server}
	}
	return []*server.Server{r.server, r.nodes.server}
}

// touchSecrets has every Envoy get its secrets again where they changed.
func (r *Region) touchSecrets() {
	for _, s := range r.servers() {
		s.Touch(s.SecretNames()...)
	}
}

// allNodes lists every Envoy of the region, also those on other machines that
// are not connected, and every client without an Envoy.
func (r *Region) allNodes() (all []server.NodeStatus) {
	all = r.server.Nodes()
	defer func() { traceCauses(r.config.snapshot(), all) }()
	defer func() { all = append(all, r.allClients()...) }()
	if r.nodes == nil {
		return all
	}
	connected := map[string]bool{}
	for _, n := range r.nodes.server.Nodes() {
		n.Remote, connected[n.Node] = true, true
		all = append(all, n)
	}
	if view := r.nodes.view.Load(); view != nil {
		for _, n := range view.Nodes {
			if !connected[n.Name] {
				all = append(all, server.NodeStatus{Node: n.Name, Remote: true})
			}
		}
	}
	return all
}

func (r *Region) refusedNodes() []Refusal {
	if r.nodes == nil {
		return nil
	}
	return r.nodes.refusals.all()
}
