package xds

import (
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	ratelimitconfig "github.com/envoyproxy/go-control-plane/envoy/config/ratelimit/v3"
	limits "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	ratelimit "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/ratelimit/v3"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/polder/polder"
)

const (
	// HelloDomain is the domain of the questions by which Envoy tells of
	// ClientHellos.
	HelloDomain = "polder/hello"
	// HelloName is the key of the entry that has the name in one.
	HelloName = "server-name"

	// helloAnswer bounds how long a connection's first request waits for the
	// answer to that question. It is answered at once, or not at all.
	helloAnswer = 20 * time.Millisecond
)

// tellsHello tells whether a ClientHello shall wake a service whose key is
// resident. For all others Envoy asks for the key by then, which tells as much.
func tellsHello(s polder.Service) bool {
	return s.Run != nil && s.Scale.Prewarm != polder.PrewarmOff
}

// helloFilter tells Polder the name in a ClientHello as soon as it is there: the
// handshake goes on meanwhile. It is a question whether the connection is one
// too many, which nobody ever says it is. Without an answer the connection
// goes on as if there had been one.
func helloFilter(stat string) *listener.Filter {
	return networkFilter("envoy.filters.network.ratelimit", &ratelimit.RateLimit{
		StatPrefix: stat,
		Domain:     HelloDomain,
		Descriptors: []*limits.RateLimitDescriptor{{Entries: []*limits.RateLimitDescriptor_Entry{
			{Key: HelloName, Value: "%REQUESTED_SERVER_NAME%"}}}},
		Timeout:          durationpb.New(helloAnswer),
		RateLimitService: &ratelimitconfig.RateLimitServiceConfig{TransportApiVersion: core.ApiVersion_V3, GrpcService: controlPlane()},
	})
}
