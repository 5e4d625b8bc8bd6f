package convergence

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/polder/polder/gateway/authority"
	"github.com/polder/polder/xds"
)

// FanOut is what one change costs with many Envoys on one control plane. The
// fakes run in the same process, so CPU and memory are of both sides.
type FanOut struct {
	Envoys    int           `json:"envoys"`
	Services  int           `json:"services"`
	Changes   int           `json:"changes"`
	ColdStart time.Duration `json:"cold_start"` // of all together
	ToACK     Spread        `json:"to_ack"`     // of all
	Bytes     float64       `json:"bytes"`      // per Envoy and change
	CPU       time.Duration `json:"cpu"`        // per Envoy and change
	PerEnvoy  int64         `json:"bytes_per_envoy"`
}

// fanOut connects fake Envoys to one server and changes one service's endpoints.
func fanOut(ctx context.Context, o Options) (*FanOut, error) {
	dir, err := os.MkdirTemp("", "polder-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	f := fleet{gateway: xds.Gateway{Region: region, Activator: filepath.Join(dir, "activator.sock")}}
	for i := range f.origins {
		f.origins[i] = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(1+i))
	}
	p := newPolderShape(f.gateway, f.origins[0], f.origins, authority.Pair{})
	if err := p.put(f.services(o.FanOut)...); err != nil {
		return nil, err
	}
	socket := filepath.Join(dir, "xds.sock")
	w, stop, err := serveControl(socket, p.register)
	if err != nil {
		return nil, err
	}
	defer stop()
	heap := liveHeap()
	ctx, cancel := context.WithCancel(ctx)
	var fakes errgroup.Group
	defer func() { cancel(); fakes.Wait() }() //nolint:errcheck // ended by cancel
	has := make(chan error, 2*o.Envoys)
	began := time.Now()
	for i := range o.Envoys {
		fakes.Go(func() error {
			err := fakeEnvoy(ctx, socket, fmt.Sprintf("fake-%d", i), o.FanOut, has)
			if err != nil {
				has <- err
			}
			return err
		})
	}
	for range o.Envoys {
		select {
		case err := <-has:
			if err != nil {
				return nil, err
			}
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	result := &FanOut{Envoys: o.Envoys, Services: o.FanOut, ColdStart: time.Since(began)}
	result.PerEnvoy = (liveHeap() - heap) / int64(o.Envoys)
	var toACK []time.Duration
	bytes, cpu := w.total(), ownCPU()
	for i := range o.Changes {
		start := time.Now()
		if err := p.putEndpoints(f.at(f.service(0), i+1)); err != nil {
			return nil, err
		}
		deadline, stop := context.WithTimeout(ctx, effectLimit)
		err := p.settled(deadline)
		stop()
		if err != nil {
			return nil, err
		}
		toACK = append(toACK, time.Since(start))
	}
	per := len(toACK) * o.Envoys
	result.Changes, result.ToACK = len(toACK), spread(toACK)
	result.Bytes = float64(w.total()-bytes) / float64(per)
	result.CPU = (ownCPU() - cpu) / time.Duration(per)
	o.progress("fan-out to %d Envoys: all acknowledge after %.1f ms", o.Envoys, ms(result.ToACK.P50))
	return result, nil
}

// fakeEnvoy accepts everything that it is sent, until ctx ends. It tells has
// when it has the clusters and endpoints of all services.
func fakeEnvoy(ctx context.Context, socket, name string, services int, has chan<- error) error {
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)))
	if err != nil {
		return err
	}
	defer conn.Close()
	stream, err := discovery.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
	if err != nil {
		return err
	}
	if err := stream.Send(&discovery.DeltaDiscoveryRequest{Node: &core.Node{Id: name}, TypeUrl: xds.TypeCluster}); err != nil {
		return err
	}
	endpoints := 0
	for {
		r, err := stream.Recv()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("fake Envoy %s: %w", name, err)
		}
		answer := &discovery.DeltaDiscoveryRequest{TypeUrl: r.TypeUrl, ResponseNonce: r.Nonce}
		if err := stream.Send(answer); err != nil {
			return err
		}
		switch {
		case r.TypeUrl == xds.TypeCluster:
			subscribe := &discovery.DeltaDiscoveryRequest{TypeUrl: xds.TypeEndpoint}
			for _, c := range r.Resources {
				if _, ok := xds.ClusterService(c.Name); ok {
					subscribe.ResourceNamesSubscribe = append(subscribe.ResourceNamesSubscribe, c.Name)
				}
			}
			if err := stream.Send(subscribe); err != nil {
				return err
			}
		case endpoints < services:
			if endpoints += len(r.Resources); endpoints >= services {
				has <- nil
			}
		}
	}
}
