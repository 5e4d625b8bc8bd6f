package proof

import (
	"regexp"
	"slices"
	"strings"

	xdsmatcher "github.com/cncf/xds/go/xds/type/matcher/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	setfilterstate "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/set_filter_state/v3"
	network "github.com/envoyproxy/go-control-plane/envoy/extensions/matching/common_inputs/network/v3"
)

// A listener that chooses by the name in the ClientHello may look at a mark first, which
// a filter before it gives the connections for some names. The filter is a resource of
// its own: who is marked changes without the listener.

// divertedFacts is a filter that marks connections.
type divertedFacts struct {
	key, mark string
	hosts     []string // in whose ClientHello one of these is named, exactly; sorted
}

// diversion is what a listener does with marked connections.
type diversion struct {
	filter    string // name of the resource
	key, mark string
	chain     string
}

// marking is the only expression that marks connections.
var marking = regexp.MustCompile(`^%CEL\(connection\.requested_server_name in \[('[a-z0-9.-]+'(?:,'[a-z0-9.-]+')*)\] \? '([a-z-]+)' : ''\)%$`)

// readDiverted reads a filter that a listener fetches apart.
func (r *reader) readDiverted(e *core.TypedExtensionConfig) *divertedFacts {
	strange := func() *divertedFacts {
		r.fault(fault{path: []string{"field typed_config"}, address: anywhere, reason: "says something about connections that the proof does not understand"})
		return nil
	}
	m, ok := r.unpack(e.GetTypedConfig()).(*setfilterstate.Config)
	switch {
	case !ok || len(m.OnAccept) > 1:
		return strange()
	case len(m.OnAccept) == 0:
		return &divertedFacts{}
	}
	value := m.OnAccept[0]
	match := marking.FindStringSubmatch(value.GetFormatString().GetTextFormatSource().GetInlineString())
	// Marks of Envoy's own names would choose clusters, or whom to trust.
	if match == nil || !strings.HasPrefix(value.GetObjectKey(), "polder.") {
		return strange()
	}
	f := &divertedFacts{key: value.GetObjectKey(), mark: match[2], hosts: strings.Split(strings.Trim(match[1], "'"), "','")}
	slices.Sort(f.hosts)
	return f
}

// readFetched reads a listener filter that is a resource of its own. It looks at the
// name in the ClientHello, so that must have been read before.
func (r *reader) readFetched(filter *listener.ListenerFilter, f *listenerFacts, named bool) {
	source := filter.GetConfigDiscovery()
	types := []string{urlPrefix + string((&setfilterstate.Config{}).ProtoReflect().Descriptor().FullName())}
	if source.GetConfigSource().GetAds() == nil || !slices.Equal(source.GetTypeUrls(), types) || f.diverts.filter != "" || !named {
		r.fault(fault{path: []string{at("listener filter", filter.Name)}, address: unknown, reason: "fetches a filter that the proof does not understand"})
		return
	}
	f.diverts.filter = filter.Name
}

// readMark reads the choice of marked connections, and gives the one of all others.
func (r *reader) readMark(m *xdsmatcher.Matcher, f *listenerFacts, chain func(*xdsmatcher.Matcher_OnMatch) string) (others *xdsmatcher.Matcher, ok bool) {
	tree := m.GetMatcherTree()
	if tree == nil {
		return m, true
	}
	input, byMark := r.unpack(tree.GetInput().GetTypedConfig()).(*network.FilterStateInput)
	if !byMark {
		return m, true
	}
	marks := tree.GetExactMatchMap().GetMap()
	if others = m.GetOnNoMatch().GetMatcher(); len(marks) != 1 || others == nil {
		return nil, false
	}
	for mark, to := range marks {
		f.diverts.key, f.diverts.mark, f.diverts.chain = input.Key, mark, chain(to)
	}
	return others, true
}

// diverted tells whether a listener diverts the connections for a name. Every name of a
// filter is judged again when the filter changes: see names.
func (s *state) diverted(l *listenerFacts, host string) bool {
	if l.diverts.filter == "" || l.diverts.chain == "" {
		return false
	}
	f := s.resource(Key{typeExtension, l.diverts.filter})
	return f != nil && f.diverted != nil && f.diverted.key == l.diverts.key && f.diverted.mark == l.diverts.mark && contains(f.diverted.hosts, host)
}

// turned lists the names that a change of a filter diverts, or does not any more.
func turned(before, after *facts) (names []string) {
	of := func(f *facts) []string {
		if f == nil || f.diverted == nil {
			return nil
		}
		return f.diverted.hosts
	}
	same := func(a, b *facts) bool {
		return a != nil && b != nil && a.diverted != nil && b.diverted != nil && a.diverted.key == b.diverted.key && a.diverted.mark == b.diverted.mark
	}
	for _, name := range slices.Concat(of(before), of(after)) {
		if !same(before, after) || contains(of(before), name) != contains(of(after), name) {
			names = append(names, name)
		}
	}
	return names
}
