package proof_test

import (
	"slices"
	"testing"

	xdsmatcher "github.com/cncf/xds/go/xds/type/matcher/v3"
	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	aggregate "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/aggregate/v3"
	filterstate "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/common/set_filter_state/v3"
	setfilterstate "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/set_filter_state/v3"
	tcpproxy "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	percent "github.com/envoyproxy/go-control-plane/envoy/type/v3"

	"github.com/polder/polder"
	"github.com/polder/polder/xds/proof"
)

// led adds the cluster that connections for a host are led to by their name.
func (s *snapshot) led(host, listener string) *cluster.Cluster {
	c := clone(s.cluster("wrap/pass/nl"))
	c.Name, c.LoadAssignment.ClusterName = "to/"+host, "to/"+host
	c.LoadAssignment.Endpoints[0].LbEndpoints[0].GetEndpoint().Address.GetEnvoyInternalAddress().AddressNameSpecifier =
		&core.EnvoyInternalAddress_ServerListenerName{ServerListenerName: listener}
	s.add(c)
	return c
}

// ledBy adds one that is made of another cluster, as the translation does it.
func (s *snapshot) ledBy(host, member string) {
	s.add(&cluster.Cluster{
		Name: "to/" + host, LbPolicy: cluster.Cluster_CLUSTER_PROVIDED, CommonLbConfig: &cluster.Cluster_CommonLbConfig{HealthyPanicThreshold: &percent.Percent{}},
		ClusterDiscoveryType: &cluster.Cluster_ClusterType{ClusterType: &cluster.Cluster_CustomClusterType{
			Name: "aggregate", TypedConfig: pack(s.t, &aggregate.ClusterConfig{Clusters: []string{member}})}},
	})
}

// names changes what the chain for names outside the table sets.
func (s *snapshot) names(change func(*filterstate.FilterStateValue)) {
	edit(s.t, s.chain("entrypoint-https", "by-name").Filters[0].GetTypedConfig(), func(m *setfilterstate.Config) { change(m.OnNewConnection[0]) })
}

// nameMutants lead connections by their name to where they may not go.
func nameMutants() []mutant {
	chain := []string{"listener entrypoint-https", "chain by-name"}
	return []mutant{
		{"by its name to a region that may not have it", func(s *snapshot) { s.led("dutch.example.com", "pass/pl") },
			"dutch", []string{"cluster to/dutch.example.com", "listener pass/pl"}, "192.0.2.30:7443"},
		{"by its name to be opened where it may not", func(s *snapshot) { s.led("dutch.example.com", "inward") },
			"dutch", []string{"cluster to/dutch.example.com", "listener inward", "chain serve", "host dutch.example.com"}, "requests for dutch.example.com"},
		{"by its name passed on, though its owner refuses", func(s *snapshot) { s.led("vault.example.com", "pass/nl") },
			"vault", []string{"cluster to/vault.example.com", "listener pass/nl"}, "nl.example.net:7443"},
		{"by a name that nobody owns", func(s *snapshot) { s.led("nobody.example.com", "inward") },
			"", []string{"cluster to/nobody.example.com"}, "host nobody.example.com"},
		{"by its name, through another cluster, to a region that may not have it", func(s *snapshot) { s.ledBy("dutch.example.com", "wrap/pass/pl") },
			"dutch", []string{"cluster to/dutch.example.com", "cluster wrap/pass/pl", "listener pass/pl"}, "192.0.2.30:7443"},
		{"by its name, through another cluster, to be opened where it may not", func(s *snapshot) { s.ledBy("dutch.example.com", "wrap/inward") },
			"dutch", []string{"cluster to/dutch.example.com", "cluster wrap/inward", "listener inward", "chain serve", "host dutch.example.com"}, "requests for dutch.example.com"},
		{"by its name, through another cluster, to an instance", func(s *snapshot) { s.ledBy("billing.example.com", "service/billing") },
			"billing", []string{"cluster to/billing.example.com", "cluster service/billing"}, "nobody knows"},
		{"by its name, through another cluster, to peers past the way out", func(s *snapshot) { s.ledBy("dutch.example.com", "pass/nl") },
			"dutch", []string{"cluster to/dutch.example.com", "cluster pass/nl"}, "nl.example.net:7443"},
		{"by its name to a cluster that does not exist", func(s *snapshot) { s.ledBy("billing.example.com", "wrap/nowhere") },
			"billing", []string{"cluster to/billing.example.com"}, "cluster wrap/nowhere"},
		{"by no name at all", func(s *snapshot) { s.led("", "inward") },
			"", []string{"cluster to/"}, "host"},
		{"by its name to an instance", func(s *snapshot) { s.add(staticCluster("to/billing.example.com", socketAt("127.0.0.1", 20001))) },
			"billing", []string{"cluster to/billing.example.com"}, "127.0.0.1:20001"},
		{"by its name to discovered endpoints", func(s *snapshot) {
			c := clone(s.cluster("service/catalog"))
			c.Name, c.EdsClusterConfig.ServiceName = "to/catalog.example.com", "service/catalog"
			s.add(c)
		}, "catalog", []string{"cluster to/catalog.example.com"}, "nobody knows"},
		{"by its name to a listener that is gone", func(s *snapshot) { s.led("dutch.example.com", "pass/xx") },
			"dutch", []string{"cluster to/dutch.example.com"}, "listener pass/xx"},
		{"by its name to a listener that refuses some connections and passes on others", func(s *snapshot) {
			l := s.listener("forbidden")
			l.FilterChains = append(l.FilterChains, clone(s.chain("pass/nl", "pass/nl")))
		}, "vault", []string{"cluster to/vault.example.com", "listener forbidden"}, "nl.example.net:7443"},
		{"by its name to a listener that says it refuses and passes on", func(s *snapshot) {
			s.listener("forbidden").FilterChains[0].Filters = clone(s.chain("pass/nl", "pass/nl")).Filters
		}, "vault", []string{"cluster to/vault.example.com", "listener forbidden"}, "nl.example.net:7443"},
		{"by its name to a listener that says it refuses and opens", func(s *snapshot) {
			s.listener("forbidden").FilterChains[0] = clone(s.chain("inward", "serve"))
		}, "vault", []string{"cluster to/vault.example.com", "listener forbidden", "chain serve"}, "requests for vault.example.com"},
		{"by its name to a listener that refuses and tells of it", func(s *snapshot) {
			c := s.listener("forbidden").FilterChains[0]
			c.Filters = append(clone(s.chain("inward", "resident/keyed/serve")).Filters[:1], c.Filters...)
		}, "vault", []string{"cluster to/vault.example.com", "listener forbidden"}, "cluster"},
		{"by its name to a listener that refuses, and to another cluster", func(s *snapshot) {
			edit(s.t, s.cluster("to/vault.example.com").GetClusterType().GetTypedConfig(), func(c *aggregate.ClusterConfig) {
				c.Clusters = append(c.Clusters, "wrap/pass/nl")
			})
		}, "vault", []string{"cluster to/vault.example.com", "cluster wrap/pass/nl", "listener pass/nl"}, "nl.example.net:7443"},
		{"by its name to a listener that does nothing", func(s *snapshot) { s.listener("forbidden").FilterChains = nil },
			"vault", []string{"cluster to/vault.example.com", "listener forbidden"}, ""},
		{"by names of all clusters", func(s *snapshot) {
			s.names(func(v *filterstate.FilterStateValue) {
				v.GetFormatString().GetTextFormatSource().Specifier = &core.DataSource_InlineString{InlineString: "service/%REQUESTED_SERVER_NAME%"}
			})
		}, "", chain, ""},
		{"by names of all clusters, to which nothing else leads", func(s *snapshot) {
			s.names(func(v *filterstate.FilterStateValue) {
				v.GetFormatString().GetTextFormatSource().Specifier = &core.DataSource_InlineString{InlineString: "service/%REQUESTED_SERVER_NAME%"}
			})
			edit(s.t, s.chain("entrypoint-https", "by-name").Filters[1].GetTypedConfig(), func(p *tcpproxy.TcpProxy) {
				p.ClusterSpecifier = &tcpproxy.TcpProxy_Cluster{Cluster: "service/"}
			})
		}, "", chain, "clusters service/..."},
		{"by the bare name", func(s *snapshot) {
			s.names(func(v *filterstate.FilterStateValue) {
				v.GetFormatString().GetTextFormatSource().Specifier = &core.DataSource_InlineString{InlineString: "%REQUESTED_SERVER_NAME%"}
			})
		}, "", chain, "any address"},
		{"by who calls", func(s *snapshot) {
			s.names(func(v *filterstate.FilterStateValue) {
				v.GetFormatString().GetTextFormatSource().Specifier = &core.DataSource_InlineString{InlineString: "to/%DOWNSTREAM_REMOTE_ADDRESS%"}
			})
		}, "", chain, "any address"},
		{"by its name to any address", func(s *snapshot) {
			s.names(func(v *filterstate.FilterStateValue) {
				v.Key = &filterstate.FilterStateValue_ObjectKey{ObjectKey: "envoy.upstream.dynamic_host"}
			})
		}, "", chain, "any address"},
		{"said of connections for upstreams as well", func(s *snapshot) {
			s.names(func(v *filterstate.FilterStateValue) {
				v.SharedWithUpstream = filterstate.FilterStateValue_ONCE
			})
		}, "", []string{"listener entrypoint-https", "filter_chains by-name", "filters", "on_new_connection", "shared_with_upstream"}, ""},
		{"a cluster named, and nothing led to it", func(s *snapshot) {
			c := s.chain("entrypoint-https", "by-name")
			c.Filters = append(c.Filters[:1], s.chain("entrypoint-https", "forbidden").Filters...)
		}, "", chain, ""},
		{"by their name once more, what a peer passed on", func(s *snapshot) {
			l := s.listener("inward")
			l.FilterChains = append(l.FilterChains, clone(s.chain("entrypoint-https", "by-name")))
		}, "", []string{"listener peers", "listener inward", "chain by-name"}, ""},
		{"by their name on the way to a peer", func(s *snapshot) {
			s.listener("pass/nl").FilterChains = append(s.listener("pass/nl").FilterChains[:0], clone(s.chain("entrypoint-https", "by-name")))
		}, "dutch", []string{"listener entrypoint-https", "chain pass/nl", "listener pass/nl", "chain by-name"}, "clusters to/..."},
	}
}

// TestLedByName holds that what the translation makes of a host outside the table
// is lawful, and that callers of it reach what they should.
func TestLedByName(t *testing.T) {
	w := mutantWorld(t)
	s := open(t, w.snapshot())
	s.led("dutch.example.com", "pass/nl")
	s.led("catalog.example.com", "inward")
	s.table("entrypoint-https", func(m *xdsmatcher.ServerNameMatcher) {
		s.forget(m, "dutch.example.com")
		s.forget(m, "catalog.example.com")
	})
	c := proof.NewChecker(w.book())
	p := c.Propose(proof.Change{Set: s.resources(), Instances: w.observed()})
	if found := p.Violations(); len(found) > 0 {
		t.Fatalf("got\n%s", lines(found))
	}
	if err := p.Commit(); err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string]proof.WayKind{"vault.example.com": proof.ToAnswer, "dutch.example.com": proof.ToPeer, "catalog.example.com": proof.ToKey} {
		if !slices.ContainsFunc(c.Reach(host), func(way proof.Way) bool {
			return way.Kind == want && slices.Contains(way.Path, "chain by-name") && slices.Contains(way.Path, "cluster to/"+host)
		}) {
			t.Errorf("%s: no way by its name to a %s: %v", host, want, ways(c.Reach(host)))
		}
	}
	if found := (lawbook{w}).unlawful(c); len(found) > 0 {
		t.Errorf("callers reach %+v", found)
	}
}

// TestFormerHosts holds that a host which nobody has any more may stay in the table
// as long as the book remembers whose it was, and only as that service's.
func TestFormerHosts(t *testing.T) {
	w := mutantWorld(t)
	before := w.model.Services
	dutch := before[slices.IndexFunc(before, func(s polder.Service) bool { return s.Name == "dutch" })]
	gone := w
	gone.model = &polder.Model{Regions: w.model.Regions, Services: slices.DeleteFunc(slices.Clone(before), func(s polder.Service) bool { return s.Name == "dutch" })}
	set := w.snapshot()
	site := gone.site()
	check := func(former map[string]polder.Service) []proof.Violation {
		site.Former = former
		c := proof.NewChecker(w.book())
		if err := c.Propose(proof.Change{Set: set, Instances: w.observed()}).Commit(); err != nil {
			t.Fatal(err)
		}
		return c.Propose(proof.Change{Book: proof.NewBook(gone.model, site), Instances: map[polder.ServiceName][]polder.Endpoint{"dutch": nil}}).Violations()
	}
	if found := check(map[string]polder.Service{"dutch.example.com": dutch}); len(found) > 0 {
		t.Errorf("remembered: got\n%s", lines(found))
	}
	if found := check(nil); len(found) == 0 {
		t.Error("forgotten: the name of nobody may be passed on")
	}
	polish := dutch
	polish.Residency.Allow = []polder.Place{"pl"}
	if found := check(map[string]polder.Service{"dutch.example.com": polish}); len(found) == 0 {
		t.Error("remembered as another's: the name is passed on where that one may not be")
	}
	vault := dutch
	vault.Residency.Elsewhere = polder.Refuse
	if found := check(map[string]polder.Service{"dutch.example.com": vault}); len(found) == 0 {
		t.Error("remembered as one that refuses: the name is passed on")
	}
}
