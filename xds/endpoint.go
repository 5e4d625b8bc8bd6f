package xds

import (
	"net/netip"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpoint "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/polder/polder/regions/law"
)

// Priorities of a service's load assignment.
const (
	// PriorityInstances holds the ready instances.
	PriorityInstances = 0
	// PriorityActivator holds the region's activator. It is always present: a
	// cluster without any endpoint would vanish from Envoy's load reports.
	PriorityActivator = 1
)

// overprovisioning keeps a partly healthy pool from spilling to the activator:
// Envoy moves on to the next priority only once healthy share × factor < 100 %.
const overprovisioning = 100_000 // percent

func loadAssignment(name string, a law.Approved, g Gateway, health core.HealthStatus) *endpoint.ClusterLoadAssignment {
	var instances []*endpoint.LbEndpoint
	for _, address := range a.Endpoints() {
		instance := lbEndpoint(socketAddress(address))
		instance.HealthStatus = health
		instances = append(instances, instance)
	}
	region := string(g.Region)
	return &endpoint.ClusterLoadAssignment{
		ClusterName: name,
		Endpoints: []*endpoint.LocalityLbEndpoints{
			{Locality: &core.Locality{Region: region, Zone: "instances"}, LbEndpoints: instances, Priority: PriorityInstances},
			{Locality: &core.Locality{Region: region, Zone: "activator"}, LbEndpoints: []*endpoint.LbEndpoint{lbEndpoint(pipeAddress(g.Activator))}, Priority: PriorityActivator},
		},
		Policy: &endpoint.ClusterLoadAssignment_Policy{OverprovisioningFactor: wrapperspb.UInt32(overprovisioning)},
	}
}

func lbEndpoint(address *core.Address) *endpoint.LbEndpoint {
	return &endpoint.LbEndpoint{HostIdentifier: &endpoint.LbEndpoint_Endpoint{Endpoint: &endpoint.Endpoint{Address: address}}}
}

func socketAddress(a netip.AddrPort) *core.Address { return hostAddress(a.Addr().String(), a.Port()) }

func hostAddress(host string, port uint16) *core.Address {
	return &core.Address{Address: &core.Address_SocketAddress{SocketAddress: &core.SocketAddress{
		Address: host, PortSpecifier: &core.SocketAddress_PortValue{PortValue: uint32(port)}}}}
}

func pipeAddress(path string) *core.Address {
	return &core.Address{Address: &core.Address_Pipe{Pipe: &core.Pipe{Path: path}}}
}

func internalAddress(listener string) *core.Address {
	return &core.Address{Address: &core.Address_EnvoyInternalAddress{EnvoyInternalAddress: &core.EnvoyInternalAddress{
		AddressNameSpecifier: &core.EnvoyInternalAddress_ServerListenerName{ServerListenerName: listener}}}}
}
