package convergence

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"sync"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	router "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcm "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"github.com/envoyproxy/go-control-plane/pkg/server/delta/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/polder/polder"
	"github.com/polder/polder/regions/law"
	"github.com/polder/polder/xds"
)

// node is the name of every Envoy that is started.
const node = "bench-1"

// usualShape is a SnapshotCache with one RouteConfiguration for all. Its
// clusters, endpoints and virtual hosts are the production ones.
type usualShape struct {
	discovery.UnimplementedAggregatedDiscoveryServiceServer
	gateway xds.Gateway
	cache   cache.SnapshotCache
	server  delta.Server

	version   int
	order     []polder.ServiceName
	clusters  map[polder.ServiceName]types.Resource
	endpoints map[polder.ServiceName]types.Resource
	hosts     map[polder.ServiceName]*route.VirtualHost
	listener  *listener.Listener
	expect    string // type URL of the last answer to a change

	mu       sync.Mutex // guards all below
	sent     map[string]string
	answered map[string]string // version by type URL
	changed  chan struct{}     // closed and replaced at each answer
}

func newUsualShape(ctx context.Context, g xds.Gateway, entrypoint netip.AddrPort) (*usualShape, error) {
	u := &usualShape{
		gateway: g, cache: cache.NewSnapshotCache(true, cache.IDHash{}, nil),
		clusters:  map[polder.ServiceName]types.Resource{},
		endpoints: map[polder.ServiceName]types.Resource{},
		hosts:     map[polder.ServiceName]*route.VirtualHost{},
		sent:      map[string]string{}, answered: map[string]string{}, changed: make(chan struct{}),
	}
	filter, err := anypb.New(&router.Router{})
	if err != nil {
		return nil, err
	}
	manager, err := anypb.New(&hcm.HttpConnectionManager{
		StatPrefix: "usual",
		RouteSpecifier: &hcm.HttpConnectionManager_Rds{Rds: &hcm.Rds{RouteConfigName: "usual", ConfigSource: &core.ConfigSource{
			ResourceApiVersion: core.ApiVersion_V3, ConfigSourceSpecifier: &core.ConfigSource_Ads{Ads: &core.AggregatedConfigSource{}}}}},
		HttpFilters: []*hcm.HttpFilter{{Name: "envoy.filters.http.router", ConfigType: &hcm.HttpFilter_TypedConfig{TypedConfig: filter}}},
	})
	if err != nil {
		return nil, err
	}
	u.listener = &listener.Listener{
		Name: "usual",
		Address: &core.Address{Address: &core.Address_SocketAddress{SocketAddress: &core.SocketAddress{
			Address: entrypoint.Addr().String(), PortSpecifier: &core.SocketAddress_PortValue{PortValue: uint32(entrypoint.Port())}}}},
		FilterChains: []*listener.FilterChain{{Filters: []*listener.Filter{{
			Name: "envoy.filters.network.http_connection_manager", ConfigType: &listener.Filter_TypedConfig{TypedConfig: manager}}}}},
	}
	u.server = delta.NewServer(ctx, u.cache, u)
	return u, nil
}

func (u *usualShape) name() string    { return "usual" }
func (u *usualShape) encrypted() bool { return false }
func (u *usualShape) register(to *grpc.Server) {
	discovery.RegisterAggregatedDiscoveryServiceServer(to, u)
}

// DeltaAggregatedResources serves one Envoy.
func (u *usualShape) DeltaAggregatedResources(s discovery.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	return u.server.DeltaStreamHandler(s, resource.AnyType)
}

// OnDeltaStreamOpen is one of go-control-plane's callbacks.
func (u *usualShape) OnDeltaStreamOpen(context.Context, int64, string) error { return nil }

// OnDeltaStreamClosed is one of go-control-plane's callbacks.
func (u *usualShape) OnDeltaStreamClosed(int64, *core.Node) {}

// OnStreamDeltaResponse takes note of what is sent.
func (u *usualShape) OnStreamDeltaResponse(_ int64, _ *discovery.DeltaDiscoveryRequest, r *discovery.DeltaDiscoveryResponse) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.sent[r.Nonce] = r.SystemVersionInfo
}

// OnStreamDeltaRequest takes note of answers.
func (u *usualShape) OnStreamDeltaRequest(_ int64, r *discovery.DeltaDiscoveryRequest) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	version, ok := u.sent[r.ResponseNonce]
	if !ok || r.ResponseNonce == "" {
		return nil
	}
	delete(u.sent, r.ResponseNonce)
	if r.ErrorDetail != nil {
		return fmt.Errorf("the usual shape was rejected: %s", r.ErrorDetail.Message)
	}
	u.answered[r.TypeUrl] = version
	close(u.changed)
	u.changed = make(chan struct{})
	return nil
}

func (u *usualShape) put(services ...polder.Service) error {
	for _, s := range services {
		if err := u.take(s, xds.TypeCluster, xds.TypeEndpoint, xds.TypeRoute); err != nil {
			return err
		}
	}
	u.expect = xds.TypeRoute
	return u.publish()
}

func (u *usualShape) putEndpoints(s polder.Service) error {
	if err := u.take(s, xds.TypeEndpoint); err != nil {
		return err
	}
	u.expect = xds.TypeEndpoint
	return u.publish()
}

// take keeps these kinds of the service's production resources.
func (u *usualShape) take(s polder.Service, kinds ...string) error {
	if u.clusters[s.Name] == nil {
		u.order = append(u.order, s.Name)
	}
	resources := []xds.Resource{xds.Endpoints(judge(s, law.Home{}), u.gateway)}
	if len(kinds) > 1 {
		resources = xds.Service(judge(s, law.Home{}), u.gateway)
	}
	var all []string
	for _, r := range resources {
		if r.Type == xds.TypeScope {
			continue
		}
		m, err := r.Body.UnmarshalNew()
		if err != nil {
			return err
		}
		switch m := m.(type) {
		case *route.RouteConfiguration:
			all = append(all, m.VirtualHosts[0].Domains...)
			u.hosts[s.Name] = m.VirtualHosts[0]
			u.hosts[s.Name].Domains = all // of the service, in one virtual host
		default:
			if r.Type == xds.TypeCluster {
				u.clusters[s.Name] = m
			} else {
				u.endpoints[s.Name] = m
			}
		}
	}
	return nil
}

// publish makes a snapshot of everything, as its users do.
func (u *usualShape) publish() error {
	u.version++
	routes := &route.RouteConfiguration{Name: "usual"}
	resources := map[string][]types.Resource{xds.TypeListener: {u.listener}, xds.TypeRoute: {routes}}
	for _, name := range u.order {
		resources[xds.TypeCluster] = append(resources[xds.TypeCluster], u.clusters[name])
		resources[xds.TypeEndpoint] = append(resources[xds.TypeEndpoint], u.endpoints[name])
		routes.VirtualHosts = append(routes.VirtualHosts, u.hosts[name])
	}
	snapshot, err := cache.NewSnapshot(strconv.Itoa(u.version), resources)
	if err != nil {
		return err
	}
	return u.cache.SetSnapshot(context.Background(), node, snapshot)
}

func (u *usualShape) settled(ctx context.Context) error {
	for {
		u.mu.Lock()
		done, changed := u.answered[u.expect] == strconv.Itoa(u.version), u.changed
		u.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("waiting for the usual shape's acknowledgement: %w", ctx.Err())
		}
	}
}
