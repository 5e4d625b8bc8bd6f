package xds

import (
	"net/netip"

	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpoint "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	aggregate "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/aggregate/v3"
	router "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcm "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tls "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	matcher "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/polder/polder"
	"github.com/polder/polder/regions/law"
)

// Clients describes the programs that call a region's services without an Envoy:
// gRPC clients that resolve xds:///HOST by themselves ("proxyless"). What gRPC
// takes of xDS is less than what Envoy does, so these have resources of their own:
//
//	listener HOST (an API listener: nobody listens) -> routes client/HOST
//	-> cluster client/SERVICE, made of two, the second for when the first has nobody:
//	     client-instances/SERVICE    the instances, in clear
//	     client-activator/SERVICE    the region's activator, inside mTLS
//
// One cluster with two priorities would be shorter, but gRPC has one transport for
// a cluster (it rejects transport_socket_matches), and the activator demands mTLS.
type Clients struct {
	Region      polder.RegionName
	Activator   netip.AddrPort // for clients, of the region's Polder
	TrustDomain string
}

// Loopback tells whether the clients run on Polder's machine, so that they reach
// instances which listen on loopback: elsewhere they could not reach this activator.
func (c Clients) Loopback() bool { return c.Activator.Addr().IsLoopback() }

// Service gives what clients get of one service: nothing, unless this region
// serves it. Behind a gateway gRPC may be spoken to any service; without one the
// instance itself must speak HTTP/2. A wildcard host is no name that a client could
// resolve.
func (c Clients) Service(a law.Approved) []Resource {
	s := a.Service()
	if a.Verdict() != law.Serve || s.Protocol != polder.HTTP2 {
		return nil
	}
	resources := []Resource{
		newResource(TypeCluster, clientCluster(s.Name), clientChoice(s.Name)),
		newResource(TypeCluster, clientInstances(s.Name), clientLeaf(clientInstances(s.Name), clientInstances(s.Name))),
		newResource(TypeCluster, clientActivator(s.Name), c.activatorLeaf(s.Name)),
		c.Endpoints(a),
	}
	for _, host := range plain(s.Hosts) {
		if !isWildcard(host) {
			resources = append(resources,
				newResource(TypeListener, host, clientListener(host)),
				newResource(TypeRoute, clientRoutes(host), clientRoute(host, s.Name)))
		}
	}
	return resources
}

// Endpoints gives where a service's instances are for clients: the fast path when
// one comes or goes.
func (c Clients) Endpoints(a law.Approved) Resource {
	name := clientInstances(a.Service().Name)
	var instances []*endpoint.LbEndpoint
	for _, address := range a.Endpoints() {
		if c.Loopback() || !address.Addr().IsLoopback() {
			instances = append(instances, lbEndpoint(socketAddress(address)))
		}
	}
	return newResource(TypeEndpoint, name, c.places(name, "instances", instances))
}

// Node gives what clients get once: where the activator is.
func (c Clients) Node() []Resource {
	return []Resource{newResource(TypeEndpoint, endpointsClientActivator,
		c.places(endpointsClientActivator, "activator", []*endpoint.LbEndpoint{lbEndpoint(socketAddress(c.Activator))}))}
}

// places is a load assignment of one locality, or of none without endpoints. gRPC
// leaves localities without a weight out.
func (c Clients) places(name, zone string, list []*endpoint.LbEndpoint) *endpoint.ClusterLoadAssignment {
	a := &endpoint.ClusterLoadAssignment{ClusterName: name}
	if len(list) > 0 {
		a.Endpoints = []*endpoint.LocalityLbEndpoints{{
			Locality:            &core.Locality{Region: string(c.Region), Zone: zone},
			LoadBalancingWeight: wrapperspb.UInt32(1), LbEndpoints: list,
		}}
	}
	return a
}

// clientListener is what a client looks for first: the name that it resolves.
func clientListener(host string) *listener.Listener {
	return &listener.Listener{Name: host, ApiListener: &listener.ApiListener{ApiListener: packed(&hcm.HttpConnectionManager{
		StatPrefix:     "clients",
		RouteSpecifier: routes(clientRoutes(host)),
		HttpFilters: []*hcm.HttpFilter{{Name: "envoy.filters.http.router",
			ConfigType: &hcm.HttpFilter_TypedConfig{TypedConfig: packed(&router.Router{})}}},
	})}}
}

// clientRoute leads every call for a host to its service. The client's own
// deadline bounds it: gRPC has one for each call, and Envoy's timeouts mean nothing
// to it.
func clientRoute(host string, s polder.ServiceName) *route.RouteConfiguration {
	return &route.RouteConfiguration{Name: clientRoutes(host), VirtualHosts: []*route.VirtualHost{{
		Name: string(s), Domains: []string{host},
		Routes: []*route.Route{{
			Name:   string(s),
			Match:  &route.RouteMatch{PathSpecifier: &route.RouteMatch_Prefix{Prefix: ""}},
			Action: &route.Route_Route{Route: &route.RouteAction{ClusterSpecifier: &route.RouteAction_Cluster{Cluster: clientCluster(s)}}},
		}},
	}}}
}

// clientChoice prefers the instances. It has no policy of its own for balancing:
// gRPC takes that of an aggregate for all that it is made of, and knows no
// CLUSTER_PROVIDED.
func clientChoice(s polder.ServiceName) *cluster.Cluster {
	return &cluster.Cluster{
		Name:           clientCluster(s),
		CommonLbConfig: noPanic(),
		ClusterDiscoveryType: &cluster.Cluster_ClusterType{ClusterType: &cluster.Cluster_CustomClusterType{
			Name:        "envoy.clusters.aggregate",
			TypedConfig: packed(&aggregate.ClusterConfig{Clusters: []string{clientInstances(s), clientActivator(s)}}),
		}},
	}
}

// clientLeaf is a cluster with discovered endpoints. Clients report their load on
// it to Polder: an instance in use would look idle otherwise, and be stopped.
func clientLeaf(name, assignment string) *cluster.Cluster {
	return &cluster.Cluster{
		Name:                 name,
		ClusterDiscoveryType: &cluster.Cluster_Type{Type: cluster.Cluster_EDS},
		EdsClusterConfig:     &cluster.Cluster_EdsClusterConfig{EdsConfig: ads(), ServiceName: assignment},
		CommonLbConfig:       noPanic(),
		CircuitBreakers:      breakers(), // gRPC's own bound is 1,024 calls at a time
		LrsServer:            &core.ConfigSource{ResourceApiVersion: core.ApiVersion_V3, ConfigSourceSpecifier: &core.ConfigSource_Self{Self: &core.SelfConfigSource{}}},
	}
}

func (c Clients) activatorLeaf(s polder.ServiceName) *cluster.Cluster {
	leaf := clientLeaf(clientActivator(s), endpointsClientActivator)
	leaf.TransportSocket = transportSocket("envoy.transport_sockets.tls", &tls.UpstreamTlsContext{CommonTlsContext: c.activatorTLS()})
	return leaf
}

// activatorTLS speaks to the region's Polder, which proves itself as a peer of the
// region. Certificates are the client's own files: gRPC takes none over discovery.
// Of the two ways to name the peer it understands the deprecated one only.
func (c Clients) activatorTLS() *tls.CommonTlsContext {
	own := func() *tls.CertificateProviderPluginInstance {
		return &tls.CertificateProviderPluginInstance{InstanceName: ClientCredentials}
	}
	return &tls.CommonTlsContext{
		TlsCertificateProviderInstance: own(),
		ValidationContextType: &tls.CommonTlsContext_ValidationContext{ValidationContext: &tls.CertificateValidationContext{
			CaCertificateProviderInstance: own(),
			//lint:ignore SA1019 gRPC reads no other field for it
			MatchSubjectAltNames: []*matcher.StringMatcher{{
				MatchPattern: &matcher.StringMatcher_Prefix{Prefix: regionIdentity(c.TrustDomain, c.Region) + "peer/"}}},
		}},
	}
}
