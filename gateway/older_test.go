package gateway

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/polder/polder"
	"github.com/polder/polder/xds"
	"github.com/polder/polder/xds/server"
)

// TestScopesOfAnOlderPolder gives a real Envoy scopes as an older Polder named them,
// and then a newer Polder in its place, while callers call on kept connections: Envoy
// accepts the new ones, nothing of the old is left, and no request is lost.
//
// One that comes in the moment of the change may be told 421, which asks its caller to
// send it anew (RFC 9110, 15.5.20): two scopes may not have one host, so both names are in
// one message, and Envoy takes the old ones from each worker before it gives it the new.
func TestScopesOfAnOlderPolder(t *testing.T) {
	origin := namingOrigin(t)
	var services []polder.Service
	for i := range 20 {
		name := fmt.Sprintf("s%02d", i)
		services = append(services, polder.Service{Name: polder.ServiceName(name), Hosts: []polder.Host{polder.Host(name + ".example.com")}, Timeout: time.Minute,
			Residency: polder.Residency{Allow: []polder.Place{"fr"}, Failover: polder.Failover{Class: polder.FailoverClosed}},
			Endpoints: map[polder.RegionName][]netip.AddrPort{"fr": {netip.MustParseAddrPort(origin.Listener.Addr().String())}}})
	}
	ca, roots := newCA(t)
	p := newPlace(t, "fr", ca, services)
	now := p.resources(services, polder.RegionHealth{"fr": true})
	var before []xds.Resource
	for _, r := range now {
		if r.Type == xds.TypeScope {
			r.Name = "older/" + r.Name
			r = edited(t, r, func(s *route.ScopedRouteConfiguration) { s.Name = r.Name })
		}
		before = append(before, r)
	}
	p.server.Apply(before, nil)
	p.startEnvoy(t)

	var lost, served, misdirected atomic.Int64
	var by [4]atomic.Int64 // served, of each caller
	var changed atomic.Bool
	ctx, stop := context.WithCancel(context.Background())
	var callers sync.WaitGroup
	for i, s := range services[:len(by)] {
		host := string(s.Hosts[0])
		client := &http.Client{Timeout: patience, Transport: &http.Transport{
			TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: host}, MaxIdleConnsPerHost: 1,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "tcp", p.node.HTTPS.String())
			}}}
		defer client.CloseIdleConnections()
		callers.Go(func() {
			for ctx.Err() == nil {
				late := changed.Load()
				response, err := client.Get("https://" + host + "/")
				if err != nil {
					t.Errorf("call %s: %v", host, err)
					return
				}
				_, err = io.Copy(io.Discard, response.Body)
				switch {
				case err == nil && response.StatusCode == http.StatusMisdirectedRequest && !late:
					misdirected.Add(1) // the next call is the same one again
				case err != nil || response.StatusCode != http.StatusOK:
					lost.Add(1)
					t.Errorf("call %s: %s %v", host, response.Status, err)
				}
				response.Body.Close()
				served.Add(1)
				by[i].Add(1)
			}
		})
	}
	eventually(t, "callers are served", func() bool { return served.Load() > 40 })

	p.stopControl()
	p.server = server.New(server.Options{Log: slog.New(slog.DiscardHandler), Secret: p.secret})
	p.server.Apply(now, nil)
	p.startControl(t)
	eventually(t, "Envoy has the scopes of this version, and no others", func() bool {
		held := p.server.Held("fr-1")
		scopes := 0
		for key := range held.Versions {
			if key.Type == xds.TypeScope {
				scopes++
			}
		}
		return held.Connected && held.Settled && scopes == len(services)
	})
	for _, node := range p.server.Nodes() {
		for _, r := range node.Rejections {
			t.Errorf("Envoy rejected %s %s: %s", r.Type, r.Name, r.Reason)
		}
	}
	// Each worker has made the change when it has answered to calls that followed it.
	for range 2 {
		for i := range by {
			after := by[i].Load()
			eventually(t, "callers are served on", func() bool { return by[i].Load() > after+10 })
		}
		changed.Store(true)
	}
	stop()
	callers.Wait()
	if lost.Load() > 0 {
		t.Errorf("%d of %d requests were lost", lost.Load(), served.Load())
	}
	if few := misdirected.Load(); few > 20 {
		t.Errorf("%d of %d requests were to be sent anew: that is no moment", few, served.Load())
	}
}
