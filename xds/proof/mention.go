package proof

import (
	"slices"
	"strings"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
)

const (
	maxCollected = 64 // strings looked at in a construct
	maxMentions  = 4  // strings repeated of it
)

// mentions collects what a construct that is not understood speaks of: strings
// that may be names of clusters, addresses or files. It is for messages only.
type mentions struct{ list []string }

func mentionsOf(packed *anypb.Any) []string {
	var m mentions
	m.message(packed.ProtoReflect(), 0)
	return m.sorted()
}

func mentionsIn(field protoreflect.FieldDescriptor, v protoreflect.Value) []string {
	var m mentions
	m.field(field, v, 0)
	return m.sorted()
}

func (c *mentions) sorted() []string {
	slices.Sort(c.list)
	c.list = slices.Compact(c.list)
	return c.list[:min(len(c.list), maxMentions)]
}

func (c *mentions) message(m protoreflect.Message, depth int) {
	if depth > maxDepth {
		return
	}
	switch m := m.Interface().(type) {
	case *anypb.Any:
		if inner, err := m.UnmarshalNew(); err == nil {
			c.message(inner.ProtoReflect(), depth+1)
		}
		return
	case *core.SocketAddress:
		c.add(socketAddress(m))
		return
	}
	m.Range(func(field protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		c.field(field, v, depth)
		return len(c.list) < maxCollected
	})
}

func (c *mentions) field(field protoreflect.FieldDescriptor, v protoreflect.Value, depth int) {
	switch {
	case field.IsMap():
		v.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool {
			c.value(field.MapValue(), v, depth)
			return len(c.list) < maxCollected
		})
	case field.IsList():
		for i := range min(v.List().Len(), maxCollected) {
			c.value(field, v.List().Get(i), depth)
		}
	default:
		c.value(field, v, depth)
	}
}

func (c *mentions) value(kind protoreflect.FieldDescriptor, v protoreflect.Value, depth int) {
	switch {
	case kind.Message() != nil:
		c.message(v.Message(), depth+1)
	case kind.Kind() == protoreflect.StringKind:
		c.add(v.String())
	}
}

func (c *mentions) add(text string) {
	if text == "" || strings.Contains(text, privateKey) || len(c.list) >= maxCollected {
		return
	}
	if runes := []rune(text); len(runes) > 100 {
		text = string(runes[:100]) + "…"
	}
	c.list = append(c.list, text)
}

func mentionsOfMessage(m protoreflect.Message) []string {
	var c mentions
	c.message(m, 0)
	return c.sorted()
}
