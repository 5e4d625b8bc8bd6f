package proof

import (
	"fmt"

	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpoint "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/types/known/anypb"
)

// Key identifies a resource by its type URL and name.
type Key struct{ Type, Name string }

// Resource is one finished resource. It has the shape of the translation's,
// and is not the same type, so that this package needs nothing of that one.
type Resource struct {
	Key
	Body *anypb.Any
}

// The types of resources that the proof can follow.
const (
	urlPrefix     = "type.googleapis.com/"
	typeListener  = urlPrefix + "envoy.config.listener.v3.Listener"
	typeScope     = urlPrefix + "envoy.config.route.v3.ScopedRouteConfiguration"
	typeRoute     = urlPrefix + "envoy.config.route.v3.RouteConfiguration"
	typeCluster   = urlPrefix + "envoy.config.cluster.v3.Cluster"
	typeEndpoint  = urlPrefix + "envoy.config.endpoint.v3.ClusterLoadAssignment"
	typeSecret    = urlPrefix + "envoy.extensions.transport_sockets.tls.v3.Secret"
	typeExtension = urlPrefix + "envoy.config.core.v3.TypedExtensionConfig"
)

// kindOf is the word for a resource type in a path.
func kindOf(typeURL string) string {
	switch typeURL {
	case typeListener:
		return "listener"
	case typeScope:
		return "scope"
	case typeRoute:
		return "routes"
	case typeCluster:
		return "cluster"
	case typeEndpoint:
		return "endpoints"
	case typeSecret:
		return "secret"
	case typeExtension:
		return "filter"
	}
	return "resource " + typeURL
}

// at is a path element.
func at(kind, name string) string {
	if name == "" {
		return kind
	}
	return kind + " " + name
}

func (k Key) path() []string { return []string{at(kindOf(k.Type), k.Name)} }

// path is the resource in a message. A scope is told by the host that it is for.
func (f *facts) path() []string {
	if f.scope != nil && f.scope.key != "" {
		return []string{at("scope", f.scope.key)}
	}
	return f.key.path()
}

// read takes in a resource. It never fails: what is wrong with it is among its
// faults.
func read(r Resource) *facts {
	f := &facts{key: r.Key, body: r.Body}
	reader := &reader{facts: f}
	switch {
	case r.Body == nil:
		reader.fault(fault{reason: "has no content"})
		return f
	case r.Body.TypeUrl != r.Type:
		reader.fault(fault{address: r.Body.TypeUrl, reason: "has the content of another type than it says"})
		return f
	case r.Type == typeSecret:
		reader.fault(fault{address: "secret " + r.Name, reason: "keys are given to Envoy one by one when it asks, and never published"})
		return f
	}
	message := reader.unpack(r.Body)
	if message == nil {
		return f
	}
	reader.walk(message.ProtoReflect())
	name := ""
	switch m := message.(type) {
	case *listener.Listener:
		name, f.listener = m.Name, reader.readListener(m)
	case *route.ScopedRouteConfiguration:
		name, f.scope = m.Name, reader.readScope(m)
	case *route.RouteConfiguration:
		name, f.routes = m.Name, reader.readRoutes(m)
	case *cluster.Cluster:
		name, f.cluster = m.Name, reader.readCluster(m)
	case *endpoint.ClusterLoadAssignment:
		name, f.endpoints = m.ClusterName, reader.readAssignment(m)
	case *core.TypedExtensionConfig:
		name, f.diverted = m.Name, reader.readDiverted(m)
	default:
		reader.fault(fault{reason: "is no resource that a node needs"})
	}
	if name != r.Name {
		reader.fault(fault{address: name, reason: fmt.Sprintf("calls itself %q", name)})
	}
	return f
}
