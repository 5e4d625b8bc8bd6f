package main

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpoint "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"

	"github.com/polder/polder/xds"
)

// The suite sets what the server has through a gRPC service of its own, Adapter. Its
// four messages are a few strings each, so they are read as the wire has them and need
// no generated code.

// raw is a codec that leaves messages as they are.
type raw struct{}

func (raw) Name() string { return "proto" }

func (raw) Marshal(message any) ([]byte, error) { return message.([]byte), nil }

func (raw) Unmarshal(data []byte, message any) error {
	*message.(*[]byte) = append([]byte(nil), data...)
	return nil
}

// success is an answer whose field 1 is true.
var success = []byte{1 << 3, 1}

// fields gives the strings of a message by the number of their field.
func fields(message []byte) (map[protowire.Number][][]byte, error) {
	found := map[protowire.Number][][]byte{}
	for len(message) > 0 {
		number, kind, n := protowire.ConsumeTag(message)
		if n < 0 || kind != protowire.BytesType {
			return nil, status.Errorf(codes.InvalidArgument, "field %d is no string", number)
		}
		value, m := protowire.ConsumeBytes(message[n:])
		if m < 0 {
			return nil, status.Errorf(codes.InvalidArgument, "field %d: %v", number, protowire.ParseError(m))
		}
		found[number] = append(found[number], value)
		message = message[n+m:]
	}
	return found, nil
}

func text(found map[protowire.Number][][]byte, number protowire.Number) string {
	if len(found[number]) == 0 {
		return ""
	}
	return string(found[number][0])
}

// register adds the suite's service to a gRPC server with the codec raw.
func (s *site) register(to *grpc.Server) {
	description := &grpc.ServiceDesc{ServiceName: "adapter.Adapter", HandlerType: (*any)(nil)}
	for name, do := range map[string]func(map[protowire.Number][][]byte) ([]byte, error){
		"SetState": s.setState,
		"ClearState": func(map[protowire.Number][][]byte) ([]byte, error) {
			s.renew()
			return nil, nil
		},
		"UpdateResource": s.putResource,
		"AddResource":    s.putResource,
		"RemoveResource": func(request map[protowire.Number][][]byte) ([]byte, error) {
			s.server().Apply(nil, []xds.Key{{Type: text(request, 2), Name: text(request, 3)}})
			return success, nil
		},
	} {
		description.Methods = append(description.Methods, grpc.MethodDesc{MethodName: name,
			Handler: func(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
				var message []byte
				if err := decode(&message); err != nil {
					return nil, err
				}
				request, err := fields(message)
				if err != nil {
					return nil, err
				}
				return do(request)
			}})
	}
	to.RegisterService(description, s)
}

// setState begins a scenario: a server that has these resources and nothing else.
func (s *site) setState(request map[protowire.Number][][]byte) ([]byte, error) {
	var set []xds.Resource
	for _, value := range request[3] {
		body := new(anypb.Any)
		if err := proto.Unmarshal(value, body); err != nil {
			return nil, status.Error(codes.InvalidArgument, err.Error())
		}
		message, err := body.UnmarshalNew()
		if err != nil {
			return nil, status.Error(codes.InvalidArgument, err.Error())
		}
		name := cache.GetResourceName(message)
		if name == "" {
			return nil, status.Errorf(codes.InvalidArgument, "a resource of type %q has no name", body.TypeUrl)
		}
		set = append(set, xds.Resource{Key: xds.Key{Type: body.TypeUrl, Name: name}, Version: text(request, 2), Body: body})
	}
	s.renew().Apply(set, nil)
	return success, nil
}

// crossing is how long a change waits for what the suite sent before it, on another
// connection and without waiting: a client that has unsubscribed, say.
const crossing = 500 * time.Millisecond

// putResource adds a resource, or gives it another version.
func (s *site) putResource(request map[protowire.Number][][]byte) ([]byte, error) {
	time.Sleep(crossing)
	key := xds.Key{Type: text(request, 2), Name: text(request, 3)}
	message, err := named(key)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	body, err := anypb.New(message)
	if err != nil {
		return nil, err
	}
	s.server().Apply([]xds.Resource{{Key: key, Version: text(request, 4), Body: body}}, nil)
	return success, nil
}

// named is the least resource of a type that has the name.
func named(key xds.Key) (proto.Message, error) {
	switch key.Type {
	case xds.TypeCluster:
		return &cluster.Cluster{Name: key.Name}, nil
	case xds.TypeEndpoint:
		return &endpoint.ClusterLoadAssignment{ClusterName: key.Name}, nil
	case xds.TypeListener:
		return &listener.Listener{Name: key.Name}, nil
	case xds.TypeRoute:
		return &route.RouteConfiguration{Name: key.Name}, nil
	}
	return nil, fmt.Errorf("the suite has a type that the adapter does not know: %q", key.Type)
}
