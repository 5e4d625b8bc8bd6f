package proof_test

import (
	"path/filepath"
	"slices"
	"testing"
	"time"

	accesslog "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	ratelimitconfig "github.com/envoyproxy/go-control-plane/envoy/config/ratelimit/v3"
	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	filelog "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/file/v3"
	grpclog "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/grpc/v3"
	aggregate "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/aggregate/v3"
	limits "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	hcm "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	ratelimit "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/ratelimit/v3"
	tcpproxy "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	rawbuffer "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/raw_buffer/v3"
	tls "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	matcher "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	percent "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/polder/polder/xds/proof"
)

// variant is something that the translation does not say today and that breaks
// no law.
type variant struct {
	name   string
	change func(s *snapshot)
}

func lawfulVariants() []variant {
	return []variant{
		{"weighted clusters and a mirror that stay with the service", func(s *snapshot) {
			a := s.action("billing")
			a.ClusterSpecifier = &route.RouteAction_WeightedClusters{WeightedClusters: &route.WeightedCluster{Clusters: []*route.WeightedCluster_ClusterWeight{
				{Name: "service/billing", Weight: wrapperspb.UInt32(9)}, {Name: "canary", Weight: wrapperspb.UInt32(1)}}}}
			a.RequestMirrorPolicies = []*route.RouteAction_RequestMirrorPolicy{{Cluster: "canary",
				RuntimeFraction: &core.RuntimeFractionalPercent{DefaultValue: &percent.FractionalPercent{Numerator: 1, Denominator: percent.FractionalPercent_MILLION}}}}
			a.RetryPolicy.PerTryTimeout = durationpb.New(time.Second)
			a.RetryPolicy.RetriableHeaders = []*route.HeaderMatcher{{Name: "x-again"}}
			canary := staticCluster("canary", socketAt("127.0.0.1", 20002))
			canary.TransportSocket = &core.TransportSocket{Name: "clear", ConfigType: &core.TransportSocket_TypedConfig{TypedConfig: pack(s.t, &rawbuffer.RawBuffer{})}}
			canary.CircuitBreakers = &cluster.CircuitBreakers{Thresholds: []*cluster.CircuitBreakers_Thresholds{{
				Priority: core.RoutingPriority_HIGH, MaxRetries: wrapperspb.UInt32(3), TrackRemaining: true}}}
			s.add(canary)
		}},
		{"a cluster made of the service's own", func(s *snapshot) {
			s.action("billing").ClusterSpecifier = &route.RouteAction_Cluster{Cluster: "all"}
			s.add(&cluster.Cluster{Name: "all", CommonLbConfig: calm(), LbPolicy: cluster.Cluster_CLUSTER_PROVIDED,
				ClusterDiscoveryType: &cluster.Cluster_ClusterType{ClusterType: &cluster.Cluster_CustomClusterType{
					Name: "envoy.clusters.aggregate", TypedConfig: pack(s.t, &aggregate.ClusterConfig{Clusters: []string{"service/billing"}})}}})
		}},
		{"endpoints under another name, and weights", func(s *snapshot) {
			s.cluster("service/billing").EdsClusterConfig.ServiceName = "instances"
			a := s.assignment("service/billing")
			delete(s.messages, proof.Key{Type: "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment", Name: "service/billing"})
			a.ClusterName = "instances"
			a.Endpoints[0].LoadBalancingWeight = wrapperspb.UInt32(1)
			a.Endpoints[0].Locality.SubZone = "rack"
			a.Endpoints[0].LbEndpoints[0].LoadBalancingWeight = wrapperspb.UInt32(1)
			a.Endpoints[0].LbEndpoints[0].HealthStatus = core.HealthStatus_DRAINING
			s.add(a)
		}},
		{"hosts that are diverted, and names of nobody with them", func(s *snapshot) {
			s.divert("billing.example.com", "dutch.example.com", "nobody.example.com")
			s.led("billing.example.com", "inward")
			s.led("dutch.example.com", "pass/nl")
		}},
		{"a service that sleeps", func(s *snapshot) {
			s.assignment("service/billing").Endpoints = s.assignment("service/billing").Endpoints[1:]
		}},
		{"access logs to this node's Polder and to a file of the book", func(s *snapshot) {
			s.manager("entrypoint-https", "serve", func(h *hcm.HttpConnectionManager) {
				h.AccessLog = append(h.AccessLog,
					&accesslog.AccessLog{Name: "polder", ConfigType: &accesslog.AccessLog_TypedConfig{TypedConfig: pack(s.t, &grpclog.HttpGrpcAccessLogConfig{
						CommonConfig: &grpclog.CommonGrpcAccessLogConfig{LogName: "requests", TransportApiVersion: core.ApiVersion_V3,
							GrpcService: local(), BufferFlushInterval: durationpb.New(time.Second), BufferSizeBytes: wrapperspb.UInt32(1 << 14)}})}})
				h.RequestTimeout = durationpb.New(time.Minute)
				h.CodecType = hcm.HttpConnectionManager_HTTP2
				h.ForwardClientCertDetails = hcm.HttpConnectionManager_APPEND_FORWARD
				h.ServerHeaderTransformation = hcm.HttpConnectionManager_PASS_THROUGH
				h.LocalReplyConfig.Mappers[0].StatusCode = wrapperspb.UInt32(503)
				h.LocalReplyConfig.Mappers[0].BodyFormatOverride = &core.SubstitutionFormatString{Format: &core.SubstitutionFormatString_JsonFormat{
					JsonFormat: &structpb.Struct{Fields: map[string]*structpb.Value{"a": structpb.NewBoolValue(true), "b": structpb.NewNumberValue(1),
						"c": structpb.NewStructValue(&structpb.Struct{Fields: map[string]*structpb.Value{"d": structpb.NewStringValue("%RESPONSE_CODE%")}})}}}}
			})
		}},
		{"requests noted in other words", func(s *snapshot) {
			s.manager("entrypoint-https", "logged/serve", func(h *hcm.HttpConnectionManager) {
				h.AccessLog = s.logTo(&filelog.FileAccessLog{Path: logFile, AccessLogFormat: &filelog.FileAccessLog_LogFormat{
					LogFormat: &core.SubstitutionFormatString{Format: &core.SubstitutionFormatString_TextFormatSource{
						TextFormatSource: inline("%START_TIME(%Y)% %REQ(:PATH):20% 100%%\n")}}}})
			})
		}},
		{"arrivals told to this node's Polder", func(s *snapshot) {
			c := s.chain("entrypoint-https", "serve")
			c.Filters = append([]*listener.Filter{s.filter("early", &ratelimit.RateLimit{StatPrefix: "early", Domain: "arrivals",
				Descriptors: []*limits.RateLimitDescriptor{{Entries: []*limits.RateLimitDescriptor_Entry{{Key: "sni", Value: "%REQUESTED_SERVER_NAME%"}}}},
				Timeout:     durationpb.New(time.Second), FailureModeDeny: true,
				RateLimitService: &ratelimitconfig.RateLimitServiceConfig{TransportApiVersion: core.ApiVersion_V3, GrpcService: local()}})}, c.Filters...)
			s.listener("entrypoint-https").StatPrefix = "public"
		}},
		{"requests chosen by path and header, redirected and answered", func(s *snapshot) {
			h := s.host("host/billing.example.com", "billing")
			h.Routes = append([]*route.Route{
				{Name: "login", Match: &route.RouteMatch{PathSpecifier: &route.RouteMatch_Path{Path: "/login"}, Headers: []*route.HeaderMatcher{{Name: "x",
					HeaderMatchSpecifier: &route.HeaderMatcher_StringMatch{StringMatch: &matcher.StringMatcher{MatchPattern: &matcher.StringMatcher_Exact{Exact: "y"}}}}}},
					Action: &route.Route_Redirect{Redirect: &route.RedirectAction{SchemeRewriteSpecifier: &route.RedirectAction_HttpsRedirect{HttpsRedirect: true}, PortRedirect: 8443}}},
			}, h.Routes...)
			h.Routes[2].RequestHeadersToAdd = []*core.HeaderValueOption{{Header: &core.HeaderValue{Key: "x-from", Value: "%DOWNSTREAM_REMOTE_ADDRESS%"}}}
			h.Routes[2].RequestHeadersToRemove = []string{"x-secret"}
			c := s.routes("host/billing.example.com")
			c.RequestHeadersToAdd, c.ResponseHeadersToAdd, c.RequestHeadersToRemove = h.Routes[2].RequestHeadersToAdd, h.Routes[2].RequestHeadersToAdd, []string{"x-other"}
		}},
		{"connections shared out among ways to one region", func(s *snapshot) {
			edit(s.t, s.chain("entrypoint-https", "pass/nl").Filters[0].GetTypedConfig(), func(p *tcpproxy.TcpProxy) {
				p.ClusterSpecifier = &tcpproxy.TcpProxy_WeightedClusters{WeightedClusters: &tcpproxy.TcpProxy_WeightedCluster{
					Clusters: []*tcpproxy.TcpProxy_WeightedCluster_ClusterWeight{{Name: "wrap/pass/nl", Weight: 1}}}}
			})
		}},
		{"a single peer", func(s *snapshot) {
			s.toPeers("pass/nl", func(c *tls.UpstreamTlsContext) {
				san := c.CommonTlsContext.GetCombinedValidationContext().DefaultValidationContext.MatchTypedSubjectAltNames[0]
				san.Matcher.MatchPattern = &matcher.StringMatcher_Exact{Exact: "spiffe://polder.test/region/nl/peer/nl-1"}
			})
		}},
		{"served hosts refused", func(s *snapshot) { s.lead("entrypoint-https", "catalog.example.com", "forbidden") }},
		{"served hosts passed on to another region that may have them", func(s *snapshot) { s.lead("entrypoint-https", "catalog.example.com", "pass/nl") }},
		{"nothing at all", func(s *snapshot) { clear(s.messages) }},
	}
}

func local() *core.GrpcService {
	g := toCluster("polder")
	g.Timeout = durationpb.New(time.Second)
	return g
}

// TestLawfulVariantsPass holds that the proof forbids no more than it must.
func TestLawfulVariantsPass(t *testing.T) {
	w := mutantWorld(t)
	good := w.snapshot()
	for _, v := range lawfulVariants() {
		t.Run(v.name, func(t *testing.T) {
			s := open(t, good)
			v.change(s)
			if found := w.check(s.resources()); len(found) > 0 {
				t.Errorf("got\n%s", lines(found))
			}
		})
	}
}

// TestEveryWordIsSpoken holds that the vocabulary has no word which no lawful
// snapshot of these tests says.
func TestEveryWordIsSpoken(t *testing.T) {
	spoken := map[string]map[string]bool{}
	hear := func(resources []proof.Resource) {
		for _, r := range resources {
			look(r, func(m protoreflect.Message) {
				name := string(m.Descriptor().FullName())
				if spoken[name] == nil {
					spoken[name] = map[string]bool{}
				}
				m.Range(func(f protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
					spoken[name][string(f.Name())] = true
					return true
				})
			})
		}
	}
	cases, err := filepath.Glob("../testdata/*/in.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, in := range cases {
		hear(readWorld(t, filepath.Base(filepath.Dir(in))).snapshot())
	}
	good := mutantWorld(t).snapshot()
	for _, v := range lawfulVariants() {
		s := open(t, good)
		v.change(s)
		hear(s.resources())
	}
	hear(remoteWorld(t).snapshot())
	hear(clientWorld(t).snapshot())
	hear(quicWorld(t).snapshot())
	hear([]proof.Resource{{Body: pack(t, goodBootstrap(t))}})
	for message, fields := range proof.Words() {
		if spoken[message] == nil {
			t.Errorf("nobody says %s", message)
			continue
		}
		slices.Sort(fields)
		for _, f := range fields {
			if !spoken[message][f] {
				t.Errorf("nobody says %s.%s", message, f)
			}
		}
	}
}
