package greeting

import (
	"context"

	ratelimit "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/grpc"

	"github.com/polder/polder/xds"
)

// Server answers the questions by which Envoys tell of ClientHellos.
type Server struct {
	ratelimit.UnimplementedRateLimitServiceServer
	heard func(name string)
}

// New makes a server that hands each name to heard.
func New(heard func(name string)) *Server { return &Server{heard: heard} }

// Register adds the service to a gRPC server.
func (s *Server) Register(to grpc.ServiceRegistrar) {
	ratelimit.RegisterRateLimitServiceServer(to, s)
}

// ShouldRateLimit says that nothing is too many, whatever is asked.
func (s *Server) ShouldRateLimit(_ context.Context, in *ratelimit.RateLimitRequest) (*ratelimit.RateLimitResponse, error) {
	if in.GetDomain() == xds.HelloDomain {
		for _, d := range in.GetDescriptors() {
			for _, e := range d.GetEntries() {
				if e.GetKey() == xds.HelloName && e.GetValue() != "" {
					s.heard(e.GetValue())
				}
			}
		}
	}
	return &ratelimit.RateLimitResponse{OverallCode: ratelimit.RateLimitResponse_OK}, nil
}
