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

	var lost, served atomic.Int64
	ctx, stop := context.WithCancel(context.Background())
	var callers sync.WaitGroup
	for _, s := range services[:4] {
		host := string(s.Hosts[0])
		client := &http.Client{Timeout: patience, Transport: &http.Transport{
			TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: host}, MaxIdleConnsPerHost: 1,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "tcp", p.node.HTTPS.String())
			}}}
		defer client.CloseIdleConnections()
		callers.Go(func() {
			for ctx.Err() == nil {
				response, err := client.Get("https://" + host + "/")
				if err != nil {
					t.Errorf("call %s: %v", host, err)
					return
				}
				if _, err := io.Copy(io.Discard, response.Body); err != nil || response.StatusCode != http.StatusOK {
					lost.Add(1)
					t.Errorf("call %s: %s %v", host, response.Status, err)
				}
				response.Body.Close()
				served.Add(1)
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
	after := served.Load()
	eventually(t, "callers are served on", func() bool { return served.Load() > after+40 })
	stop()
	callers.Wait()
	if lost.Load() > 0 {
		t.Errorf("%d of %d requests were lost", lost.Load(), served.Load())
	}
}
