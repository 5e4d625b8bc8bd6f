package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"

	testgrpc "google.golang.org/grpc/interop/grpc_testing"

	"github.com/polder/polder/internal/grpctest"
)

// calls answers gRPC calls as [grpctest.Service] does, except that those with one request wait for
// the gate, until somebody has called EmptyCall.
type calls struct {
	grpctest.Service
	gate chan struct{}
}

// EmptyCall opens the gate.
func (c *calls) EmptyCall(context.Context, *testgrpc.Empty) (*testgrpc.Empty, error) {
	close(c.gate)
	return new(testgrpc.Empty), nil
}

// wait waits for the gate.
func (c *calls) wait(ctx context.Context) error {
	select {
	case <-c.gate:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// UnaryCall answers when the gate is open.
func (c *calls) UnaryCall(ctx context.Context, in *testgrpc.SimpleRequest) (*testgrpc.SimpleResponse, error) {
	return &testgrpc.SimpleResponse{Payload: in.Payload}, c.wait(ctx)
}

// StreamingOutputCall sends at once, and once more when the gate is open.
func (c *calls) StreamingOutputCall(in *testgrpc.StreamingOutputCallRequest, stream testgrpc.TestService_StreamingOutputCallServer) error {
	out := &testgrpc.StreamingOutputCallResponse{Payload: in.Payload}
	return errors.Join(stream.Send(out), c.wait(stream.Context()), stream.Send(out))
}

// TestCallsThatBeganColdOutlivePolder begins a gRPC call of each kind while the
// service sleeps. All are at the instance before long, by way of Envoy alone, and
// go on to their end when Polder is killed.
func TestCallsThatBeganColdOutlivePolder(t *testing.T) {
	u := startUp(t, "testdata/calls.yaml")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	client := u.dialRPC(t, "calls.example.com")
	payload := &testgrpc.Payload{Body: []byte("payload")}

	type answer struct {
		out *testgrpc.SimpleResponse
		err error
	}
	unary := make(chan answer, 1)
	go func() {
		out, err := client.UnaryCall(ctx, &testgrpc.SimpleRequest{Payload: payload})
		unary <- answer{out, err}
	}()
	output, err := client.StreamingOutputCall(ctx, &testgrpc.StreamingOutputCallRequest{Payload: payload})
	must(err)
	input, err := client.StreamingInputCall(ctx)
	must(err)
	must(input.Send(&testgrpc.StreamingInputCallRequest{Payload: payload}))
	duplex, err := client.FullDuplexCall(ctx)
	must(err)
	echo := func() {
		t.Helper()
		if err := duplex.Send(&testgrpc.StreamingOutputCallRequest{Payload: payload}); err != nil {
			t.Fatal(err)
		}
		if out, err := duplex.Recv(); err != nil || !bytes.Equal(out.Payload.Body, payload.Body) {
			t.Fatalf("both ways: %v, %v", out, err)
		}
	}
	echo()
	if _, err := output.Recv(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "all four have moved", func() bool {
		moved := map[string]bool{} // one may be moved more than once
		for _, r := range u.why(t, "calls").Requests {
			if !r.Moved {
				t.Fatalf("a call stays with Polder: %+v", r)
			}
			moved[r.ID] = true
		}
		return len(moved) == 4 && u.service("fr", "calls").Open == 4
	})
	before := u.mustStatus("fr")
	u.kill(before.PID)
	u.wantGone(map[int]string{before.PID: "region fr"})

	echo()
	must(input.Send(&testgrpc.StreamingInputCallRequest{Payload: payload}))
	if in, err := input.CloseAndRecv(); err != nil || int(in.AggregatedPayloadSize) != 2*len(payload.Body) {
		t.Errorf("a stream to the service: %v, %v", in, err)
	}
	if _, err := client.EmptyCall(ctx, new(testgrpc.Empty)); err != nil {
		t.Fatal(err)
	}
	if a := <-unary; a.err != nil || !bytes.Equal(a.out.Payload.Body, payload.Body) {
		t.Errorf("a call: %v", a)
	}
	if _, err := output.Recv(); err != nil {
		t.Errorf("a stream from the service: %v", err)
	}
	if _, err := output.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("its end: %v", err)
	}
	must(duplex.CloseSend())
	if _, err := duplex.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("the end of both ways: %v", err)
	}
}

// TestUploadsMoveWhole sends as fast as it can while its service starts and while
// the stream moves, again and again: whatever Envoy had taken in by then, all of it
// arrives, once.
func TestUploadsMoveWhole(t *testing.T) {
	u := startUp(t, "testdata/calls.yaml")
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	client := u.dialRPC(t, "uploads.example.com")
	const messages = 300
	message := &testgrpc.StreamingInputCallRequest{Payload: &testgrpc.Payload{Body: bytes.Repeat([]byte("0123456789abcdef"), 1<<10)}}
	moved := uint64(0)
	for round := range 12 {
		eventually(t, "uploads sleeps", func() bool { return len(u.service("fr", "uploads").Instances) == 0 })
		stream, err := client.StreamingInputCall(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for range messages {
			if stream.Send(message) != nil {
				break // CloseAndRecv says why
			}
		}
		in, err := stream.CloseAndRecv()
		if want := messages * len(message.Payload.Body); err != nil || int(in.AggregatedPayloadSize) != want {
			t.Fatalf("round %d: %d of %d bytes arrived, %v", round, in.GetAggregatedPayloadSize(), want, err)
		}
	}
	for _, r := range u.why(t, "uploads").Requests {
		if r.Moved {
			moved++
		}
	}
	if moved == 0 {
		t.Error("none has moved")
	}
}
