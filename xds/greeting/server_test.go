package greeting_test

import (
	"net"
	"slices"
	"testing"

	limits "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	ratelimit "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/polder/polder/xds"
	"github.com/polder/polder/xds/greeting"
)

// TestWhateverIsAskedIsAllowed asks over the wire: what is not a ClientHello is
// answered all the same, and heard by nobody.
func TestWhateverIsAskedIsAllowed(t *testing.T) {
	var heard []string
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	control := grpc.NewServer()
	greeting.New(func(name string) { heard = append(heard, name) }).Register(control)
	ended := make(chan error, 1)
	go func() { ended <- control.Serve(listener) }()
	defer func() { control.Stop(); <-ended }()
	conn, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	question := func(domain string, pairs ...string) *ratelimit.RateLimitRequest {
		d := &limits.RateLimitDescriptor{}
		for i := 0; i < len(pairs); i += 2 {
			d.Entries = append(d.Entries, &limits.RateLimitDescriptor_Entry{Key: pairs[i], Value: pairs[i+1]})
		}
		return &ratelimit.RateLimitRequest{Domain: domain, Descriptors: []*limits.RateLimitDescriptor{d}}
	}
	for _, q := range []*ratelimit.RateLimitRequest{
		question(xds.HelloDomain, xds.HelloName, "Shop.example.com"), question(xds.HelloDomain), {},
		question(xds.HelloDomain, xds.HelloName, ""), question(xds.HelloDomain, "other", "x"), question("other", xds.HelloName, "x"),
	} {
		answer, err := ratelimit.NewRateLimitServiceClient(conn).ShouldRateLimit(t.Context(), q)
		if err != nil || answer.OverallCode != ratelimit.RateLimitResponse_OK {
			t.Errorf("%v: got %v, %v", q, answer, err)
		}
	}
	if !slices.Equal(heard, []string{"Shop.example.com"}) {
		t.Errorf("heard %q", heard)
	}
}
