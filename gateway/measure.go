package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway/activator"
	"github.com/polder/polder/gateway/metrics"
	"github.com/polder/polder/prewarm"
	"github.com/polder/polder/regions/law"
	"github.com/polder/polder/xds/server"
)

func (r *Region) connectMetrics() (err error) {
	if err := checkMetricsAddress(r.options.Metrics); err != nil {
		return err
	}
	r.metrics, err = metrics.New(metrics.Options{
		Region: r.options.Region, Peer: r.options.Peer, Version: r.options.Version, Read: r.reading,
	})
	return err
}

// checkMetricsAddress lets only this machine read: names and rhythms of services
// are nobody else's business.
func checkMetricsAddress(address string) error {
	if address == "" {
		return nil
	}
	a, err := netip.ParseAddrPort(address)
	if err == nil && !a.Addr().IsLoopback() {
		err = errors.New("not an address of this machine alone")
	}
	if err != nil {
		return fmt.Errorf("address of the metrics is %q: %w; write it like 127.0.0.1:9464", address, err)
	}
	return nil
}

// serveMetrics serves the metrics on the address that the options name, if they do.
func (r *Region) serveMetrics(ctx context.Context) error {
	if r.options.Metrics == "" {
		<-ctx.Done()
		return nil
	}
	listener, err := net.Listen("tcp", r.options.Metrics)
	if err != nil {
		return fmt.Errorf("metrics: %w", err)
	}
	r.options.Log.Info("metrics are served", "address", listener.Addr().String())
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", r.metrics)
	return serveHTTP(ctx, listener, mux)
}

// observeCold is told by the activator of each cold request.
func (r *Region) observeCold(c activator.ColdRequest) {
	phases := make([]metrics.Phase, 0, 7)
	for _, step := range c.Phases.Steps() {
		phases = append(phases, metrics.Phase{Name: step.Name, Took: step.Took})
	}
	if c.Class == activator.Saturation {
		return // it waited for room, not for a start
	}
	r.metrics.Cold(c.Phases.Total(), string(c.Reason), phases)
	r.traceCold(c)
}

// reading gathers what the metrics tell.
func (r *Region) reading(ctx context.Context) (metrics.Reading, error) {
	status, err := r.Status(ctx)
	if err != nil {
		return metrics.Reading{}, err
	}
	stats := r.activator.Stats()
	activated := map[polder.ServiceName]activator.ServiceStats{}
	for _, s := range stats.Services {
		activated[s.Service] = s
	}
	reading := metrics.Reading{
		Forwarded: stats.Forwarding, Nodes: connectedNodes(status.Nodes), Restarts: status.Envoy.Restarts,
		Faults: len(status.Config.Faults), Loaded: status.Config.Loaded, Peers: countPeers(status.Peers), Gossip: r.gossipReading(), DNS: r.dnsReading(),
	}
	costs, err := r.Cost(ctx)
	if err != nil {
		return metrics.Reading{}, err
	}
	accounts := map[polder.ServiceName]Account{}
	for _, a := range costs.Services {
		accounts[a.Service] = a
	}
	for _, s := range status.Services {
		if s.Verdict == law.Serve { // the others have no figures here
			reading.Services = append(reading.Services, r.named(serviceReading(s, activated[s.Service], accounts[s.Service])))
		}
	}
	for _, c := range stats.Classes {
		reading.Holding = append(reading.Holding, metrics.Holding{
			Class: string(c.Class), Requests: c.Held, MaxRequests: c.Budget.Held, HeldBytes: c.Bytes, MaxBytes: c.Budget.Bytes})
	}
	for _, c := range r.server.Counters() {
		reading.Discovery = append(reading.Discovery, metrics.Discovery{
			Type: c.Type[strings.LastIndexByte(c.Type, '.')+1:], Pushed: c.Pushed, Accepted: c.Accepted, Rejected: c.Rejected})
	}
	for _, n := range status.Nodes {
		reading.Rejected += len(n.Rejections)
	}
	return reading, nil
}

func connectedNodes(list []server.NodeStatus) int {
	n := 0
	for _, node := range list {
		if !node.Since.IsZero() && !node.Client {
			n++
		}
	}
	return n
}

func serviceReading(s ServiceStatus, a activator.ServiceStats, money Account) metrics.Service {
	m := metrics.Service{
		Name: s.Service, Direct: s.Totals.Direct, Activated: s.Totals.Activated, Failed: s.Totals.Failed, Cold: s.Totals.Cold,
		Waited: s.Totals.Saturated, Saturated: s.Saturated != "",
		Unanswered: byName(a.Failed), Brief: byName(a.Brief), Starts: s.Totals.Starts, Crashes: s.Totals.Crashes, Resumes: s.Totals.Resumes, Open: s.Open, Waiting: s.Waiting,
		Spent: money.Spent.Money("").Micros, Rung: int(money.Step),
	}
	if money.Limit != nil {
		m.Budget = money.Limit.Money("").Micros
	}
	if x := s.Shadow; x != nil {
		m.Scored = []metrics.Scored{scoredBy("acting", x.Acting), scoredBy("shadow", x.Shadow)}
	}
	for _, i := range s.Instances {
		switch i.State {
		case polder.Starting:
			m.Starting++
		case polder.Ready:
			m.Ready++
		case polder.Draining:
			m.Draining++
		case polder.Paused:
			m.Paused++
		}
	}
	return m
}

func scoredBy(policy string, s prewarm.Score) metrics.Scored {
	return metrics.Scored{Policy: policy, Active: s.Active, Cold: s.Cold, Starts: s.Starts,
		Warm: int64(s.Warm.Seconds()), Idle: int64(s.Idle.Seconds()), Cost: s.Cost.Money("").Micros}
}

// byName has the keys as labels.
func byName[K ~string](counts map[K]uint64) map[string]uint64 {
	out := make(map[string]uint64, len(counts))
	for name, n := range counts {
		out[string(name)] = n
	}
	return out
}

// countPeers counts by region, in the order of the peers.
func countPeers(peers []PeerStatus) []metrics.Peers {
	var list []metrics.Peers
	at := map[polder.RegionName]int{}
	for _, p := range peers {
		i, ok := at[p.Region]
		if !ok {
			i = len(list)
			at[p.Region] = i
			list = append(list, metrics.Peers{Region: p.Region})
		}
		if p.Healthy {
			list[i].Healthy++
		} else {
			list[i].Unhealthy++
		}
	}
	return list
}

func (r *Region) gossipReading() metrics.Gossip {
	c := r.gossip.Counters()
	return metrics.Gossip{Packets: c.Packets, Bytes: c.Bytes, Dropped: map[string]uint64{
		"malformed": c.Malformed, "unknown-format": c.UnknownFormat, "undecryptable": c.Undecryptable, "overflow": c.Overflow,
		"refused": c.Refused, "conflict": c.Conflicts, "stranger": c.Strangers, "unproven": c.Unproven, "table-full": c.TableFull,
		"raised": c.Raised, "contradicted": c.Contradicted, "undelivered": c.Undelivered,
	}}
}
