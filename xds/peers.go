package xds

import (
	"net"
	"slices"
	"strconv"
	"time"

	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpoint "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	aggregate "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/aggregate/v3"
	tcpproxy "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	internalupstream "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/internal_upstream/v3"
	proxyprotocol "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/proxy_protocol/v3"
	rawbuffer "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/raw_buffer/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/polder/polder"
)

// The way of a connection that is passed on, from this region's gateway to one
// that may open it:
//
//	entrypoint chain pass/R -> cluster wrap/pass/R (writes the PROXY header)
//	-> internal listener pass/R -> cluster pass/R (mTLS) -> ... the other region:
//	listener peers (mTLS) -> cluster inward -> internal listener inward
//	(reads the PROXY header, then the SNI) -> chain serve
//
// The internal listener between the two clusters puts the PROXY header inside
// mTLS. Nesting the transport sockets the other way round would send it in clear.

const (
	// passIdle ends a passed connection on which nothing moves for so long.
	passIdle = time.Hour
	// passConnectBase and four round trips bound connecting to another peer once, which
	// takes two; passConnectMost is the limit, and holds while no round trip is
	// measured. Whoever calls while it has not been noticed that a peer is lost waits so
	// long, and is sent to the next one.
	passConnectBase = 300 * time.Millisecond
	passConnectMost = time.Second
	// passEjection is how long a lost peer is left out at most. Where it is the last
	// one that may serve, callers get nowhere for so long after it has come back.
	passEjection = time.Second
	// passAttempts bounds the tries; the next one may choose another peer or region.
	// A lost peer is ejected after two, and a lost region may have several. The first
	// connection that a peer does not take fails all that wait for one to it, so that
	// a caller's tries are used up by others as well. With their pauses they take ten
	// seconds and more where nobody answers.
	passAttempts = 24
	// passPause and passLongestPause bound the wait before another try, which doubles,
	// less what chance takes off. Without it all tries end at once, before a peer that
	// takes no connection is ejected.
	passPause        = 100 * time.Millisecond
	passLongestPause = 400 * time.Millisecond
)

func wrapName(pass string) string { return "wrap/" + pass }

func passChain(p pass) *listener.FilterChain {
	return &listener.FilterChain{Name: p.name, Filters: []*listener.Filter{tcpProxy(p.name, wrapName(p.name))}}
}

// passResources are a way out without the chain that leads the entrypoint's callers to it.
func passResources(p pass, n NodeConfig) []Resource {
	return []Resource{
		newResource(TypeListener, p.name, passListener(p)),
		newResource(TypeCluster, wrapName(p.name), wrapCluster(wrapName(p.name), p.name)),
		newResource(TypeCluster, p.name, peerCluster(p, n)),
	}
}

func passListener(p pass) *listener.Listener {
	return internalListener(p.name, &listener.FilterChain{Name: p.name, Filters: []*listener.Filter{tcpProxy(p.name+"/out", p.name)}})
}

func peerListener(n NodeConfig) *listener.Listener {
	l := tcpListener(listenerPeers, n.Peer)
	l.FilterChains = []*listener.FilterChain{{
		Name:                          "peers",
		TransportSocket:               peerServerTLS(n.TrustDomain),
		TransportSocketConnectTimeout: durationpb.New(handshakeTimeout),
		Filters:                       []*listener.Filter{tcpProxy("peers", clusterInward)},
	}}
	return l
}

func tcpProxy(stat, to string) *listener.Filter {
	return networkFilter("envoy.filters.network.tcp_proxy", &tcpproxy.TcpProxy{
		StatPrefix:         stat,
		ClusterSpecifier:   &tcpproxy.TcpProxy_Cluster{Cluster: to},
		IdleTimeout:        durationpb.New(passIdle),
		MaxConnectAttempts: wrapperspb.UInt32(passAttempts),
		BackoffOptions:     &core.BackoffStrategy{BaseInterval: durationpb.New(passPause), MaxInterval: durationpb.New(passLongestPause)},
	})
}

// wrapCluster leads to an internal listener and writes the caller's address in
// front of its bytes.
func wrapCluster(name, to string) *cluster.Cluster {
	c := internalCluster(name, to)
	c.TransportSocket = transportSocket("envoy.transport_sockets.upstream_proxy_protocol", &proxyprotocol.ProxyProtocolUpstreamTransport{
		Config:          &core.ProxyProtocolConfig{Version: core.ProxyProtocolConfig_V2},
		TransportSocket: c.TransportSocket,
	})
	return c
}

// byNameCluster leads the connections for one host where those of many go: it is made
// of the cluster that wraps for an internal listener, and has nothing of its own.
func byNameCluster(host, to string) *cluster.Cluster {
	return &cluster.Cluster{
		Name: byName(host),
		ClusterDiscoveryType: &cluster.Cluster_ClusterType{ClusterType: &cluster.Cluster_CustomClusterType{
			Name: "aggregate", TypedConfig: packed(&aggregate.ClusterConfig{Clusters: []string{wrapName(to)}})}},
		LbPolicy:       cluster.Cluster_CLUSTER_PROVIDED,
		CommonLbConfig: noPanic(),
	}
}

func internalCluster(name, to string) *cluster.Cluster {
	return &cluster.Cluster{
		Name:                          name,
		ClusterDiscoveryType:          &cluster.Cluster_Type{Type: cluster.Cluster_STATIC},
		ConnectTimeout:                durationpb.New(connectTimeout),
		PerConnectionBufferLimitBytes: wrapperspb.UInt32(bufferLimit),
		CommonLbConfig:                noPanic(),
		CircuitBreakers:               connectionBreakers(),
		LoadAssignment: &endpoint.ClusterLoadAssignment{ClusterName: name, Endpoints: []*endpoint.LocalityLbEndpoints{{
			LbEndpoints: []*endpoint.LbEndpoint{lbEndpoint(internalAddress(to))}}}},
		TransportSocket: transportSocket("envoy.transport_sockets.internal_upstream", &internalupstream.InternalUpstreamTransport{
			TransportSocket: transportSocket("envoy.transport_sockets.raw_buffer", &rawbuffer.RawBuffer{})}),
	}
}

// connectionBreakers bound passed connections as the entrypoint bounds its own.
func connectionBreakers() *cluster.CircuitBreakers {
	return &cluster.CircuitBreakers{Thresholds: []*cluster.CircuitBreakers_Thresholds{{
		MaxConnections:     wrapperspb.UInt32(maxConnections),
		MaxPendingRequests: wrapperspb.UInt32(maxConnections),
	}}}
}

// peerCluster leads to the home, if there is one, and to the peers of the target
// regions, one priority each, in order of preference, without gaps. A peer proves
// its region by its certificate.
func peerCluster(p pass, n NodeConfig) *cluster.Cluster {
	c := &cluster.Cluster{
		Name:                          p.name,
		ClusterDiscoveryType:          &cluster.Cluster_Type{Type: cluster.Cluster_STRICT_DNS},
		ConnectTimeout:                durationpb.New(connectWithin(p.targets, n.RTT)),
		PerConnectionBufferLimitBytes: wrapperspb.UInt32(bufferLimit),
		CommonLbConfig:                noPanic(),
		CircuitBreakers:               connectionBreakers(),
		DnsLookupFamily:               cluster.Cluster_ALL,
		TransportSocket:               peerClientTLS(n.TrustDomain, p.targets),
		LoadAssignment:                &endpoint.ClusterLoadAssignment{ClusterName: p.name},
	}
	tier := func(region polder.RegionName, addresses []string) {
		c.LoadAssignment.Endpoints = append(c.LoadAssignment.Endpoints, &endpoint.LocalityLbEndpoints{
			Locality:    &core.Locality{Region: string(region)},
			Priority:    uint32(len(c.LoadAssignment.Endpoints)),
			LbEndpoints: peerEndpoints(addresses, n.WeightOf),
		})
	}
	home := n.PeerAt[p.home]
	if home != "" {
		tier(p.targets[0], []string{home})
	}
	for _, region := range p.targets {
		others := slices.DeleteFunc(slices.Clone(n.PeerOf[region]), func(a string) bool { return a == home })
		if home == "" || len(others) > 0 {
			tier(region, others)
		}
	}
	c.OutlierDetection = connectEjection(passEjection, allButOne(c.LoadAssignment))
	return c
}

// allButOne is the share of a cluster's endpoints, in percent, that leaves one. Where
// all are ejected, Envoy closes a caller's connection at once instead of trying again.
func allButOne(a *endpoint.ClusterLoadAssignment) uint32 {
	n := uint32(0)
	for _, tier := range a.Endpoints {
		n += uint32(len(tier.LbEndpoints))
	}
	return 100 * (max(n, 1) - 1) / max(n, 1)
}

// connectWithin is how long connecting to a peer of any of the regions may take.
func connectWithin(targets []polder.RegionName, rtt map[polder.RegionName]time.Duration) time.Duration {
	farthest := time.Duration(0)
	for _, region := range targets {
		d, measured := rtt[region]
		if !measured {
			return passConnectMost
		}
		farthest = max(farthest, d)
	}
	return min(passConnectBase+4*farthest, passConnectMost)
}

// peerEndpoints skips what is not host:port; the membership checks rows on arrival.
func peerEndpoints(addresses []string, weights map[string]uint32) []*endpoint.LbEndpoint {
	var peers []*endpoint.LbEndpoint
	for _, address := range addresses {
		host, port, err := net.SplitHostPort(address)
		if err != nil {
			continue
		}
		if number, err := strconv.ParseUint(port, 10, 16); err == nil {
			peer := lbEndpoint(hostAddress(host, uint16(number)))
			if w := weights[address]; w > 0 {
				peer.LoadBalancingWeight = wrapperspb.UInt32(w)
			}
			peers = append(peers, peer)
		}
	}
	return peers
}

func transportSocket(name string, config proto.Message) *core.TransportSocket {
	return &core.TransportSocket{Name: name, ConfigType: &core.TransportSocket_TypedConfig{TypedConfig: packed(config)}}
}
