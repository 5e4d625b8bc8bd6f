package convergence

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"google.golang.org/grpc"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway/authority"
	"github.com/polder/polder/regions/law"
	"github.com/polder/polder/xds"
	"github.com/polder/polder/xds/server"
)

// shape is one way to keep an Envoy configured. Its methods are called by one
// goroutine.
type shape interface {
	name() string
	encrypted() bool // callers speak TLS
	register(*grpc.Server)
	put(...polder.Service) error // these services are new, or changed in what else than endpoints
	putEndpoints(polder.Service) error
	settled(context.Context) error // until everything that was put is acknowledged
}

// polderShape is the production code.
type polderShape struct {
	gateway   xds.Gateway
	node      xds.NodeConfig
	server    *server.Server
	hosts     xds.Hosts
	homes     map[polder.ServiceName]law.Home
	published map[polder.ServiceName][]xds.Key
	changed   []xds.Key // by the last put
}

func newPolderShape(g xds.Gateway, entrypoint netip.AddrPort, other [2]netip.AddrPort, pair authority.Pair) *polderShape {
	return &polderShape{
		gateway: g,
		node: xds.NodeConfig{Region: region, HTTPS: entrypoint, HTTP: other[0], Peer: other[1], TrustDomain: "bench.polder",
			PeerOf: map[polder.RegionName][]string{elsewhere: {"127.0.0.1:7443"}}, PeerAt: map[string]string{peer: "127.0.0.1:7443"}},
		server: server.New(server.Options{
			Log: slog.New(slog.DiscardHandler),
			Secret: func(name string) (xds.Resource, bool) {
				return xds.Certificate(name, pair.CertPEM, pair.KeyPEM), name != xds.SecretIdentity && name != xds.SecretTrust
			},
		}),
		homes:     map[polder.ServiceName]law.Home{},
		published: map[polder.ServiceName][]xds.Key{},
	}
}

func (p *polderShape) name() string             { return "polder" }
func (p *polderShape) encrypted() bool          { return true }
func (p *polderShape) register(to *grpc.Server) { p.server.Register(to) }

func (p *polderShape) put(services ...polder.Service) error {
	var set []xds.Resource
	var remove []xds.Key
	for _, s := range services {
		a := judge(s, p.homes[s.Name])
		resources := xds.Service(a, p.gateway)
		keys := make([]xds.Key, len(resources))
		for i, r := range resources {
			keys[i] = r.Key
		}
		for _, key := range p.published[s.Name] {
			if !slices.Contains(keys, key) {
				remove = append(remove, key)
			}
		}
		p.published[s.Name] = keys
		p.hosts.Put(a)
		set = append(set, resources...)
	}
	p.apply(set, remove, false)
	return nil
}

// remove removes a service.
func (p *polderShape) remove(name polder.ServiceName) error {
	p.hosts.Remove(name)
	p.apply(nil, p.published[name], false)
	delete(p.published, name)
	return nil
}

// apply publishes a change of services with what the node says of their hosts, or with
// the table of all hosts.
func (p *polderShape) apply(set []xds.Resource, remove []xds.Key, table bool) {
	// What one service no longer has, another may have now.
	remove = slices.DeleteFunc(remove, func(key xds.Key) bool {
		return slices.ContainsFunc(set, func(r xds.Resource) bool { return r.Key == key })
	})
	now := time.Now()
	if table || p.hosts.Changed() {
		p.node.Now = now
		set = append(set, p.hosts.Node(p.node)...)
	}
	led, gone := p.hosts.ByName(now)
	set, remove = append(set, led...), append(remove, gone...)
	p.server.Apply(set, remove)
	p.changed = p.changed[:0]
	for _, r := range set {
		p.changed = append(p.changed, r.Key)
	}
	p.changed = append(p.changed, remove...)
}

func (p *polderShape) putEndpoints(s polder.Service) error {
	a := judge(s, p.homes[s.Name])
	if a.Verdict() == law.Serve {
		r := xds.Endpoints(a, p.gateway)
		p.server.Apply([]xds.Resource{r}, nil)
		p.changed = append(p.changed[:0], r.Key)
	}
	return nil
}

func (p *polderShape) settled(ctx context.Context) error { return p.server.Wait(ctx, p.changed...) }
