package server

import (
	"context"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/polder/polder"
)

// Identity is who a client has proved to be.
type Identity struct {
	Region polder.RegionName
	Node   string
}

// Guard holds what streams say of their node against who their client has
// proved to be. who finds that out from the connection; its error, and a claim
// that differs, end the stream as PermissionDenied before anything of its
// request is looked at. refused is told, and must return at once.
func Guard(who func(context.Context) (Identity, error), refused func(ctx context.Context, claim Identity, reason error)) grpc.StreamServerInterceptor {
	return func(service any, wire grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
		guarded := &guardedStream{ServerStream: wire}
		guarded.check = func(n *core.Node) error {
			claim := Identity{Region: polder.RegionName(n.GetLocality().GetRegion()), Node: n.GetId()}
			is, err := who(wire.Context())
			switch {
			case err != nil:
			case n == nil && !guarded.introduced:
				err = status.Error(codes.InvalidArgument, "the first request names no node")
			case n != nil && claim != is:
				err = status.Errorf(codes.PermissionDenied, "says that it is node %q of region %q; its certificate is for node %q of region %q",
					claim.Node, claim.Region, is.Node, is.Region)
			default:
				guarded.introduced = true
				return nil
			}
			refused(wire.Context(), claim, err)
			if _, coded := status.FromError(err); coded {
				return err
			}
			return status.Error(codes.PermissionDenied, err.Error())
		}
		return handle(service, guarded)
	}
}

// guardedStream checks every message that it hands on.
type guardedStream struct {
	grpc.ServerStream
	introduced bool // only the receiving goroutine's
	check      func(*core.Node) error
}

func (g *guardedStream) RecvMsg(message any) error {
	if err := g.ServerStream.RecvMsg(message); err != nil {
		return err
	}
	speaker, ok := message.(interface{ GetNode() *core.Node })
	if !ok {
		return status.Error(codes.Unimplemented, "a message without a node")
	}
	return g.check(speaker.GetNode())
}
