package grpctest

import (
	"context"
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
)

// Kinds are the four kinds of calls by name, each far past what a window holds.
// They fail with what came instead of the answers of [Service].
var Kinds = map[string]func(context.Context, testgrpc.TestServiceClient) error{
	"unary": func(ctx context.Context, c testgrpc.TestServiceClient) error {
		var trailer metadata.MD
		out, err := c.UnaryCall(ctx, &testgrpc.SimpleRequest{Payload: Payload(1 << 20)}, grpc.Trailer(&trailer))
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
			if err := stream.Send(&testgrpc.StreamingInputCallRequest{Payload: Payload(100_000)}); err != nil {
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
			if err := Talk(stream, i+1); err != nil {
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

// Talk sends a message of that size on a stream, and wants it back.
func Talk(stream testgrpc.TestService_FullDuplexCallClient, size int) error {
	if err := stream.Send(&testgrpc.StreamingOutputCallRequest{Payload: Payload(size)}); err != nil {
		return err
	}
	if out, err := stream.Recv(); err != nil || len(out.Payload.Body) != size {
		return fmt.Errorf("%d bytes came back of %d, %w", len(out.GetPayload().GetBody()), size, err)
	}
	return nil
}
