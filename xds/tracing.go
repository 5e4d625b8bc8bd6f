package xds

import (
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	trace "github.com/envoyproxy/go-control-plane/envoy/config/trace/v3"
	hcm "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	samplers "github.com/envoyproxy/go-control-plane/envoy/extensions/tracers/opentelemetry/samplers/v3"
	percent "github.com/envoyproxy/go-control-plane/envoy/type/v3"
)

const (
	// HeaderTrace tells the activator what the caller said of its trace, behind
	// CallersTrace: where Envoy traces, it writes the traceparent header itself.
	HeaderTrace = "x-polder-trace"
	// CallersTrace begins the value of that header. Nothing follows it when the
	// caller said nothing.
	CallersTrace = "caller="

	// untracedChains begins the names of filter chains whose requests nobody traces.
	untracedChains = "untraced/"
)

// tracing lets Envoy make a span of each request that its caller traces, and of no
// other. Envoy chooses first, and here chooses all; then the sampler follows the
// caller's choice, and takes a share of nothing where there is none. Spans go to
// this region's Polder, which knows where they may be kept; nothing else is told of
// them.
func tracing() *hcm.HttpConnectionManager_Tracing {
	return &hcm.HttpConnectionManager_Tracing{
		ClientSampling:  &percent.Percent{}, // a header of Envoy's own says nothing
		RandomSampling:  &percent.Percent{Value: 100},
		OverallSampling: &percent.Percent{Value: 100},
		Provider: &trace.Tracing_Http{Name: "envoy.tracers.opentelemetry", ConfigType: &trace.Tracing_Http_TypedConfig{
			TypedConfig: packed(&trace.OpenTelemetryConfig{GrpcService: controlPlane(), ServiceName: "polder", Sampler: &core.TypedExtensionConfig{
				Name: "envoy.tracers.opentelemetry.samplers.parent_based",
				TypedConfig: packed(&samplers.ParentBasedSamplerConfig{WrappedSampler: &core.TypedExtensionConfig{
					Name:        "envoy.tracers.opentelemetry.samplers.trace_id_ratio_based",
					TypedConfig: packed(&samplers.TraceIdRatioBasedSamplerConfig{SamplingPercentage: &percent.FractionalPercent{}}),
				}}),
			}})}},
	}
}

// callersTrace keeps what the caller said, before Envoy says something else.
func callersTrace() *core.HeaderValueOption {
	return overwrite(HeaderTrace, CallersTrace+"%REQ(TRACEPARENT)%")
}
