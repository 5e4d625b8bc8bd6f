package proof

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"

	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	setfilterstate "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/set_filter_state/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/anypb"
)

// maxDepth bounds how deep messages may nest.
const maxDepth = 64

// reader takes in one resource: first it walks every message and holds it
// against the vocabulary, then the functions read… follow what it means.
type reader struct {
	facts    *facts
	stack    []step
	format   int // depth of fields that hold formats
	unpacked map[*anypb.Any]proto.Message
}

// step is one level of the walk.
type step struct {
	field   protoreflect.FieldDescriptor
	message protoreflect.Message // that the field leads to, unpacked; nil at a leaf
	key     string               // index or map key
}

// fault records something wrong. Called during the walk it finds out where.
func (r *reader) fault(f fault) { r.facts.faults = append(r.facts.faults, r.placed(f)) }

// placed says of a fault where it lies, as far as it does not itself.
func (r *reader) placed(f fault) fault {
	if f.path == nil {
		f.path = r.path()
	}
	for _, s := range r.stack {
		if s.message == nil {
			continue
		}
		switch m := s.message.Interface().(type) {
		case *route.VirtualHost:
			f.domains = m.Domains
		case *listener.FilterChain:
			f.chain = m.Name
		}
	}
	return f
}

// path names the steps of the walk, as far as they have names.
func (r *reader) path() []string {
	path := []string{}
	for _, s := range r.stack {
		path = append(path, at(string(s.field.Name()), s.name()))
	}
	return path
}

func (s step) name() string {
	if s.message != nil {
		for _, n := range []protoreflect.Name{"name", "cluster_name", "key"} {
			if f := s.message.Descriptor().Fields().ByName(n); f != nil && f.Kind() == protoreflect.StringKind {
				if name := s.message.Get(f).String(); name != "" {
					return name
				}
			}
		}
	}
	return s.key
}

// unpack gives the message in an Any, or nil and a fault. Equal pointers give
// the message that the walk has seen.
func (r *reader) unpack(packed *anypb.Any) proto.Message {
	if m, ok := r.unpacked[packed]; ok {
		return m
	}
	if r.unpacked == nil {
		r.unpacked = map[*anypb.Any]proto.Message{}
	}
	m := r.unpackOnce(packed)
	r.unpacked[packed] = m
	return m
}

func (r *reader) unpackOnce(packed *anypb.Any) proto.Message {
	name, ok := strings.CutPrefix(packed.GetTypeUrl(), urlPrefix)
	if _, listed := known().messages[protoreflect.FullName(name)]; !ok || !listed {
		d, ok := dangers[protoreflect.FullName(name)]
		if !ok {
			d = danger{unknown, "is a construct that the proof does not understand"}
		}
		r.fault(fault{address: d.address, strings: mentionsOf(packed), reason: fmt.Sprintf("%s (%s)", d.reason, packed.GetTypeUrl())})
		return nil
	}
	kind, err := protoregistry.GlobalTypes.FindMessageByName(protoreflect.FullName(name))
	if err != nil {
		r.fault(fault{reason: fmt.Sprintf("is of a type that is not compiled in: %v", err)})
		return nil
	}
	message := kind.New().Interface()
	if err := proto.Unmarshal(packed.Value, message); err != nil {
		r.fault(fault{reason: fmt.Sprintf("cannot be read as %s: %v", name, err)})
		return nil
	}
	return message
}

// walk holds a message and all below it against the vocabulary.
func (r *reader) walk(m protoreflect.Message) {
	if len(r.stack) > maxDepth {
		r.fault(fault{reason: "nests too deep"})
		return
	}
	fields, listed := known().messages[m.Descriptor().FullName()]
	if !listed {
		r.fault(fault{address: unknown, strings: mentionsOfMessage(m), reason: fmt.Sprintf("is a construct that the proof does not understand (%s)", m.Descriptor().FullName())})
		return
	}
	if len(m.GetUnknown()) > 0 {
		r.fault(fault{address: unknown, reason: fmt.Sprintf("has fields that the type %s does not have", m.Descriptor().FullName())})
	}
	m.Range(func(field protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		rule := fields[field.Name()]
		if !rule.known {
			r.facts.faults = append(r.facts.faults, r.danger(field, v))
			return true
		}
		if rule.clients {
			r.facts.clients = append(r.facts.clients, r.danger(field, v))
		}
		if rule.format {
			r.format++
		}
		r.walkField(field, v)
		if rule.format {
			r.format--
		}
		return true
	})
}

// danger is the fault of having a field that may not be there.
func (r *reader) danger(field protoreflect.FieldDescriptor, v protoreflect.Value) fault {
	d, ok := dangers[field.FullName()]
	if !ok {
		d = danger{unknown, "is a construct that the proof does not understand"}
	}
	r.stack = append(r.stack, step{field: field})
	defer func() { r.stack = r.stack[:len(r.stack)-1] }()
	return r.placed(fault{address: d.address, strings: mentionsIn(field, v), reason: d.reason})
}

func (r *reader) walkField(field protoreflect.FieldDescriptor, v protoreflect.Value) {
	switch {
	case field.IsMap():
		v.Map().Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
			r.walkValue(field, field.MapValue(), k.String(), v)
			return true
		})
	case field.IsList():
		list := v.List()
		for i := range list.Len() {
			r.walkValue(field, field, strconv.Itoa(i), list.Get(i))
		}
	default:
		r.walkValue(field, field, "", v)
	}
}

// walkValue goes one step down: into a message, or to a leaf.
func (r *reader) walkValue(field, kind protoreflect.FieldDescriptor, key string, v protoreflect.Value) {
	if kind.Message() == nil && kind.Kind() != protoreflect.StringKind && kind.Kind() != protoreflect.BytesKind {
		return
	}
	r.stack = append(r.stack, step{field: field, key: key})
	defer func() { r.stack = r.stack[:len(r.stack)-1] }()
	if kind.Message() == nil {
		r.checkLeaf(kind, v)
		return
	}
	m := v.Message()
	if packed, ok := m.Interface().(*anypb.Any); ok {
		inner := r.unpack(packed)
		if inner == nil {
			return
		}
		m = inner.ProtoReflect()
	}
	r.stack[len(r.stack)-1].message = m
	r.walk(m)
}

// privateKey is in every private key in PEM, whatever its kind.
const privateKey = "PRIVATE KEY"

func (r *reader) checkLeaf(kind protoreflect.FieldDescriptor, v protoreflect.Value) {
	if kind.Kind() == protoreflect.BytesKind {
		if bytes.Contains(v.Bytes(), []byte(privateKey)) {
			r.fault(fault{address: "a private key", reason: "carries a key in the open"})
		}
		return
	}
	text := v.String()
	if strings.Contains(text, privateKey) {
		r.fault(fault{address: "a private key", reason: "carries a key in the open"})
	}
	if r.format > 0 {
		if command, ok := strangeCommand(text); ok && !(r.marks() && marking.MatchString(text)) {
			r.fault(fault{address: "%" + command + "%", reason: "uses a format that the proof does not understand"})
		}
	}
}

// marks tells whether the walk is in a filter that marks connections.
func (r *reader) marks() bool {
	return slices.ContainsFunc(r.stack, func(s step) bool {
		if s.message == nil {
			return false
		}
		_, ok := s.message.Interface().(*setfilterstate.Config)
		return ok
	})
}

// strangeCommand finds the first command of a format that is not listed.
func strangeCommand(format string) (string, bool) {
	for {
		_, rest, found := strings.Cut(format, "%")
		if !found {
			return "", false
		}
		if strings.HasPrefix(rest, "%") { // a percent sign
			format = rest[1:]
			continue
		}
		end := strings.IndexFunc(rest, func(c rune) bool { return (c < 'A' || c > 'Z') && c != '_' })
		if end <= 0 || !known().formats[rest[:end]] {
			return rest[:max(end, 0)], true
		}
		command, tail := rest[:end], rest[end:]
		if strings.HasPrefix(tail, "(") {
			_, after, closed := strings.Cut(tail, ")")
			if !closed {
				return command, true
			}
			tail = after
		}
		if tail, found = strings.CutPrefix(tail, ":"); found {
			tail = strings.TrimLeft(tail, "0123456789")
		}
		if format, found = strings.CutPrefix(tail, "%"); !found {
			return command, true
		}
	}
}
