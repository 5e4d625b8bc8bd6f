package xds

import (
	"net"
	"net/netip"
	"slices"
	"strings"

	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpoint "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	tls "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/polder/polder"
)

// ActivatorProtocol is what a remote Envoy says in ALPN when it connects to
// the region's Polder for the activator, and not for the control plane.
const ActivatorProtocol = "polder-activator"

const (
	// matchFilter is where Envoy looks for what chooses an endpoint's transport socket.
	matchFilter = "envoy.transport_socket_match"
	// matchActivator marks the activator's endpoint.
	matchActivator = "activator"
)

// Remote describes the region's Envoys on other machines than its Polder's.
// They get what the local one gets, with three differences: they listen where
// their own machine has addresses, they reach the activator with mTLS, and
// instances that listen on loopback do not exist for them, so that requests for
// these go through the activator. Nobody passes connections on to them.
type Remote struct {
	Region      polder.RegionName
	Activator   netip.AddrPort // of the region's Polder
	TrustDomain string
	Nodes       []RemoteNode
}

// RemoteNode is one of them.
type RemoteNode struct {
	Name        string
	HTTPS, HTTP netip.AddrPort // where it listens on its machine
}

// Names gives the keys that a resource of the local Envoy has for remote ones.
func (r Remote) Names(key Key) []Key {
	switch {
	case key.Type == TypeListener && key.Name == listenerPeers:
		return nil // what leads inward by name stays
	case key.Type == TypeCluster && key.Name == clusterInward:
		return nil
	case key.Type == TypeListener && (key.Name == listenerHTTPS || key.Name == listenerHTTP || key.Name == listenerHTTP3):
		keys := make([]Key, len(r.Nodes))
		for i, n := range r.Nodes {
			keys[i] = Key{key.Type, key.Name + ofNode + n.Name}
		}
		return keys
	}
	return []Key{key}
}

// ofNode stands between a listener's name and its node's.
const ofNode = "@"

// Sees tells whether a resource of remote Envoys is for the node of that name.
func (r Remote) Sees(node string, key Key) bool {
	if key.Type != TypeListener {
		return true
	}
	_, owner, personal := strings.Cut(key.Name, ofNode)
	return !personal || owner == node
}

// Derive gives what remote Envoys get in place of a resource of the local one.
func (r Remote) Derive(of Resource) []Resource {
	keys := r.Names(of.Key)
	switch {
	case len(keys) == 0:
		return nil
	case of.Type == TypeListener && keys[0] != of.Key:
		return r.listeners(of)
	case of.Type == TypeCluster && (strings.HasPrefix(of.Name, servicePrefix) || strings.HasPrefix(of.Name, coldPrefix)):
		c := unpacked[*cluster.Cluster](of)
		if c.LoadAssignment != nil {
			c.LoadAssignment = r.assignment(c.LoadAssignment)
		}
		c.TransportSocketMatches = []*cluster.Cluster_TransportSocketMatch{{
			Name: matchActivator, Match: activatorMark(), TransportSocket: r.activatorTLS()}}
		return []Resource{newResource(of.Type, of.Name, c)}
	case of.Type == TypeEndpoint:
		return []Resource{newResource(of.Type, of.Name, r.assignment(unpacked[*endpoint.ClusterLoadAssignment](of)))}
	}
	return []Resource{of}
}

// listeners makes a node's own of a listener with an address.
func (r Remote) listeners(of Resource) []Resource {
	l := unpacked[*listener.Listener](of)
	withoutLog(l)
	made := make([]Resource, 0, len(r.Nodes))
	for _, n := range r.Nodes {
		bind := n.HTTPS
		if of.Name == listenerHTTP {
			bind = n.HTTP
		}
		protocol := l.GetAddress().GetSocketAddress().GetProtocol()
		l.Name, l.Address = of.Name+ofNode+n.Name, socketAddress(bind)
		l.GetAddress().GetSocketAddress().Protocol = protocol
		if l.Metadata != nil {
			l.Metadata = advertisement(bind.Port())
		}
		made = append(made, newResource(of.Type, l.Name, l))
	}
	return made
}

// assignment leads to the activator over TCP, and to instances that another
// machine can reach.
func (r Remote) assignment(a *endpoint.ClusterLoadAssignment) *endpoint.ClusterLoadAssignment {
	for _, locality := range a.Endpoints {
		locality.LbEndpoints = slices.DeleteFunc(locality.LbEndpoints, func(e *endpoint.LbEndpoint) bool {
			return onLoopback(e.GetEndpoint().GetAddress().GetSocketAddress())
		})
		for i, e := range locality.LbEndpoints {
			if e.GetEndpoint().GetAddress().GetPipe() != nil { // there is no other socket than the activator's
				to := lbEndpoint(socketAddress(r.Activator))
				to.Metadata = &core.Metadata{FilterMetadata: map[string]*structpb.Struct{matchFilter: activatorMark()}}
				locality.LbEndpoints[i] = to
			}
		}
	}
	return a
}

func onLoopback(a *core.SocketAddress) bool {
	ip := net.ParseIP(a.GetAddress())
	return ip != nil && ip.IsLoopback()
}

func activatorMark() *structpb.Struct {
	return &structpb.Struct{Fields: map[string]*structpb.Value{matchActivator: structpb.NewBoolValue(true)}}
}

// activatorTLS speaks to the region's Polder, which proves itself as a peer of
// the region. Another node's certificate is not enough.
func (r Remote) activatorTLS() *core.TransportSocket {
	context := peerTLS(regionIdentity(r.TrustDomain, r.Region) + "peer/")
	context.AlpnProtocols = []string{ActivatorProtocol}
	return transportSocket("envoy.transport_sockets.tls", &tls.UpstreamTlsContext{CommonTlsContext: context})
}

// unpacked gives back what newResource packed. It panics on anything else, which
// only a broken invariant of this package can cause.
func unpacked[M proto.Message](r Resource) M {
	message, err := r.Body.UnmarshalNew()
	if err != nil {
		panic("xds: " + r.Name + ": " + err.Error())
	}
	return message.(M)
}
