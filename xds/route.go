package xds

import (
	"fmt"
	"slices"
	"strings"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	priorities "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/priority/previous_priorities/v3"
	matcher "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/polder/polder"
	"github.com/polder/polder/regions/law"
)

const (
	// strictTransport is sent with every answer: browsers then never try HTTP.
	strictTransport = "max-age=63072000"
	// streamIdle ends a request on which nothing moves for so long. The connection
	// manager says so, once for all routes.
	streamIdle = 5 * time.Minute
	// retryBase and retryMax bound Envoy's wait between tries of one request.
	retryBase = 25 * time.Millisecond
	retryMax  = time.Second
	// unsentRetries bound tries of a request of which nothing was sent: enough to
	// outlast a Polder that restarts. sentRetries also repeat what an instance
	// died of, so there are few.
	unsentRetries = 6
	sentRetries   = 2
	// callBase and callRetries are the same for gRPC calls, which cannot be told
	// from streams before they end: those that woke their service are all moved to
	// its instance by a retry. With a base of a millisecond Envoy sends the first at
	// once, in which time it takes in little of a body that nothing holds back.
	callBase    = time.Millisecond
	callRetries = 10
	// heldBody is the most that Envoy can have received of a request that the
	// activator holds over HTTP/2 without reading its body, in bytes, and all of which
	// it must have kept to send it again: the activator's window, what waits for that
	// in Envoy, the caller's window, and what Envoy may read between the two tries,
	// when nothing holds the caller back.
	heldBody = activatorWindow + streamWindow + streamWindow + readBetween
	// quicGrowth is how much larger the caller's window can be over HTTP/3, in bytes,
	// and as much again. It doubles with each update that comes soon after the one
	// before, and what is read of a held request, two windows, is worth two of these.
	quicGrowth = 2 * 3 * streamWindow
	// activatorWindow is how much of a body the activator accepts unread, in bytes.
	activatorWindow = 64 << 10
	// readBetween is twice what Envoy reads of a connection at a time, in bytes.
	readBetween = 2 * bufferLimit
	// Reasons of the activator after which a request may be sent again: always,
	// when it only held the request; by a safe method, when an instance died of it.
	activatorStopping       = "stopping"
	activatorMoved          = "moved" // a stream that began cold; nothing of it was sent either
	activatorInstanceFailed = "instance-failed"

	// A request for another host than the one that the connection was opened for was
	// sent to the wrong place: browsers reuse a connection for hosts that share a
	// certificate, and 421 (RFC 9110 section 15.5.20) makes them open another.
	statusMisdirected = 421
	reasonMisdirected = "misdirected"
	textMisdirected   = "this connection was opened for another host"
	// nothingSent is when a request of any method may be sent again: the instance got
	// nothing of it, or the activator says so.
	nothingSent = "connect-failure,refused-stream,reset-before-request,retriable-headers"
)

// hostScope leads the connections for one exact host to its routes. It never
// changes: what happens to a host is in its routes, so that a host moves from one
// service to another at one instant. A scope that changed would lead nowhere
// until Envoy has fetched the other routes.
func hostScope(host string) *route.ScopedRouteConfiguration {
	return &route.ScopedRouteConfiguration{
		Name:                   scopeOf(host),
		RouteConfigurationName: hostRoutes(host),
		Key: &route.ScopedRouteConfiguration_Key{Fragments: []*route.ScopedRouteConfiguration_Key_Fragment{{
			Type: &route.ScopedRouteConfiguration_Key_Fragment_StringKey{StringKey: host},
		}}},
	}
}

// routesOf leads an exact host to its service's cluster, on a connection that was
// opened for it. A request for any other host on this connection finds no route: see
// misdirectedReply. The service's other hosts are not here either, though they share
// its certificate: a host that comes, goes or moves would change the routes of them all.
func routesOf(host string, s polder.Service, g Gateway, a law.Approved) *route.RouteConfiguration {
	own := serviceHosts(s, []string{host}, g.HTTP3)
	if g.Traces && a.MayKeep(polder.RecordTraces) {
		own.RequestHeadersToAdd = append(own.RequestHeadersToAdd, callersTrace())
	}
	if g.HTTP3 && a.Resident() {
		own.ResponseHeadersToAdd = append(own.ResponseHeadersToAdd, advertised())
	}
	return &route.RouteConfiguration{Name: hostRoutes(host), VirtualHosts: []*route.VirtualHost{own}}
}

// serviceHosts leads hosts to their service. What is said of every service alike stands
// in the connection manager, so that this stays small.
func serviceHosts(s polder.Service, domains []string, http3 bool) *route.VirtualHost {
	// Methods that RFC 9110 section 9.2.1 calls safe may be sent again even when
	// the instance died halfway; all others only when nothing was sent.
	var first []*route.Route
	if tellsState(s) {
		first = append(first, stateRoute(s))
	}
	host := &route.VirtualHost{
		Name:    string(s.Name),
		Domains: domains,
		Routes: append(first,
			serviceRoute(s, "safe", safeMethods(), "reset,retriable-headers", sentRetries, // reset is all that the others are, and more
				activatorStopping, activatorMoved, activatorInstanceFailed),
			serviceRoute(s, "any", nil, nothingSent, unsentRetries, activatorStopping, activatorMoved),
		),
		RequestHeadersToAdd:    []*core.HeaderValueOption{overwrite(HeaderService, string(s.Name))},
		RequestHeadersToRemove: []string{headerHost},
	}
	if s.Protocol == polder.HTTP2 {
		call := serviceRoute(s, "call", isCall(), nothingSent, callRetries, activatorStopping, activatorMoved)
		call.GetRoute().RetryPolicy.RetryBackOff.BaseInterval = durationpb.New(callBase)
		host.Routes = slices.Insert(host.Routes, len(first), call)
		host.RequestBodyBufferLimit = wrapperspb.UInt64(heldBody)
		if http3 {
			host.RequestBodyBufferLimit = wrapperspb.UInt64(heldBody + quicGrowth)
		}
	}
	return host
}

// isCall matches gRPC.
func isCall() []*route.HeaderMatcher {
	return []*route.HeaderMatcher{{
		Name: "content-type",
		HeaderMatchSpecifier: &route.HeaderMatcher_StringMatch{StringMatch: &matcher.StringMatcher{
			MatchPattern: &matcher.StringMatcher_Prefix{Prefix: "application/grpc"}}},
	}}
}

func safeMethods() []*route.HeaderMatcher {
	return []*route.HeaderMatcher{{
		Name: ":method",
		HeaderMatchSpecifier: &route.HeaderMatcher_StringMatch{StringMatch: &matcher.StringMatcher{
			MatchPattern: &matcher.StringMatcher_SafeRegex{SafeRegex: &matcher.RegexMatcher{Regex: "GET|HEAD|OPTIONS"}}}},
	}}
}

func serviceRoute(s polder.Service, name string, headers []*route.HeaderMatcher, retryOn string, retries uint32, reasons ...string) *route.Route {
	return &route.Route{
		Name: name,
		Match: &route.RouteMatch{
			PathSpecifier: &route.RouteMatch_Prefix{Prefix: "/"},
			Headers:       headers,
		},
		Action: &route.Route_Route{Route: &route.RouteAction{
			ClusterSpecifier: &route.RouteAction_Cluster{Cluster: ServiceCluster(s.Name)},
			Timeout:          durationpb.New(s.Timeout),
			RetryPolicy: &route.RetryPolicy{
				RetryOn:          retryOn,
				NumRetries:       wrapperspb.UInt32(retries),
				RetriableHeaders: reasonIs(reasons),
				RetryBackOff: &route.RetryPolicy_RetryBackOff{
					BaseInterval: durationpb.New(retryBase), MaxInterval: durationpb.New(retryMax)},
				// The next try leaves the instances that failed and goes to the activator.
				RetryPriority: &route.RetryPolicy_RetryPriority{
					Name: "others", // any will do: the type of the configuration decides
					ConfigType: &route.RetryPolicy_RetryPriority_TypedConfig{TypedConfig: packed(
						&priorities.PreviousPrioritiesConfig{UpdateFrequency: 1})},
				},
			},
			ClusterNotFoundResponseCode: route.RouteAction_SERVICE_UNAVAILABLE,
		}},
	}
}

// reasonIs matches an answer that is labelled with one of the reasons.
func reasonIs(reasons []string) []*route.HeaderMatcher {
	return []*route.HeaderMatcher{{
		Name: HeaderReason,
		HeaderMatchSpecifier: &route.HeaderMatcher_StringMatch{StringMatch: &matcher.StringMatcher{
			MatchPattern: &matcher.StringMatcher_SafeRegex{SafeRegex: &matcher.RegexMatcher{Regex: strings.Join(reasons, "|")}}}},
	}}
}

// misdirected answers for these hosts and for all that nothing else matches.
func misdirected(hosts []string) *route.VirtualHost {
	return &route.VirtualHost{
		Name:    "misdirected",
		Domains: append([]string{"*"}, hosts...),
		Routes:  []*route.Route{reply(reasonMisdirected, statusMisdirected, reasonMisdirected, textMisdirected)},
	}
}

// reply answers at once with a status, a labelled reason and a JSON body.
func reply(name string, status uint32, reason, text string) *route.Route {
	return &route.Route{
		Name:  name,
		Match: &route.RouteMatch{PathSpecifier: &route.RouteMatch_Prefix{Prefix: "/"}},
		Action: &route.Route_DirectResponse{DirectResponse: &route.DirectResponseAction{
			Status: status,
			Body: &core.DataSource{Specifier: &core.DataSource_InlineString{
				InlineString: fmt.Sprintf("{\"error\":%q,\"reason\":%q}\n", text, reason)}},
		}},
		ResponseHeadersToAdd: []*core.HeaderValueOption{
			overwrite(HeaderReason, reason), overwrite("content-type", "application/json"),
		},
	}
}

// wildcardRoutes holds the services with wildcard hosts: a scope has an exact
// key, so these share one route configuration, matched by Envoy's own rules. A
// host of another service below one of the wildcards is not theirs to answer.
func wildcardRoutes(t hostTable, n NodeConfig) *route.RouteConfiguration {
	hosts := make([]*route.VirtualHost, 0, len(t.wildcards)+1)
	for _, s := range t.wildcards {
		own := serviceHosts(s.Service, plain(s.Hosts), n.HTTP3)
		if n.Traces && s.traced {
			own.RequestHeadersToAdd = append(own.RequestHeadersToAdd, callersTrace())
		}
		if n.HTTP3 && s.resident {
			own.ResponseHeadersToAdd = append(own.ResponseHeadersToAdd, advertised())
		}
		hosts = append(hosts, own)
	}
	return &route.RouteConfiguration{Name: routesWildcard, VirtualHosts: append(hosts, misdirected(t.captured))}
}

// plainRoutes answers on the HTTP port: a caller who is refused, or cannot be
// served, is told so in clear words; all others are sent to HTTPS on its port.
func plainRoutes(port uint16, refused refusedHosts) *route.RouteConfiguration {
	var hosts []*route.VirtualHost
	if len(refused.forbidden) > 0 {
		hosts = append(hosts, &route.VirtualHost{Name: "forbidden", Domains: refused.forbidden, Routes: []*route.Route{
			reply("forbidden", 451, "policy-refuses", "the owner of this service refuses callers in this region")}})
	}
	if len(refused.unavailable) > 0 {
		hosts = append(hosts, &route.VirtualHost{Name: "unavailable", Domains: refused.unavailable, Routes: []*route.Route{
			reply("unavailable", 503, "no-permitted-region", "no region that may serve this service is alive")}})
	}
	redirect := &route.RedirectAction{
		SchemeRewriteSpecifier: &route.RedirectAction_HttpsRedirect{HttpsRedirect: true},
		ResponseCode:           route.RedirectAction_PERMANENT_REDIRECT,
	}
	if port != 443 {
		redirect.PortRedirect = uint32(port)
	}
	hosts = append(hosts, &route.VirtualHost{Name: "to-https", Domains: append([]string{"*"}, refused.redirected...), Routes: []*route.Route{{
		Name:   "to-https",
		Match:  &route.RouteMatch{PathSpecifier: &route.RouteMatch_Prefix{Prefix: "/"}},
		Action: &route.Route_Redirect{Redirect: redirect},
	}}})
	return &route.RouteConfiguration{Name: routesHTTP, VirtualHosts: hosts}
}

func overwrite(name, value string) *core.HeaderValueOption {
	return &core.HeaderValueOption{
		Header:       &core.HeaderValue{Key: name, Value: value},
		AppendAction: core.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
	}
}
