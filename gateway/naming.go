package gateway

import (
	"context"
	"fmt"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway/dns"
	"github.com/polder/polder/gateway/metrics"
	"github.com/polder/polder/regions"
	"github.com/polder/polder/regions/gossip"
	"github.com/polder/polder/regions/law"
)

// connectDNS makes the server of DNS queries, if the region has one.
func (r *Region) connectDNS() error {
	if r.listen.DNS == "" {
		return nil
	}
	at, err := bindAddress(r.listen.DNS)
	if err != nil {
		return fmt.Errorf("region %s: address of DNS is %q: %w; write it like 192.0.2.1:53 or :53", r.options.Region, r.listen.DNS, err)
	}
	r.dns = dns.New(dns.Options{
		Region: r.options.Region, Listen: at, Log: r.options.Log,
		Asked: func(name polder.ServiceName) { r.reconciler.Queried(r.context(), name) },
	})
	return nil
}

// serveDNS answers queries, if the region does.
func (r *Region) serveDNS(ctx context.Context) error {
	if r.dns == nil {
		return nil
	}
	return r.dns.Run(ctx)
}

// describeWorld tells DNS to where callers may be sent. A region that cannot take
// callers now gets none from this moment on, while the law still waits whether it
// comes back.
func (r *Region) describeWorld(m *polder.Model, snapshot *gossip.Snapshot, s surroundings) {
	if r.dns != nil {
		r.dns.Update(dns.World{
			Here: r.options.Region, Model: m, Alive: s.health,
			Usable: snapshot.View.Health, Unsteady: snapshot.View.Unsteady, Now: time.Now(), Others: s.others, Peers: living(snapshot.Peers),
		})
	}
}

// living counts the peers of each region that are not gone.
func living(peers []regions.Peer) map[polder.RegionName]int {
	count := map[polder.RegionName]int{}
	for _, p := range peers {
		if p.Standing == regions.Alive {
			count[p.Row.Region]++
		}
	}
	return count
}

func (r *Region) dnsReading() metrics.DNS {
	if r.dns == nil {
		return metrics.DNS{}
	}
	c := r.dns.Counters()
	return metrics.DNS{
		Queries: map[string]uint64{"udp": c.Packets, "tcp": c.Streams}, Answers: c.Answers, Truncated: c.Truncated,
		Limited: map[string]uint64{"udp": c.Limited, "tcp": c.Refused}, Malformed: c.Garbage,
		Wakes: map[string]uint64{"heard": c.Wakes, "ignored": c.Unheard},
	}
}

// Queried tells that somebody asked where a service is, and was told: here. A
// connection may follow, and the service wakes in the meantime, where the law lets
// it run in this region. A resolver that only fills its cache looks the same, so
// that queries which no request follows are ignored for longer and longer.
func (r *reconciler) Queried(ctx context.Context, name polder.ServiceName) {
	r.announced(ctx, name, signQuery)
}

// announced wakes a service that sleeps, unless such signs of its have proved
// wrong.
func (r *reconciler) announced(ctx context.Context, name polder.ServiceName, sign func(*service) *hello) {
	r.post(ctx, func(now time.Time) { r.announce(name, sign, now) })
}

func (r *reconciler) announce(name polder.ServiceName, sign func(*service) *hello, now time.Time) {
	s := r.services[name]
	if s != nil && s.spec.Run != nil && sign(s) != &s.hello {
		r.passOn(s, now)
	}
	if s == nil || s.spec.Run == nil || s.approved.Verdict() != law.Serve || s.spec.Scale.Prewarm == polder.PrewarmOff {
		return
	}
	if s.countAll().Warm() > 0 || !sign(s).heard(now) {
		return
	}
	s.expected, s.noticed = now, causeOf(s, sign)
	r.step(s, now)
}
