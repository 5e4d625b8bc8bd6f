package proof

import (
	"net"
	"strconv"

	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpoint "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	aggregate "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/aggregate/v3"
	"google.golang.org/protobuf/types/known/structpb"
)

func (r *reader) readCluster(c *cluster.Cluster) *clusterFacts {
	f := &clusterFacts{socket: r.readUpstream(c.TransportSocket)}
	r.readLabelled(c, f)
	if c.LrsServer != nil && c.LrsServer.GetSelf() == nil {
		r.fault(fault{path: []string{at("field", "lrs_server")}, address: "a load report service", reason: "reports load to another place than whoever sent this"})
	}
	if threshold := c.GetCommonLbConfig().GetHealthyPanicThreshold(); threshold == nil || threshold.Value != 0 {
		r.fault(fault{path: []string{at("field", "common_lb_config.healthy_panic_threshold")}, address: "endpoints that are out",
			reason: "panic routing is on: when many endpoints are out, requests go to all of them"})
	}
	switch c.ClusterDiscoveryType.(type) {
	case *cluster.Cluster_Type:
		r.readDiscovery(c, f)
	case *cluster.Cluster_ClusterType:
		config, ok := r.unpack(c.GetClusterType().GetTypedConfig()).(*aggregate.ClusterConfig)
		if !ok {
			break // the walk has said so
		}
		f.members, f.understood = config.Clusters, true
		if c.LoadAssignment != nil || c.EdsClusterConfig != nil {
			r.fault(fault{path: []string{at("field", "cluster_type")}, reason: "is made of clusters and has endpoints too"})
		}
	default:
		// Without a type a cluster is static.
		r.readDiscovery(c, f)
	}
	return f
}

func (r *reader) readDiscovery(c *cluster.Cluster, f *clusterFacts) {
	switch c.GetType() {
	case cluster.Cluster_EDS:
		f.eds, f.understood = c.GetEdsClusterConfig().GetServiceName(), true
		if f.eds == "" {
			f.eds = c.Name
		}
		if c.GetEdsClusterConfig().GetEdsConfig().GetAds() == nil {
			r.fault(fault{path: []string{at("field", "eds_cluster_config")}, address: unknown, reason: "takes endpoints from where nobody proved them"})
		}
		if c.LoadAssignment != nil {
			r.fault(fault{path: []string{at("field", "load_assignment")}, reason: "has discovered endpoints and others too"})
		}
	case cluster.Cluster_STATIC, cluster.Cluster_STRICT_DNS:
		f.understood = true
		f.places = r.readPlaces(c.LoadAssignment)
		if c.EdsClusterConfig != nil {
			r.fault(fault{path: []string{at("field", "eds_cluster_config")}, reason: "has discovered endpoints and others too"})
		}
	default:
		r.fault(fault{path: []string{at("type", c.GetType().String())}, address: anywhere, reason: "lets the request, or a name server, choose where it is sent"})
	}
}

func (r *reader) readAssignment(a *endpoint.ClusterLoadAssignment) *assignmentFacts {
	return &assignmentFacts{places: r.readPlaces(a)}
}

func (r *reader) readPlaces(a *endpoint.ClusterLoadAssignment) []place {
	var places []place
	for _, locality := range a.GetEndpoints() {
		for _, e := range locality.LbEndpoints {
			p := readAddress(e.GetEndpoint().GetAddress())
			p.path, p.label = at("endpoint", p.address), r.readLabel(e.Metadata)
			if e.GetEndpoint().GetAddress().GetSocketAddress().GetProtocol() != core.SocketAddress_TCP {
				r.fault(fault{path: []string{p.path, "socket_address", "protocol"}, address: "datagrams", reason: "uses another transport than TCP"})
			}
			if p.address == "" {
				r.fault(fault{path: []string{p.path}, reason: "is an endpoint without an address that can be read"})
				continue
			}
			places = append(places, p)
		}
	}
	return places
}

// labels is where an endpoint's metadata chooses its transport socket.
const labels = "envoy.transport_socket_match"

// readLabelled reads the transport sockets that endpoints can choose, each by
// one label.
func (r *reader) readLabelled(c *cluster.Cluster, f *clusterFacts) {
	for _, m := range c.TransportSocketMatches {
		label, ok := labelOf(m.Match)
		if _, twice := f.labelled[label]; !ok || twice {
			r.fault(fault{path: []string{at("transport_socket_matches", m.Name)}, address: unknown, strings: []string{m.Name}, reason: "chooses the transport by rules that the proof does not follow"})
			continue
		}
		if f.labelled == nil {
			f.labelled = map[string]socket{}
		}
		f.labelled[label] = r.readUpstream(m.TransportSocket)
	}
}

// readLabel reads the label of an endpoint; "" if it has none.
func (r *reader) readLabel(m *core.Metadata) string {
	if m == nil {
		return ""
	}
	label, ok := labelOf(m.FilterMetadata[labels])
	if !ok || len(m.FilterMetadata) != 1 {
		r.fault(fault{path: []string{"metadata"}, address: unknown, reason: "can change the transport in a way that the proof does not follow"})
	}
	return label
}

// labelOf reads a set of one label, which is true.
func labelOf(s *structpb.Struct) (string, bool) {
	for label, value := range s.GetFields() {
		return label, len(s.Fields) == 1 && label != "" && value.GetBoolValue()
	}
	return "", false
}

// readAddress gives the address of an endpoint or listener, "" if there is none.
func readAddress(a *core.Address) place {
	switch a := a.GetAddress().(type) {
	case *core.Address_SocketAddress:
		return place{address: socketAddress(a.SocketAddress)}
	case *core.Address_Pipe:
		return place{address: a.Pipe.GetPath(), pipe: true}
	case *core.Address_EnvoyInternalAddress:
		return place{address: a.EnvoyInternalAddress.GetServerListenerName(), internal: true}
	}
	return place{}
}

// socketAddress writes host:port; "" if it has no number of a port.
func socketAddress(a *core.SocketAddress) string {
	port, ok := a.GetPortSpecifier().(*core.SocketAddress_PortValue)
	if !ok || a.Address == "" {
		return ""
	}
	return canonicalText(net.JoinHostPort(a.Address, strconv.FormatUint(uint64(port.PortValue), 10)))
}
