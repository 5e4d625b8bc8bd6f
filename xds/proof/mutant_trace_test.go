package proof_test

import (
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	trace "github.com/envoyproxy/go-control-plane/envoy/config/trace/v3"
	router "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcm "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	customtag "github.com/envoyproxy/go-control-plane/envoy/type/tracing/v3"
	"google.golang.org/protobuf/proto"
)

// tracingBy is a manager's tracing by a provider.
func (s *snapshot) tracingBy(m proto.Message) *hcm.HttpConnectionManager_Tracing {
	return &hcm.HttpConnectionManager_Tracing{Provider: &trace.Tracing_Http{Name: "otel", ConfigType: &trace.Tracing_Http_TypedConfig{TypedConfig: pack(s.t, m)}}}
}

// traceMutants tell of requests in spans that nobody may have, or tell somebody
// who may not have them.
func traceMutants() []mutant {
	told := []string{"listener entrypoint-https", "chain serve", "tracing"}
	inManager := []string{"listener entrypoint-https", "filter_chains serve", "filters", "tracing"}
	by := func(change func(*trace.OpenTelemetryConfig)) func(*snapshot) {
		return func(s *snapshot) {
			s.add(staticCluster("traces", socketAt("203.0.113.9", 4317)))
			s.manager("entrypoint-https", "serve", func(h *hcm.HttpConnectionManager) {
				m := &trace.OpenTelemetryConfig{GrpcService: toCluster("polder"), ServiceName: "x"}
				change(m)
				h.Tracing = s.tracingBy(m)
			})
		}
	}
	edited := func(change func(*snapshot, *hcm.HttpConnectionManager_Tracing)) func(*snapshot) {
		return func(s *snapshot) {
			s.manager("entrypoint-https", "serve", func(h *hcm.HttpConnectionManager) { change(s, h.Tracing) })
		}
	}
	return []mutant{
		{"spans to a collector that the book does not know", by(func(m *trace.OpenTelemetryConfig) { m.GrpcService = toCluster("traces") }), "billing", told, "cluster traces"},
		{"spans past all clusters", by(func(m *trace.OpenTelemetryConfig) {
			m.GrpcService = &core.GrpcService{TargetSpecifier: &core.GrpcService_GoogleGrpc_{GoogleGrpc: &core.GrpcService_GoogleGrpc{TargetUri: "spans.example.org:4317", StatPrefix: "x"}}}
		}), "billing", inManager, "spans.example.org:4317"},
		{"spans by HTTP", by(func(m *trace.OpenTelemetryConfig) {
			m.GrpcService, m.HttpService = nil, &core.HttpService{HttpUri: &core.HttpUri{Uri: "http://203.0.113.9/v1/traces", HttpUpstreamType: &core.HttpUri_Cluster{Cluster: "traces"}}}
		}), "billing", inManager, "a tracer"},
		{"spans by code", by(func(m *trace.OpenTelemetryConfig) {
			m.Sampler = &core.TypedExtensionConfig{Name: "mine"}
		}), "billing", told, "a sink"},
		{"a tracer of unknown make", edited(func(s *snapshot, t *hcm.HttpConnectionManager_Tracing) {
			t.Provider = s.tracingBy(&router.Router{}).Provider
		}), "billing", told, "a sink"},
		{"spans that tell what was asked", edited(func(_ *snapshot, t *hcm.HttpConnectionManager_Tracing) {
			t.CustomTags = []*customtag.CustomTag{{Tag: "who", Type: &customtag.CustomTag_RequestHeader{RequestHeader: &customtag.CustomTag_Header{Name: "authorization"}}}}
		}), "billing", inManager, "a tracer"},
		{"spans with every event", edited(func(_ *snapshot, t *hcm.HttpConnectionManager_Tracing) { t.Verbose = true }), "billing", inManager, "a tracer"},
		{"spans of a route's own", func(s *snapshot) {
			s.host("host/billing.example.com", "billing").Routes[0].Tracing = &route.Tracing{}
		}, "billing", []string{"routes host/billing.example.com", "tracing"}, "a tracer"},
		{"spans of a service whose policy keeps none", func(s *snapshot) { s.lead("entrypoint-https", "untold.example.com", "serve") },
			"untold", []string{"listener entrypoint-https", "chain serve", "host untold.example.com"}, "a tracer"},
		{"spans of a service whose policy keeps none, as peers bring them", func(s *snapshot) {
			s.manager("inward", "serve", func(h *hcm.HttpConnectionManager) {
				h.Tracing = s.tracingBy(&trace.OpenTelemetryConfig{GrpcService: toCluster("polder"), ServiceName: "x"})
			})
			s.lead("inward", "untold.example.com", "serve")
		}, "untold", []string{"listener peers", "listener inward", "chain serve", "host untold.example.com"}, "a tracer"},
		{"spans in the chain that has none", func(s *snapshot) {
			s.manager("entrypoint-https", "untraced/serve", func(h *hcm.HttpConnectionManager) {
				h.Tracing = s.tracingBy(&trace.OpenTelemetryConfig{GrpcService: toCluster("polder"), ServiceName: "x"})
			})
		}, "untold", []string{"listener entrypoint-https", "chain untraced/serve", "host untold.example.com"}, "a tracer"},
		{"spans of plain HTTP", func(s *snapshot) {
			s.manager("entrypoint-http", "http", func(h *hcm.HttpConnectionManager) {
				h.Tracing = s.tracingBy(&trace.OpenTelemetryConfig{GrpcService: toCluster("polder"), ServiceName: "x"})
			})
		}, "", []string{"listener entrypoint-http", "chain"}, "cluster polder"},
	}
}
