package convergence

import (
	"context"
	"net"
	"strings"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/stats"
)

// wire counts the bytes of discovery messages, gRPC's framing included. Load
// reports, which pass over the same socket, are no part of a change.
type wire struct {
	down, up atomic.Int64 // to Envoys and from them
}

// discoveryMethods are those of the aggregated discovery service.
const discoveryMethods = "/envoy.service.discovery.v3.AggregatedDiscoveryService/"

type discoveryCall struct{}

// TagRPC implements stats.Handler.
func (w *wire) TagRPC(ctx context.Context, info *stats.RPCTagInfo) context.Context {
	return context.WithValue(ctx, discoveryCall{}, strings.HasPrefix(info.FullMethodName, discoveryMethods))
}

// HandleRPC implements stats.Handler.
func (w *wire) HandleRPC(ctx context.Context, s stats.RPCStats) {
	if ours, _ := ctx.Value(discoveryCall{}).(bool); !ours {
		return
	}
	switch s := s.(type) {
	case *stats.OutPayload:
		w.down.Add(int64(s.WireLength))
	case *stats.InPayload:
		w.up.Add(int64(s.WireLength))
	}
}

// TagConn implements stats.Handler.
func (w *wire) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// HandleConn implements stats.Handler.
func (w *wire) HandleConn(context.Context, stats.ConnStats) {}

func (w *wire) total() int64 { return w.down.Load() + w.up.Load() }

// maxMessage bounds one message from an Envoy, as in production.
const maxMessage = 16 << 20

// serveControl serves what register registers on a Unix socket, until stop.
func serveControl(path string, register ...func(*grpc.Server)) (*wire, func(), error) {
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, nil, err
	}
	w := &wire{}
	g := grpc.NewServer(grpc.MaxRecvMsgSize(maxMessage), grpc.StatsHandler(w))
	for _, r := range register {
		r(g)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		g.Serve(l) //nolint:errcheck // ends with stop
	}()
	return w, func() { g.Stop(); <-ended }, nil
}
