package xds

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
)

// The type URLs of the resources that Polder serves.
const (
	TypeListener  = resource.ListenerType
	TypeScope     = resource.ScopedRouteType
	TypeRoute     = resource.RouteType
	TypeCluster   = resource.ClusterType
	TypeEndpoint  = resource.EndpointType
	TypeSecret    = resource.SecretType
	TypeExtension = resource.ExtensionConfigType
)

// Key identifies a resource.
type Key struct{ Type, Name string }

// Resource is one finished Envoy resource, marshalled once however many
// Envoys receive it. Its Version is a digest of its bytes: equal bytes have
// equal versions, in every peer and after every restart.
type Resource struct {
	Key
	Version string
	Body    *anypb.Any
}

// newResource marshals deterministically. It panics when the message cannot be
// marshalled, which only a broken invariant of this package can cause.
func newResource(typeURL, name string, message proto.Message) Resource {
	return versioned(Key{typeURL, name}, packed(message))
}

// Restore gives back a resource whose bytes were kept outside of this process.
// The version follows from the bytes, so damaged ones are another version.
func Restore(key Key, value []byte) Resource {
	return versioned(key, &anypb.Any{TypeUrl: key.Type, Value: value})
}

func versioned(key Key, body *anypb.Any) Resource {
	sum := sha256.Sum256(body.Value)
	return Resource{Key: key, Version: hex.EncodeToString(sum[:8]), Body: body}
}

func packed(message proto.Message) *anypb.Any {
	body := new(anypb.Any)
	if err := anypb.MarshalFrom(body, message, proto.MarshalOptions{Deterministic: true}); err != nil {
		panic(fmt.Sprintf("xds: marshal %T: %v", message, err))
	}
	return body
}
