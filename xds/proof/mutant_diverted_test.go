package proof_test

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	xdsmatcher "github.com/cncf/xds/go/xds/type/matcher/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	filterstate "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/common/set_filter_state/v3"
	setfilterstate "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/set_filter_state/v3"
	hcm "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/polder/polder"
	"github.com/polder/polder/xds"
	"github.com/polder/polder/xds/proof"
)

// markText is the expression that marks connections for hosts.
func markText(hosts ...string) string {
	return "%CEL(connection.requested_server_name in ['" + strings.Join(hosts, "','") + "'] ? 'by-name' : '')%"
}

// mark has the filter before the table set a value by an expression.
func (s *snapshot) mark(key, text string) *core.TypedExtensionConfig {
	s.t.Helper()
	filter := get[*core.TypedExtensionConfig](s, xds.TypeExtension, "diverted")
	filter.TypedConfig = pack(s.t, &setfilterstate.Config{OnAccept: []*filterstate.FilterStateValue{{
		Key: &filterstate.FilterStateValue_ObjectKey{ObjectKey: key}, FactoryKey: "envoy.string", SkipIfEmpty: true,
		Value: &filterstate.FilterStateValue_FormatString{FormatString: &core.SubstitutionFormatString{
			Format: &core.SubstitutionFormatString_TextFormatSource{TextFormatSource: &core.DataSource{
				Specifier: &core.DataSource_InlineString{InlineString: text}}}}}}}})
	return filter
}

// divert diverts hosts from the table to the clusters of their names.
func (s *snapshot) divert(hosts ...string) { s.mark("polder.diverted", markText(hosts...)) }

// marked changes the chain for marked connections.
func (s *snapshot) marked(chains map[string]string) {
	to := s.listener("entrypoint-https").FilterChainMatcher.GetMatcherTree().GetExactMatchMap().Map
	action := to["by-name"]
	clear(to)
	for mark, chain := range chains {
		next := clone(action)
		next.GetAction().TypedConfig = pack(s.t, wrapperspb.String(chain))
		to[mark] = next
	}
}

// divertedMutants divert connections to where they may not go, or by filters that do more.
func divertedMutants() []mutant {
	const filter = "filter diverted"
	fetched := func(change func(*core.ExtensionConfigSource)) func(*snapshot) {
		return func(s *snapshot) { change(s.listener("entrypoint-https").ListenerFilters[1].GetConfigDiscovery()) }
	}
	unfetched := []string{"listener entrypoint-https", "listener filter diverted"}
	strange := []string{"listener entrypoint-https", "field filter_chain_matcher"}
	return []mutant{
		{"diverted to a region that may not have it", func(s *snapshot) {
			s.divert("dutch.example.com")
			s.led("dutch.example.com", "pass/pl")
		}, "dutch", []string{"cluster to/dutch.example.com", "listener pass/pl"}, "192.0.2.30:7443"},
		{"diverted to be opened where it may not", func(s *snapshot) {
			s.divert("dutch.example.com")
			s.marked(map[string]string{"by-name": "serve"})
		}, "dutch", []string{"listener entrypoint-https", "chain serve", "host dutch.example.com"}, "requests for dutch.example.com"},
		{"nobody's name diverted to be opened", func(s *snapshot) {
			s.divert("nobody.example.com")
			s.marked(map[string]string{"by-name": "serve"})
		}, "", []string{"listener entrypoint-https", "chain serve", "host nobody.example.com"}, "requests"},
		{"diverted, and its owner refuses what the table passed on", func(s *snapshot) {
			s.divert("vault.example.com")
			s.lead("entrypoint-https", "vault.example.com", "pass/nl")
		}, "vault", []string{"listener entrypoint-https", "chain pass/nl", "kept for vault.example.com"}, "nl.example.net:7443"},
		{"not diverted any more, by another mark", func(s *snapshot) {
			s.mark("polder.diverted", strings.Replace(markText("dutch.example.com"), "'by-name'", "'other'", 1))
			s.lead("entrypoint-https", "dutch.example.com", "serve")
		}, "dutch", []string{"listener entrypoint-https", "chain serve", "host dutch.example.com"}, "requests for dutch.example.com"},
		{"not diverted any more, by another key", func(s *snapshot) {
			s.mark("polder.other", markText("dutch.example.com"))
			s.lead("entrypoint-https", "dutch.example.com", "serve")
		}, "dutch", []string{"listener entrypoint-https", "chain serve", "host dutch.example.com"}, "requests for dutch.example.com"},
		{"a filter that chooses the cluster", func(s *snapshot) { s.mark("envoy.tcp_proxy.cluster", markText("dutch.example.com")) },
			"", []string{filter}, "any address"},
		{"a filter that marks by something else", func(s *snapshot) {
			s.mark("polder.diverted", "%CEL(source.address in ['192.0.2.1'] ? 'by-name' : '')%")
		}, "", []string{filter}, ""},
		{"a filter that marks all", func(s *snapshot) { s.mark("polder.diverted", "by-name") }, "", []string{filter}, "any address"},
		{"a filter that marks by the name itself", func(s *snapshot) { s.mark("polder.diverted", "%REQUESTED_SERVER_NAME%") },
			"", []string{filter}, "any address"},
		{"a filter that marks by more than a list", func(s *snapshot) {
			s.mark("polder.diverted", strings.Replace(markText("dutch.example.com"), "']", "','x'+connection.subject]", 1))
		}, "", []string{filter}, ""},
		{"a filter that marks twice", func(s *snapshot) {
			edit(s.t, s.mark("polder.diverted", markText("dutch.example.com")).TypedConfig, func(m *setfilterstate.Config) { m.OnAccept = append(m.OnAccept, m.OnAccept[0]) })
		}, "", []string{filter}, "any address"},
		{"a filter of another kind", func(s *snapshot) {
			get[*core.TypedExtensionConfig](s, xds.TypeExtension, "diverted").TypedConfig = pack(s.t, &core.Locality{Region: "fr"})
		}, "", []string{filter}, "any address"},
		{"an expression where none is understood", func(s *snapshot) {
			s.manager("entrypoint-https", "serve", func(m *hcm.HttpConnectionManager) {
				m.LocalReplyConfig.Mappers[0].HeadersToAdd = append(m.LocalReplyConfig.Mappers[0].HeadersToAdd,
					&core.HeaderValueOption{Header: &core.HeaderValue{Key: "x", Value: markText("dutch.example.com")}})
			})
		}, "billing", []string{"listener entrypoint-https"}, "%CEL%"},
		{"a filter that is not fetched on the stream", fetched(func(c *core.ExtensionConfigSource) {
			c.ConfigSource.ConfigSourceSpecifier = &core.ConfigSource_PathConfigSource{PathConfigSource: &core.PathConfigSource{Path: "filter.yaml"}}
		}), "", unfetched, ""},
		{"a filter of any type is fetched", fetched(func(c *core.ExtensionConfigSource) {
			c.TypeUrls = append(c.TypeUrls, "type.googleapis.com/envoy.extensions.filters.listener.original_dst.v3.OriginalDst")
		}), "", unfetched, ""},
		{"a filter with another in its place until it is there", fetched(func(c *core.ExtensionConfigSource) {
			c.ApplyDefaultConfigWithoutWarming = true
		}), "", []string{"listener entrypoint-https"}, ""},
		{"a filter before the name is known", func(s *snapshot) { slices.Reverse(s.listener("entrypoint-https").ListenerFilters) },
			"", unfetched, ""},
		{"two filters are fetched", func(s *snapshot) {
			l := s.listener("entrypoint-https")
			l.ListenerFilters = append(l.ListenerFilters, clone(l.ListenerFilters[1]))
		}, "", unfetched, ""},
		{"what peers passed on is diverted", func(s *snapshot) {
			l := s.listener("inward")
			l.ListenerFilters = append(l.ListenerFilters, clone(s.listener("entrypoint-https").ListenerFilters[1]))
		}, "", []string{"listener inward", "listener filter diverted"}, "connections"},
		{"two marks", func(s *snapshot) { s.marked(map[string]string{"by-name": "by-name", "other": "serve"}) }, "", strange, ""},
		{"marks that lead to no chain", func(s *snapshot) { s.marked(map[string]string{"by-name": "nowhere"}) }, "", strange, ""},
		{"nothing for those who are not marked", func(s *snapshot) { s.listener("entrypoint-https").FilterChainMatcher.OnNoMatch = nil }, "", strange, ""},
		{"marks looked for twice", func(s *snapshot) {
			m := s.listener("entrypoint-https").FilterChainMatcher
			inner := clone(m)
			m.OnNoMatch = &xdsmatcher.Matcher_OnMatch{OnMatch: &xdsmatcher.Matcher_OnMatch_Matcher{Matcher: inner}}
		}, "", strange, ""},
	}
}

// TestDivertedHosts holds that the table may say otherwise of a host than the law as long
// as its callers are diverted, and no longer: the very change that takes the host out of
// the filter is refused.
func TestDivertedHosts(t *testing.T) {
	w := mutantWorld(t)
	hosts := xds.Hosts{Traces: true}
	for _, a := range w.judge() {
		hosts.Put(a)
	}
	set := hosts.Node(w.nodeConfig())
	led, _ := hosts.ByName(time.Time{})
	checker := proof.NewChecker(w.book())
	good := slices.DeleteFunc(w.snapshot(), func(r proof.Resource) bool {
		return slices.ContainsFunc(set, func(s xds.Resource) bool { return s.Key == xds.Key(r.Key) })
	})
	if err := checker.Propose(proof.Change{Set: slices.Concat(good, plain(set), plain(led)), Instances: w.observed()}).Commit(); err != nil {
		t.Fatal(err)
	}
	next := w
	next.model = &polder.Model{Regions: w.model.Regions, Services: slices.Clone(w.model.Services)}
	i := slices.IndexFunc(next.model.Services, func(s polder.Service) bool { return s.Name == "catalog" })
	next.model.Services[i].Residency.Allow = []polder.Place{"pl"}
	var kept []xds.Key
	for _, a := range next.judge() {
		hosts.Put(a)
		if a.Service().Name == "catalog" {
			for _, r := range xds.Service(a, w.gateway()) {
				kept = append(kept, r.Key)
			}
		}
	}
	if hosts.Changed() {
		t.Fatal("the table is needed at once")
	}
	led, _ = hosts.ByName(time.Time{})
	change := proof.Change{Set: plain(led), Book: next.book(), Instances: map[polder.ServiceName][]polder.Endpoint{"catalog": nil}}
	for _, a := range w.judge() {
		if a.Service().Name != "catalog" {
			continue
		}
		for _, r := range xds.Service(a, w.gateway()) {
			if !slices.Contains(kept, r.Key) {
				change.Remove = append(change.Remove, proof.Key(r.Key))
			}
		}
	}
	without := change
	without.Set = slices.DeleteFunc(slices.Clone(change.Set), func(r proof.Resource) bool { return r.Type == xds.TypeExtension })
	if found := checker.Propose(without).Violations(); len(found) == 0 {
		t.Error("nobody is diverted, and the host may be opened where its owner forbids it")
	}
	p := checker.Propose(change)
	if err := p.Commit(); err != nil {
		t.Fatalf("%v:\n%s", err, lines(p.Violations()))
	}
	seen := map[proof.WayKind]bool{}
	for _, way := range checker.Reach("catalog.example.com") {
		if seen[way.Kind] = true; way.Kind == proof.ToPeer && way.Region != "pl" {
			t.Errorf("it reaches region %s: %v", way.Region, way.Path)
		}
	}
	if !maps.Equal(seen, map[proof.WayKind]bool{proof.ToPeer: true}) && !maps.Equal(seen, map[proof.WayKind]bool{proof.ToPeer: true, proof.ToAnswer: true}) {
		t.Errorf("it reaches %v, want a peer", seen)
	}
	empty := get[*core.TypedExtensionConfig](open(t, plain(led)), xds.TypeExtension, "diverted")
	empty.TypedConfig = pack(t, &setfilterstate.Config{})
	back := proof.Change{Set: []proof.Resource{{Key: proof.Key{Type: xds.TypeExtension, Name: "diverted"}, Body: pack(t, empty)}}}
	if found := checker.Propose(back).Violations(); len(found) != 1 || !slices.Contains(found[0].Services, "catalog") {
		t.Errorf("it is not diverted any more: got\n%s", lines(found))
	}
	gone := proof.Change{Remove: []proof.Key{{Type: xds.TypeExtension, Name: "diverted"}}}
	if found := checker.Propose(gone).Violations(); len(found) == 0 {
		t.Error("the filter is gone, and nobody minds")
	}
}
