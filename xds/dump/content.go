package dump

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	bootstrap "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpoint "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/polder/polder/xds"
)

func hash(text []byte) [sha256.Size]byte { return sha256.Sum256(text) }

// digestOf is as package xds makes versions of bytes.
func digestOf(value []byte) string {
	sum := hash(value)
	return hex.EncodeToString(sum[:8])
}

var deterministic = proto.MarshalOptions{Deterministic: true}

// parse takes one resource apart.
func parse(text json.RawMessage) (Resource, error) {
	body := new(anypb.Any)
	if err := (protojson.UnmarshalOptions{}).Unmarshal(text, body); err != nil {
		return Resource{}, err
	}
	message, err := body.UnmarshalNew()
	if err != nil {
		return Resource{}, err
	}
	r := Resource{Key: xds.Key{Type: body.TypeUrl}, Body: body}
	switch m := message.(type) {
	case *endpoint.ClusterLoadAssignment:
		r.Name = m.ClusterName
		if r.Body, err = normal(m); err != nil {
			return Resource{}, err
		}
	case interface{ GetName() string }:
		r.Name = m.GetName()
	default:
		return Resource{}, errors.New("has no name")
	}
	r.Digest = digestOf(r.Body.Value)
	return r, nil
}

// Digest is equal for a published resource and one of a dump exactly when they
// say the same.
func Digest(r xds.Resource) (string, error) {
	if r.Type != xds.TypeEndpoint {
		return r.Version, nil
	}
	assignment := new(endpoint.ClusterLoadAssignment)
	if err := r.Body.UnmarshalTo(assignment); err != nil {
		return "", fmt.Errorf("endpoints of %s: %w", r.Name, err)
	}
	body, err := normal(assignment)
	if err != nil {
		return "", fmt.Errorf("endpoints of %s: %w", r.Name, err)
	}
	return digestOf(body.Value), nil
}

// normal brings a load assignment into the form in which it can be compared. It
// changes its argument. What Envoy adds when it dumps is taken away: empty
// messages, weights that mean nothing, the health that it sees. Localities
// without endpoints, which it does not keep, go too; the others are sorted.
func normal(a *endpoint.ClusterLoadAssignment) (*anypb.Any, error) {
	type place struct {
		priority           uint32
		region, zone, part string
	}
	at := func(l *endpoint.LocalityLbEndpoints) place {
		return place{l.Priority, l.Locality.GetRegion(), l.Locality.GetZone(), l.Locality.GetSubZone()}
	}
	places := map[place]*endpoint.LocalityLbEndpoints{}
	var list []*endpoint.LocalityLbEndpoints
	for _, l := range a.Endpoints {
		if len(l.LbEndpoints) == 0 {
			continue
		}
		if l.LoadBalancingWeight.GetValue() == 0 {
			l.LoadBalancingWeight = nil
		}
		if l.Locality == nil {
			l.Locality = &core.Locality{}
		}
		for _, e := range l.LbEndpoints {
			trim(e)
		}
		if first := places[at(l)]; first != nil {
			first.LbEndpoints = append(first.LbEndpoints, l.LbEndpoints...)
			continue
		}
		places[at(l)] = l
		list = append(list, l)
	}
	for _, l := range list {
		if err := sortEndpoints(l.LbEndpoints); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(list, func(x, y *endpoint.LocalityLbEndpoints) int {
		a, b := at(x), at(y)
		return cmp.Or(cmp.Compare(a.priority, b.priority), cmp.Compare(a.region, b.region), cmp.Compare(a.zone, b.zone), cmp.Compare(a.part, b.part))
	})
	a.Endpoints = list
	body := new(anypb.Any)
	return body, anypb.MarshalFrom(body, a, deterministic)
}

func trim(e *endpoint.LbEndpoint) {
	e.HealthStatus = core.HealthStatus_UNKNOWN
	if e.LoadBalancingWeight.GetValue() == 1 {
		e.LoadBalancingWeight = nil
	}
	if e.Metadata != nil && proto.Size(e.Metadata) == 0 {
		e.Metadata = nil
	}
	if host := e.GetEndpoint(); host != nil && host.HealthCheckConfig != nil && proto.Size(host.HealthCheckConfig) == 0 {
		host.HealthCheckConfig = nil
	}
}

func sortEndpoints(list []*endpoint.LbEndpoint) error {
	keys := make(map[*endpoint.LbEndpoint][]byte, len(list))
	for _, e := range list {
		key, err := deterministic.Marshal(e)
		if err != nil {
			return err
		}
		keys[e] = key
	}
	slices.SortFunc(list, func(x, y *endpoint.LbEndpoint) int { return bytes.Compare(keys[x], keys[y]) })
	return nil
}

// discovers tells under which name a cluster gets its endpoints from the control
// plane, if it does.
func discovers(body *anypb.Any) (string, bool) {
	c := new(cluster.Cluster)
	if body.UnmarshalTo(c) != nil || c.GetType() != cluster.Cluster_EDS {
		return "", false
	}
	return cmp.Or(c.GetEdsClusterConfig().GetServiceName(), c.Name), true
}

// Expected is what of a bootstrap can be seen in a dump.
type Expected struct {
	Bootstrap string             // its digest
	Static    map[xds.Key]string // digests of its resources
	Layers    []string           // of runtime values that it sets itself
}

// ExpectBootstrap tells what an Envoy with that bootstrap, in JSON, must show.
func ExpectBootstrap(text []byte) (Expected, error) {
	b, digest, err := readBootstrap(text)
	if err != nil {
		return Expected{}, err
	}
	e := Expected{Bootstrap: digest, Static: map[xds.Key]string{}}
	add := func(typeURL, name string, m proto.Message) {
		var value []byte
		if value, err = deterministic.Marshal(m); err == nil {
			e.Static[xds.Key{Type: typeURL, Name: name}] = digestOf(value)
		}
	}
	for _, l := range b.LayeredRuntime.GetLayers() {
		if l.GetStaticLayer() != nil {
			e.Layers = append(e.Layers, l.Name)
		}
	}
	for _, c := range b.StaticResources.GetClusters() {
		add(xds.TypeCluster, c.Name, c)
	}
	for _, l := range b.StaticResources.GetListeners() {
		add(xds.TypeListener, l.Name, l)
	}
	return e, err
}

// DigestBootstrap is the digest of a bootstrap in JSON, as it was written or as
// Envoy dumps it, with what it says of itself.
func DigestBootstrap(text []byte) (string, error) {
	_, digest, err := readBootstrap(text)
	return digest, err
}

func readBootstrap(text []byte) (*bootstrap.Bootstrap, string, error) {
	b := new(bootstrap.Bootstrap)
	if err := protojson.Unmarshal(text, b); err != nil {
		return nil, "", fmt.Errorf("bootstrap: %w", err)
	}
	if node := b.Node; node != nil { // Envoy adds what it is and can
		node.UserAgentName, node.UserAgentVersionType, node.Extensions = "", nil, nil
	}
	value, err := deterministic.Marshal(b)
	if err != nil {
		return nil, "", fmt.Errorf("bootstrap: %w", err)
	}
	return b, digestOf(value), nil
}
