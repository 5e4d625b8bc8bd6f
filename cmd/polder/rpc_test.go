package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
)

// beRPC makes the test binary be an instance that speaks gRPC, and listens only
// after the duration in it.
const beRPC = "TEST_IS_RPC"

// rpcWaits makes that instance answer as calls do.
const rpcWaits = "TEST_RPC_WAITS"

// rpc answers the four kinds of calls.
type rpc struct {
	testgrpc.UnimplementedTestServiceServer
}

// runRPC is an instance whose start takes the duration.
func runRPC(after string) int {
	pause, err := time.ParseDuration(after)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	<-time.After(pause) // this is the program's start, not a wait of a test
	listener, err := net.Listen("tcp", "127.0.0.1:"+os.Getenv("PORT"))
	if err == nil {
		var service testgrpc.TestServiceServer = rpc{}
		if os.Getenv(rpcWaits) != "" {
			service = &calls{gate: make(chan struct{})}
		}
		server := grpc.NewServer()
		testgrpc.RegisterTestServiceServer(server, service)
		err = server.Serve(listener)
	}
	fmt.Fprintln(os.Stderr, err)
	return 1
}

func (rpc) UnaryCall(ctx context.Context, in *testgrpc.SimpleRequest) (*testgrpc.SimpleResponse, error) {
	grpc.SetTrailer(ctx, metadata.Pairs("trailing", "metadata"))
	return &testgrpc.SimpleResponse{Payload: in.Payload}, nil
}

func (rpc) StreamingInputCall(stream testgrpc.TestService_StreamingInputCallServer) error {
	total := 0
	for {
		in, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return stream.SendAndClose(&testgrpc.StreamingInputCallResponse{AggregatedPayloadSize: int32(total)})
		}
		if err != nil {
			return err
		}
		total += len(in.GetPayload().GetBody())
	}
}

func (rpc) StreamingOutputCall(in *testgrpc.StreamingOutputCallRequest, stream testgrpc.TestService_StreamingOutputCallServer) error {
	for _, p := range in.ResponseParameters {
		if err := stream.Send(&testgrpc.StreamingOutputCallResponse{Payload: body(int(p.Size))}); err != nil {
			return err
		}
	}
	return nil
}

func (rpc) FullDuplexCall(stream testgrpc.TestService_FullDuplexCallServer) error {
	for {
		in, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := stream.Send(&testgrpc.StreamingOutputCallResponse{Payload: in.Payload}); err != nil {
			return err
		}
	}
}

func body(size int) *testgrpc.Payload {
	return &testgrpc.Payload{Body: []byte(strings.Repeat("x", size))}
}

// dialRPC is a client of a service through the entrypoint of fr.
func (u *fleetUnderTest) dialRPC(t *testing.T, host string) testgrpc.TestServiceClient {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+u.listen["fr"].HTTPS, grpc.WithAuthority(host),
		grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: u.roots, ServerName: host})))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return testgrpc.NewTestServiceClient(conn)
}

// rpcKinds are the four kinds of calls, each far past what a window holds.
var rpcKinds = map[string]func(context.Context, testgrpc.TestServiceClient) error{
	"unary": func(ctx context.Context, c testgrpc.TestServiceClient) error {
		var trailer metadata.MD
		out, err := c.UnaryCall(ctx, &testgrpc.SimpleRequest{Payload: body(1 << 20)}, grpc.Trailer(&trailer))
		if err != nil || len(out.Payload.Body) != 1<<20 || fmt.Sprint(trailer["trailing"]) != "[metadata]" {
			return fmt.Errorf("%d bytes, trailer %v, %w", len(out.GetPayload().GetBody()), trailer, err)
		}
		return nil
	},
	"client stream": func(ctx context.Context, c testgrpc.TestServiceClient) error {
		stream, err := c.StreamingInputCall(ctx)
		if err != nil {
			return err
		}
		for range 10 {
			if err := stream.Send(&testgrpc.StreamingInputCallRequest{Payload: body(100_000)}); err != nil {
				return err
			}
		}
		out, err := stream.CloseAndRecv()
		if err != nil || out.AggregatedPayloadSize != 1_000_000 {
			return fmt.Errorf("%v, %w", out, err)
		}
		return nil
	},
	"server stream": func(ctx context.Context, c testgrpc.TestServiceClient) error {
		in := new(testgrpc.StreamingOutputCallRequest)
		for range 10 {
			in.ResponseParameters = append(in.ResponseParameters, &testgrpc.ResponseParameters{Size: 100_000})
		}
		stream, err := c.StreamingOutputCall(ctx, in)
		if err != nil {
			return err
		}
		for i := range 10 {
			if out, err := stream.Recv(); err != nil || len(out.Payload.Body) != 100_000 {
				return fmt.Errorf("message %d: %d bytes, %w", i, len(out.GetPayload().GetBody()), err)
			}
		}
		if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
			return fmt.Errorf("at the end: %w", err)
		}
		return nil
	},
	"both ways": func(ctx context.Context, c testgrpc.TestServiceClient) error {
		stream, err := c.FullDuplexCall(ctx)
		if err != nil {
			return err
		}
		for i := range 10 { // each answer before the next message
			if err := talk(stream, i+1); err != nil {
				return err
			}
		}
		if err := stream.CloseSend(); err != nil {
			return err
		}
		if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
			return fmt.Errorf("at the end: %w", err)
		}
		return nil
	},
}

// talk sends a message of that size on a stream, and wants it back.
func talk(stream testgrpc.TestService_FullDuplexCallClient, size int) error {
	if err := stream.Send(&testgrpc.StreamingOutputCallRequest{Payload: body(size)}); err != nil {
		return err
	}
	if out, err := stream.Recv(); err != nil || len(out.Payload.Body) != size {
		return fmt.Errorf("%d bytes came back of %d, %w", len(out.GetPayload().GetBody()), size, err)
	}
	return nil
}
