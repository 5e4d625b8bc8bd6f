package proof_test

import (
	"fmt"
	"slices"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
	"pgregory.net/rapid"

	"github.com/polder/polder/xds/proof"
)

// visit goes through a message and all below it, those packed in Any as well,
// in the order of the fields. A visitor tells whether it changed the message;
// then what it is packed in is packed again.
func visit(m protoreflect.Message, visitor func(protoreflect.Message) bool) bool {
	if packed, ok := m.Interface().(*anypb.Any); ok {
		inner, err := packed.UnmarshalNew()
		if err != nil || !visit(inner.ProtoReflect(), visitor) {
			return false
		}
		if err := anypb.MarshalFrom(packed, inner, proto.MarshalOptions{Deterministic: true}); err != nil {
			panic(err)
		}
		return true
	}
	changed := false
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		switch {
		case field.Message() == nil || !m.Has(field):
		case field.IsMap():
			if field.MapValue().Message() != nil {
				m.Get(field).Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool {
					changed = visit(v.Message(), visitor) || changed
					return true
				})
			}
		case field.IsList():
			for j := range m.Get(field).List().Len() {
				changed = visit(m.Get(field).List().Get(j).Message(), visitor) || changed
			}
		default:
			changed = visit(m.Mutable(field).Message(), visitor) || changed
		}
	}
	return visitor(m) || changed
}

// look visits without changing anything.
func look(r proof.Resource, visitor func(protoreflect.Message)) {
	visit(r.Body.ProtoReflect(), func(m protoreflect.Message) bool { visitor(m); return false })
}

// drawMutation changes one message, anywhere in one of the resources, at random.
// It gives the index of that resource as well.
func drawMutation(t *rapid.T, good []proof.Resource, pool []string) ([]proof.Resource, int) {
	bad := slices.Clone(good)
	i := rapid.IntRange(0, len(bad)-1).Draw(t, "resource")
	nodes := 0
	look(bad[i], func(protoreflect.Message) { nodes++ })
	bad[i].Body = proto.Clone(bad[i].Body).(*anypb.Any)
	chosen, n := rapid.IntRange(0, nodes-1).Draw(t, "message"), -1
	visit(bad[i].Body.ProtoReflect(), func(m protoreflect.Message) bool {
		if n++; n == chosen {
			mutateMessage(t, m, pool)
		}
		return n == chosen
	})
	return bad, i
}

// mutateMessage sets, clears, repeats or drops one field.
func mutateMessage(t *rapid.T, m protoreflect.Message, pool []string) {
	fields := m.Descriptor().Fields()
	if fields.Len() == 0 {
		return
	}
	field := fields.Get(rapid.IntRange(0, fields.Len()-1).Draw(t, "field"))
	kind := rapid.SampledFrom([]string{"set", "set", "set", "clear", "repeat", "drop"}).Draw(t, "kind")
	switch {
	case kind == "clear":
		m.Clear(field)
	case kind == "repeat" && field.IsList() && m.Has(field):
		list := m.Mutable(field).List()
		v := list.Get(rapid.IntRange(0, list.Len()-1).Draw(t, "element"))
		if field.Message() != nil {
			v = protoreflect.ValueOfMessage(proto.Clone(v.Message().Interface()).ProtoReflect())
			if rapid.Bool().Draw(t, "and change it") {
				mutateMessage(t, v.Message(), pool)
			}
		}
		list.Append(v)
	case kind == "drop" && field.IsList() && m.Has(field):
		list := m.Mutable(field).List()
		list.Truncate(rapid.IntRange(0, list.Len()-1).Draw(t, "keep"))
	case field.IsMap():
		m.Clear(field)
	case field.IsList():
		list := m.Mutable(field).List()
		v := list.NewElement()
		if field.Message() == nil {
			v = drawScalar(t, field, pool)
		} else {
			fill(t, v.Message(), pool, 3)
		}
		if list.Len() > 0 && rapid.Bool().Draw(t, "replace") {
			list.Set(rapid.IntRange(0, list.Len()-1).Draw(t, "element"), v)
		} else {
			list.Append(v)
		}
	case field.Message() != nil:
		fill(t, m.Mutable(field).Message(), pool, 3)
	default:
		m.Set(field, drawScalar(t, field, pool))
	}
}

// fill sets one field of a message, and one of that, as deep as told.
func fill(t *rapid.T, m protoreflect.Message, pool []string, depth int) {
	if a, ok := m.Interface().(*core.SocketAddress); ok {
		a.Address, a.PortSpecifier = rapid.SampledFrom(pool).Draw(t, "address"), &core.SocketAddress_PortValue{PortValue: 8080}
		return
	}
	if packed, ok := m.Interface().(*anypb.Any); ok {
		packed.TypeUrl = rapid.SampledFrom([]string{
			"type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua",
			"type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
			"type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
			"type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer",
			"type.googleapis.com/google.protobuf.StringValue",
		}).Draw(t, "type")
		packed.Value = nil
		return
	}
	fields := m.Descriptor().Fields()
	if fields.Len() == 0 || depth == 0 {
		return
	}
	field := fields.Get(rapid.IntRange(0, fields.Len()-1).Draw(t, "inner field"))
	switch {
	case field.IsMap():
	case field.IsList() && field.Message() != nil:
		list := m.Mutable(field).List()
		v := list.NewElement()
		fill(t, v.Message(), pool, depth-1)
		list.Append(v)
	case field.IsList():
		m.Mutable(field).List().Append(drawScalar(t, field, pool))
	case field.Message() != nil:
		fill(t, m.Mutable(field).Message(), pool, depth-1)
	default:
		m.Set(field, drawScalar(t, field, pool))
	}
}

func drawScalar(t *rapid.T, field protoreflect.FieldDescriptor, pool []string) protoreflect.Value {
	switch field.Kind() {
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(rapid.SampledFrom(pool).Draw(t, "text"))
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte(rapid.SampledFrom(pool).Draw(t, "bytes")))
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(rapid.Bool().Draw(t, "bool"))
	case protoreflect.EnumKind:
		values := field.Enum().Values()
		return protoreflect.ValueOfEnum(values.Get(rapid.IntRange(0, values.Len()-1).Draw(t, "enum")).Number())
	}
	n := rapid.IntRange(0, 3).Draw(t, "number")
	switch field.Kind() {
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		return protoreflect.ValueOfInt32(int32(n))
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		return protoreflect.ValueOfInt64(int64(n))
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return protoreflect.ValueOfUint32(uint32(n))
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return protoreflect.ValueOfUint64(uint64(n))
	case protoreflect.FloatKind:
		return protoreflect.ValueOfFloat32(float32(n))
	case protoreflect.DoubleKind:
		return protoreflect.ValueOfFloat64(float64(n))
	}
	panic(fmt.Sprintf("no value for %s", field.FullName()))
}
