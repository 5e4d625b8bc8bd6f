package server

import (
	"fmt"

	clusterservice "github.com/envoyproxy/go-control-plane/envoy/service/cluster/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	endpointservice "github.com/envoyproxy/go-control-plane/envoy/service/endpoint/v3"
	listenerservice "github.com/envoyproxy/go-control-plane/envoy/service/listener/v3"
	routeservice "github.com/envoyproxy/go-control-plane/envoy/service/route/v3"
	secretservice "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/polder/polder/xds"
)

// What the streams of all discovery services look like.
type (
	deltaWire = grpc.BidiStreamingServer[discovery.DeltaDiscoveryRequest, discovery.DeltaDiscoveryResponse]
	stateWire = grpc.BidiStreamingServer[discovery.DiscoveryRequest, discovery.DiscoveryResponse]
)

// registerSeparate adds the services of one type each. They give what the
// aggregated one gives, in an order that holds within one type only.
func (s *Server) registerSeparate(to grpc.ServiceRegistrar) {
	listenerservice.RegisterListenerDiscoveryServiceServer(to, listeningService{of: s})
	routeservice.RegisterRouteDiscoveryServiceServer(to, routingService{of: s})
	routeservice.RegisterScopedRoutesDiscoveryServiceServer(to, scopingService{of: s})
	clusterservice.RegisterClusterDiscoveryServiceServer(to, clusteringService{of: s})
	endpointservice.RegisterEndpointDiscoveryServiceServer(to, endpointService{of: s})
	secretservice.RegisterSecretDiscoveryServiceServer(to, secretService{of: s})
}

type listeningService struct {
	listenerservice.UnimplementedListenerDiscoveryServiceServer
	of *Server
}

func (l listeningService) StreamListeners(w stateWire) error {
	return l.of.serveState(xds.TypeListener, w)
}
func (l listeningService) DeltaListeners(w deltaWire) error {
	return l.of.serveDelta(xds.TypeListener, w)
}

type routingService struct {
	routeservice.UnimplementedRouteDiscoveryServiceServer
	of *Server
}

func (r routingService) StreamRoutes(w stateWire) error { return r.of.serveState(xds.TypeRoute, w) }
func (r routingService) DeltaRoutes(w deltaWire) error  { return r.of.serveDelta(xds.TypeRoute, w) }

type scopingService struct {
	routeservice.UnimplementedScopedRoutesDiscoveryServiceServer
	of *Server
}

func (s scopingService) StreamScopedRoutes(w stateWire) error {
	return s.of.serveState(xds.TypeScope, w)
}
func (s scopingService) DeltaScopedRoutes(w deltaWire) error {
	return s.of.serveDelta(xds.TypeScope, w)
}

type clusteringService struct {
	clusterservice.UnimplementedClusterDiscoveryServiceServer
	of *Server
}

func (c clusteringService) StreamClusters(w stateWire) error {
	return c.of.serveState(xds.TypeCluster, w)
}
func (c clusteringService) DeltaClusters(w deltaWire) error {
	return c.of.serveDelta(xds.TypeCluster, w)
}

type endpointService struct {
	endpointservice.UnimplementedEndpointDiscoveryServiceServer
	of *Server
}

func (e endpointService) StreamEndpoints(w stateWire) error {
	return e.of.serveState(xds.TypeEndpoint, w)
}
func (e endpointService) DeltaEndpoints(w deltaWire) error {
	return e.of.serveDelta(xds.TypeEndpoint, w)
}

type secretService struct {
	secretservice.UnimplementedSecretDiscoveryServiceServer
	of *Server
}

func (s secretService) StreamSecrets(w stateWire) error { return s.of.serveState(xds.TypeSecret, w) }
func (s secretService) DeltaSecrets(w deltaWire) error  { return s.of.serveDelta(xds.TypeSecret, w) }

// typeOf tells of what type a request is. On a stream of one type it may leave
// that out, and must not name another.
func (st *stream) typeOf(asked string) (string, error) {
	if st.only == "" || asked == st.only {
		return asked, nil
	}
	if asked == "" {
		return st.only, nil
	}
	return "", status.Error(codes.InvalidArgument,
		fmt.Sprintf("this stream is of the type %s; ask for %s on a stream of its own service, or on the aggregated one", st.only, asked))
}

// resendEndpoints has the node's streams of endpoints alone send those of a
// cluster that the node was just sent. Called with mu held.
func (s *Server) resendEndpoints(node, cluster string) {
	for st := range s.streams {
		if st.node != node || st.only != xds.TypeEndpoint {
			continue
		}
		if sub := st.subscription(xds.TypeEndpoint); sub.asked && sub.wants(cluster) {
			delete(sub.sent, cluster)
			st.mark(xds.Key{Type: xds.TypeEndpoint, Name: cluster})
		}
	}
}
