package activator_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway/activator"
	"github.com/polder/polder/internal/grpctest"
)

// tester answers one message with all that a whole answer may have, and streams as
// any service does.
type tester struct {
	grpctest.Service
}

func payload(text string) *testgrpc.Payload { return &testgrpc.Payload{Body: []byte(text)} }

func (tester) UnaryCall(ctx context.Context, in *testgrpc.SimpleRequest) (*testgrpc.SimpleResponse, error) {
	sent, _ := metadata.FromIncomingContext(ctx)
	for name := range sent {
		if strings.HasPrefix(name, "x-polder-") {
			return nil, status.Errorf(codes.Internal, "the instance sees %s", name)
		}
	}
	grpc.SetHeader(ctx, metadata.Pairs("initial", "metadata"))
	grpc.SetTrailer(ctx, metadata.Pairs("trailing", "metadata", "raw-bin", "\x00\x01"))
	if s := in.GetResponseStatus(); s != nil {
		return nil, status.Error(codes.Code(s.Code), s.Message)
	}
	return &testgrpc.SimpleResponse{Payload: in.Payload}, nil
}

// grpcInstance runs the test service as an instance until the returned function is called.
func grpcInstance(t *testing.T) (to activator.Target, kill func()) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	testgrpc.RegisterTestServiceServer(server, tester{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		server.Serve(listener)
	}()
	kill = func() {
		server.Stop()
		<-done
	}
	t.Cleanup(kill)
	return target(listener.Addr(), polder.HTTP2), kill
}

func (r *rig) grpc() testgrpc.TestServiceClient {
	r.t.Helper()
	conn, err := grpc.NewClient("unix:"+r.socket, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithAuthority("svc.example.com"))
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { conn.Close() })
	return testgrpc.NewTestServiceClient(conn)
}

func grpcContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return metadata.AppendToOutgoingContext(ctx, "x-polder-service", "svc", "x-request-id", "req-1")
}

// Each of the four kinds begins while the service sleeps.
func TestGRPC(t *testing.T) {
	large := strings.Repeat("0123456789abcdef", 128<<10) // 2 MiB, past the windows
	kinds := maps.Clone(grpctest.Kinds)
	maps.Copy(kinds, map[string]func(context.Context, testgrpc.TestServiceClient) error{
		"unary": func(ctx context.Context, c testgrpc.TestServiceClient) error {
			var header, trailer metadata.MD
			out, err := c.UnaryCall(ctx, &testgrpc.SimpleRequest{Payload: payload(large)}, grpc.Header(&header), grpc.Trailer(&trailer))
			if err != nil {
				return err
			}
			if string(out.Payload.Body) != large || fmt.Sprint(header["initial"], trailer["trailing"], trailer["raw-bin"]) != "[metadata] [metadata] [\x00\x01]" {
				return fmt.Errorf("%d bytes, header %v, trailer %v", len(out.Payload.Body), header, trailer)
			}
			return nil
		},
		"a status": func(ctx context.Context, c testgrpc.TestServiceClient) error {
			const text = "no ☃ here\n"
			_, err := c.UnaryCall(ctx, &testgrpc.SimpleRequest{ResponseStatus: &testgrpc.EchoStatus{Code: int32(codes.NotFound), Message: text}})
			if s, _ := status.FromError(err); s.Code() != codes.NotFound || s.Message() != text {
				return fmt.Errorf("got %v", err)
			}
			return nil
		},
		"a status without anything else": func(ctx context.Context, c testgrpc.TestServiceClient) error {
			if _, err := c.EmptyCall(ctx, &testgrpc.Empty{}); status.Code(err) != codes.Unimplemented {
				return fmt.Errorf("got %v", err)
			}
			return nil
		},
	})
	for name, call := range kinds {
		t.Run(name, func(t *testing.T) {
			w := newWakes()
			r := newRig(t, options(w.wake))
			to, _ := grpcInstance(t)
			done := make(chan error, 1)
			go func() { done <- call(grpcContext(t), r.grpc()) }()
			w.next(t).succeed(to)
			if err := receive(t, done, "the end of the call"); err != nil {
				t.Error(err)
			}
			r.idle()
			if s := r.stats("svc"); s.Cold != 1 || len(s.Failed) != 0 {
				t.Errorf("counted %+v", s)
			}
		})
	}
}

// A status that is the whole answer stays one: header and end of the stream come
// together, however the goroutines that send them are scheduled.
func TestGRPCStatusWithoutAnythingElseEndsTheStream(t *testing.T) {
	to, _ := grpcInstance(t)
	r := newRig(t, options(at(to)))
	caller, ctx := r.grpc(), grpcContext(t)
	var calls errgroup.Group
	calls.SetLimit(32)
	for range 2000 {
		calls.Go(func() error {
			if _, err := caller.EmptyCall(ctx, &testgrpc.Empty{}); status.Code(err) != codes.Unimplemented {
				return fmt.Errorf("got %v", err)
			}
			return nil
		})
	}
	if err := calls.Wait(); err != nil {
		t.Error(err)
	}
	r.idle()
}

func TestGRPCRefusalIsAStatus(t *testing.T) {
	r := newRig(t, options(func(context.Context, polder.ServiceName, activator.Cause) (activator.Target, error) {
		return activator.Target{}, &activator.Failure{Reason: activator.OverBudget, Err: errors.New("secret")}
	}))
	var header metadata.MD
	_, err := r.grpc().UnaryCall(grpcContext(t), &testgrpc.SimpleRequest{Payload: payload("x")}, grpc.Header(&header))
	s, _ := status.FromError(err)
	if s.Code() != codes.Unavailable || !strings.Contains(s.Message(), "over-budget") || strings.Contains(s.Message(), "secret") {
		t.Errorf("got %v", err)
	}
	r.idle()
}

func TestGRPCCallerIsToldThatTheInstanceDied(t *testing.T) {
	to, kill := grpcInstance(t)
	r := newRig(t, options(at(to)))
	stream, err := r.grpc().StreamingInputCall(grpcContext(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&testgrpc.StreamingInputCallRequest{Payload: payload("one")}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is forwarded", func() bool { return r.stats("svc").Forwarding == 1 })
	kill() // and the caller neither sends nor ends
	if err := stream.RecvMsg(new(testgrpc.StreamingInputCallResponse)); status.Code(err) != codes.Unavailable {
		t.Errorf("got %v", err)
	}
	r.idle()
}
