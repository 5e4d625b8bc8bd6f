package proof

import (
	"encoding/json"
	"fmt"
	"slices"

	admin "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpoint "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// Dump is what a running Envoy says that it has.
type Dump struct {
	// Resources are those in force, those of the bootstrap aside.
	Resources []Resource
	// Warming are those that will replace them, or join them, once they are ready.
	Warming []Resource
	// Bootstrap is what Envoy was started with, in JSON; nil if the dump has none.
	Bootstrap []byte
	// Secrets are the names of those that Envoy holds.
	Secrets []string
}

// ReadDump reads the answer to config_dump?include_eds of Envoy's admin
// interface. An error means that the dump has something in it that nobody here
// can read, so nothing can be proved of it. Endpoints are given for discovered
// clusters alone; others carry them. Listeners that drain are left out.
func ReadDump(data []byte) (Dump, error) {
	var parts struct {
		Configs []json.RawMessage `json:"configs"`
	}
	if err := json.Unmarshal(data, &parts); err != nil {
		return Dump{}, fmt.Errorf("config dump: %w", err)
	}
	var d Dump
	var assignments []*anypb.Any
	for _, part := range parts.Configs {
		packed := new(anypb.Any)
		if err := protojson.Unmarshal(part, packed); err != nil {
			return Dump{}, fmt.Errorf("config dump: %w", err)
		}
		message, err := packed.UnmarshalNew()
		if err != nil {
			return Dump{}, fmt.Errorf("config dump: %w", err)
		}
		if m, ok := message.(*admin.EndpointsConfigDump); ok {
			for _, e := range m.DynamicEndpointConfigs {
				assignments = append(assignments, e.EndpointConfig)
			}
			continue
		}
		if err := d.add(message); err != nil {
			return Dump{}, fmt.Errorf("config dump: %w", err)
		}
	}
	for _, packed := range assignments {
		if err := d.addAssignment(packed); err != nil {
			return Dump{}, fmt.Errorf("config dump: %w", err)
		}
	}
	return d, nil
}

func (d *Dump) add(part proto.Message) error {
	var active, warming []*anypb.Any
	switch m := part.(type) {
	case *admin.BootstrapConfigDump:
		// Envoy tells of itself where the bootstrap named the node.
		if n := m.GetBootstrap().GetNode(); n != nil {
			n.Extensions, n.UserAgentName, n.UserAgentVersionType = nil, "", nil
		}
		text, err := protojson.Marshal(m.Bootstrap)
		if err != nil {
			return err
		}
		d.Bootstrap = text
	case *admin.ClustersConfigDump:
		for _, c := range m.DynamicActiveClusters {
			active = append(active, c.Cluster)
		}
		for _, c := range m.DynamicWarmingClusters {
			warming = append(warming, c.Cluster)
		}
	case *admin.ListenersConfigDump:
		for _, l := range m.StaticListeners {
			active = append(active, l.Listener)
		}
		for _, l := range m.DynamicListeners {
			if l.ActiveState != nil {
				active = append(active, l.ActiveState.Listener)
			}
			if l.WarmingState != nil {
				warming = append(warming, l.WarmingState.Listener)
			}
		}
	case *admin.RoutesConfigDump:
		for _, r := range m.StaticRouteConfigs {
			active = append(active, r.RouteConfig)
		}
		for _, r := range m.DynamicRouteConfigs {
			active = append(active, r.RouteConfig)
		}
	case *admin.ScopedRoutesConfigDump:
		for _, r := range m.InlineScopedRouteConfigs {
			active = append(active, r.ScopedRouteConfigs...)
		}
		for _, r := range m.DynamicScopedRouteConfigs {
			active = append(active, r.ScopedRouteConfigs...)
		}
	case *admin.SecretsConfigDump:
		for _, s := range slices.Concat(m.DynamicActiveSecrets, m.DynamicWarmingSecrets) {
			d.Secrets = append(d.Secrets, s.Name)
		}
		for _, s := range m.StaticSecrets {
			d.Secrets = append(d.Secrets, s.Name)
		}
	default:
		return fmt.Errorf("nobody here can read %s", part.ProtoReflect().Descriptor().FullName())
	}
	return d.keep(active, warming)
}

func (d *Dump) keep(active, warming []*anypb.Any) error {
	for _, list := range []struct {
		from []*anypb.Any
		to   *[]Resource
	}{{active, &d.Resources}, {warming, &d.Warming}} {
		for _, packed := range list.from {
			message, err := packed.UnmarshalNew()
			if err != nil {
				return err
			}
			named, ok := message.(interface{ GetName() string })
			if !ok {
				return fmt.Errorf("a %s has no name", packed.TypeUrl)
			}
			*list.to = append(*list.to, Resource{Key{packed.TypeUrl, named.GetName()}, packed})
		}
	}
	return nil
}

// addAssignment takes the endpoints of a discovered cluster. Envoy writes them
// down anew, with empty settings that were never given; these are left out.
func (d *Dump) addAssignment(packed *anypb.Any) error {
	a := new(endpoint.ClusterLoadAssignment)
	if err := packed.UnmarshalTo(a); err != nil {
		return err
	}
	if !d.discovers(a.ClusterName) {
		return nil
	}
	for _, locality := range a.Endpoints {
		for _, e := range locality.LbEndpoints {
			if e.Metadata != nil && proto.Size(e.Metadata) == 0 {
				e.Metadata = nil
			}
			if at := e.GetEndpoint(); at.GetHealthCheckConfig() != nil && proto.Size(at.HealthCheckConfig) == 0 {
				at.HealthCheckConfig = nil
			}
		}
	}
	body := new(anypb.Any)
	if err := body.MarshalFrom(a); err != nil {
		return err
	}
	d.Resources = append(d.Resources, Resource{Key{typeEndpoint, a.ClusterName}, body})
	return nil
}

// discovers tells whether a cluster takes its endpoints from discovery.
func (d *Dump) discovers(name string) bool {
	for _, r := range slices.Concat(d.Resources, d.Warming) {
		c := new(cluster.Cluster)
		if r.Type == typeCluster && r.Body.UnmarshalTo(c) == nil &&
			(c.Name == name && c.GetEdsClusterConfig().GetServiceName() == "" || c.GetEdsClusterConfig().GetServiceName() == name) {
			return c.GetType() == cluster.Cluster_EDS
		}
	}
	return false
}
