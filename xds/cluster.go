package xds

import (
	"math"
	"time"

	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	upstreamhttp "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	percent "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/polder/polder"
)

const (
	// connectTimeout bounds a TCP connect to an instance on the same machine or network.
	connectTimeout = 2 * time.Second
	// longestEjection is how long an endpoint that accepts no connection again and
	// again is left out at most.
	longestEjection = 10 * time.Second
	// upstreamIdle closes idle connections to instances before the instance does:
	// popular servers close at 2 s (gunicorn) or 5 s (Node), and a request sent
	// into such a close is lost.
	upstreamIdle = 1500 * time.Millisecond
	// pendingRequests bounds what waits in Envoy for a connection, per service.
	pendingRequests = 4096
	// retriesAtOnce are the requests of a service that are repeated at the same time
	// before others go without. A stream that was moved counts until its answer begins,
	// and what Envoy does not repeat ends with an answer that is for Envoy alone: so
	// there are twice as many as the activator moves for one wake.
	retriesAtOnce = 2048
	// bufferLimit bounds what Envoy buffers per connection and direction, in bytes.
	bufferLimit = 32 << 10
)

func serviceCluster(s polder.Service) *cluster.Cluster {
	return &cluster.Cluster{
		Name:                          ServiceCluster(s.Name),
		ClusterDiscoveryType:          &cluster.Cluster_Type{Type: cluster.Cluster_EDS},
		EdsClusterConfig:              &cluster.Cluster_EdsClusterConfig{EdsConfig: ads()},
		ConnectTimeout:                durationpb.New(connectTimeout),
		PerConnectionBufferLimitBytes: wrapperspb.UInt32(bufferLimit),
		LbPolicy:                      cluster.Cluster_LEAST_REQUEST,
		CommonLbConfig:                noPanic(),
		CircuitBreakers:               breakers(),
		OutlierDetection:              connectEjection(longestEjection, 100),
		TypedExtensionProtocolOptions: map[string]*anypb.Any{
			"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": packed(httpOptions(s.Protocol)),
		},
	}
}

// noPanic switches panic routing off: an unhealthy endpoint is never tried
// merely because too many are unhealthy.
func noPanic() *cluster.Cluster_CommonLbConfig {
	return &cluster.Cluster_CommonLbConfig{HealthyPanicThreshold: &percent.Percent{Value: 0}}
}

// breakers bound a service's share of Envoy. The activator bounds what it holds
// by itself and more exactly.
func breakers() *cluster.CircuitBreakers {
	threshold := func(p core.RoutingPriority) *cluster.CircuitBreakers_Thresholds {
		return &cluster.CircuitBreakers_Thresholds{
			Priority:           p,
			MaxConnections:     wrapperspb.UInt32(pendingRequests),
			MaxPendingRequests: wrapperspb.UInt32(pendingRequests),
			MaxRequests:        wrapperspb.UInt32(2 * pendingRequests),
			RetryBudget: &cluster.CircuitBreakers_Thresholds_RetryBudget{
				BudgetPercent:       &percent.Percent{Value: 50},
				MinRetryConcurrency: wrapperspb.UInt32(retriesAtOnce),
			},
		}
	}
	return &cluster.CircuitBreakers{Thresholds: []*cluster.CircuitBreakers_Thresholds{threshold(core.RoutingPriority_DEFAULT)}}
}

// connectEjection takes an endpoint out as soon as connecting to it fails
// twice, for a second, and each time for a second longer; of all, at most so many
// percent. What the instance answers is its own affair and ejects nothing.
func connectEjection(longest time.Duration, most uint32) *cluster.OutlierDetection {
	never := func() *wrapperspb.UInt32Value { return wrapperspb.UInt32(0) }
	return &cluster.OutlierDetection{
		SplitExternalLocalOriginErrors:         true,
		ConsecutiveLocalOriginFailure:          wrapperspb.UInt32(2),
		EnforcingConsecutiveLocalOriginFailure: wrapperspb.UInt32(100),
		EnforcingConsecutive_5Xx:               never(),
		EnforcingConsecutiveGatewayFailure:     never(),
		EnforcingSuccessRate:                   never(),
		EnforcingLocalOriginSuccessRate:        never(),
		Interval:                               durationpb.New(time.Second),
		BaseEjectionTime:                       durationpb.New(time.Second),
		MaxEjectionTime:                        durationpb.New(longest),
		MaxEjectionPercent:                     wrapperspb.UInt32(most),
	}
}

func httpOptions(p polder.Protocol) *upstreamhttp.HttpProtocolOptions {
	options := &upstreamhttp.HttpProtocolOptions{
		CommonHttpProtocolOptions: &core.HttpProtocolOptions{IdleTimeout: durationpb.New(upstreamIdle)},
	}
	explicit := &upstreamhttp.HttpProtocolOptions_ExplicitHttpConfig{}
	if p == polder.HTTP2 {
		explicit.ProtocolConfig = &upstreamhttp.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions{
			Http2ProtocolOptions: &core.Http2ProtocolOptions{
				MaxConcurrentStreams:        wrapperspb.UInt32(math.MaxInt16),
				InitialStreamWindowSize:     wrapperspb.UInt32(streamWindow),
				InitialConnectionWindowSize: wrapperspb.UInt32(connectionWindow),
			}}
	} else {
		explicit.ProtocolConfig = &upstreamhttp.HttpProtocolOptions_ExplicitHttpConfig_HttpProtocolOptions{
			HttpProtocolOptions: &core.Http1ProtocolOptions{EnableTrailers: true}}
	}
	options.UpstreamProtocolOptions = &upstreamhttp.HttpProtocolOptions_ExplicitHttpConfig_{ExplicitHttpConfig: explicit}
	return options
}

// ads says that a resource comes over the one aggregated stream.
func ads() *core.ConfigSource {
	return &core.ConfigSource{
		ResourceApiVersion:    core.ApiVersion_V3,
		ConfigSourceSpecifier: &core.ConfigSource_Ads{Ads: &core.AggregatedConfigSource{}},
	}
}
