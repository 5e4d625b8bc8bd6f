package xds

import (
	"strings"

	xdsmatcher "github.com/cncf/xds/go/xds/type/matcher/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	filterstate "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/common/set_filter_state/v3"
	setfilterstate "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/set_filter_state/v3"
	network "github.com/envoyproxy/go-control-plane/envoy/extensions/matching/common_inputs/network/v3"
)

// Hosts that the entrypoint's table has, and that are treated otherwise now, are
// diverted: connections for them are led by their names, as those for a host that came
// after the table was made. Who they are is a listener filter of its own, which Envoy
// fetches apart from the listener. The filter comes before the table, which so needs not
// be sent.

const (
	// fewDiverted is how many hosts may be diverted at once. A new connection costs
	// Envoy less than 0.1 us for each, and a change some 25 bytes.
	fewDiverted = 128
	// lingers is how long the cluster of a host stays that is not diverted any more. A
	// connection has the filter of when Envoy took it, and may say its name until helloTimeout.
	lingers = 2 * helloTimeout
	// filterDiverted is the name of the filter, and of the resource.
	filterDiverted = "diverted"
	// stateDiverted is where the filter says that a connection's name is one of them.
	stateDiverted = "polder.diverted"
)

// sayable tells whether a host of this name can be said to the filter, in whose
// expression names stand between quotes. A wildcard cannot.
func sayable(host string) bool {
	return !strings.ContainsFunc(host, func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '.'
	})
}

// divertedFilter marks the connections for some hosts, which are sorted.
func divertedFilter(hosts []string) *core.TypedExtensionConfig {
	marks := &setfilterstate.Config{}
	if len(hosts) > 0 {
		marks.OnAccept = []*filterstate.FilterStateValue{{
			Key:        &filterstate.FilterStateValue_ObjectKey{ObjectKey: stateDiverted},
			FactoryKey: "envoy.string",
			Value: &filterstate.FilterStateValue_FormatString{FormatString: &core.SubstitutionFormatString{
				Format: &core.SubstitutionFormatString_TextFormatSource{TextFormatSource: &core.DataSource{
					Specifier: &core.DataSource_InlineString{InlineString: "%CEL(connection.requested_server_name in ['" +
						strings.Join(hosts, "','") + "'] ? '" + chainByName + "' : '')%"}}}}},
			SkipIfEmpty: true,
		}}
	}
	return &core.TypedExtensionConfig{Name: filterDiverted, TypedConfig: packed(marks)}
}

// fetchDiverted has a listener fetch the filter. Until it is there no connection is
// taken: without it the table would lead hosts to where they do not go any more.
func fetchDiverted() *listener.ListenerFilter {
	return &listener.ListenerFilter{Name: filterDiverted, ConfigType: &listener.ListenerFilter_ConfigDiscovery{
		ConfigDiscovery: &core.ExtensionConfigSource{
			ConfigSource: ads(),
			TypeUrls:     []string{packed(&setfilterstate.Config{}).TypeUrl},
		}}}
}

// unlessDiverted chooses the chain for names that the table does not have if a connection
// is marked, and asks the table if not.
func unlessDiverted(table *xdsmatcher.Matcher) *xdsmatcher.Matcher {
	return &xdsmatcher.Matcher{
		MatcherType: &xdsmatcher.Matcher_MatcherTree_{MatcherTree: &xdsmatcher.Matcher_MatcherTree{
			Input: extension("diverted", &network.FilterStateInput{Key: stateDiverted}),
			TreeType: &xdsmatcher.Matcher_MatcherTree_ExactMatchMap{ExactMatchMap: &xdsmatcher.Matcher_MatcherTree_MatchMap{
				Map: map[string]*xdsmatcher.Matcher_OnMatch{chainByName: toChain(chainByName)}}},
		}},
		OnNoMatch: &xdsmatcher.Matcher_OnMatch{OnMatch: &xdsmatcher.Matcher_OnMatch_Matcher{Matcher: table}},
	}
}
