package grpctest

import (
	"bytes"
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
)

// Service answers the four kinds of calls. It has no state, so what embeds it may
// answer some of them otherwise.
type Service struct {
	testgrpc.UnimplementedTestServiceServer
}

// UnaryCall answers with what was sent, and the trailer "trailing: metadata".
func (Service) UnaryCall(ctx context.Context, in *testgrpc.SimpleRequest) (*testgrpc.SimpleResponse, error) {
	grpc.SetTrailer(ctx, metadata.Pairs("trailing", "metadata"))
	return &testgrpc.SimpleResponse{Payload: in.Payload}, nil
}

// StreamingInputCall answers with how many bytes were sent in all.
func (Service) StreamingInputCall(stream testgrpc.TestService_StreamingInputCallServer) error {
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

// StreamingOutputCall sends a message of each size that was asked for.
func (Service) StreamingOutputCall(in *testgrpc.StreamingOutputCallRequest, stream testgrpc.TestService_StreamingOutputCallServer) error {
	for _, p := range in.ResponseParameters {
		if err := stream.Send(&testgrpc.StreamingOutputCallResponse{Payload: Payload(int(p.Size))}); err != nil {
			return err
		}
	}
	return nil
}

// FullDuplexCall sends each message back.
func (Service) FullDuplexCall(stream testgrpc.TestService_FullDuplexCallServer) error {
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

// Payload is one of so many bytes.
func Payload(size int) *testgrpc.Payload {
	return &testgrpc.Payload{Body: bytes.Repeat([]byte("x"), size)}
}
