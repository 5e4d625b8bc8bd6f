package cold

import (
	"bytes"
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/polder/polder"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestRelay carries bytes both ways, all of them, in order, none before half a
// round trip, and the end of one direction without the other's.
func TestRelay(t *testing.T) {
	const rtt = 20 * time.Millisecond
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	relay, err := newRelay(server.Addr().String(), rtt)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	ended := make(chan struct{})
	go func() { defer close(ended); relay.run(ctx) }()

	sent := bytes.Repeat([]byte("0123456789"), 100_000)
	answered := make(chan error, 1)
	go func() {
		conn, err := server.Accept()
		if err == nil {
			defer conn.Close()
			_, err = io.Copy(conn, conn) // until the caller's end
		}
		answered <- err
	}()
	conn, err := net.Dial("tcp", relay.address())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	began := time.Now()
	go func() {
		conn.Write(sent) // what is lost is missed below
		conn.(*net.TCPConn).CloseWrite()
	}()
	got, err := io.ReadAll(conn)
	if err != nil || !bytes.Equal(got, sent) {
		t.Errorf("%d of %d bytes came back, %v", len(got), len(sent), err)
	}
	if took := time.Since(began); took < rtt {
		t.Errorf("a round trip took %s, less than %s", took, rtt)
	}
	if err := <-answered; err != nil {
		t.Error(err)
	}
	cancel()
	<-ended
}

func TestSpread(t *testing.T) {
	var hundred []time.Duration
	for i := range 100 {
		hundred = append(hundred, time.Duration(100-i)*time.Millisecond)
	}
	for _, c := range []struct {
		samples []time.Duration
		want    Spread
	}{
		{nil, Spread{}},
		{[]time.Duration{time.Millisecond}, Spread{1000, 1000}},
		{[]time.Duration{3 * time.Millisecond, time.Millisecond, 2 * time.Millisecond}, Spread{2000, 3000}},
		{hundred, Spread{50_000, 99_000}},
	} {
		if got := spread(c.samples); got != c.want {
			t.Errorf("%v: %+v, want %+v", c.samples, got, c.want)
		}
	}
}

func TestServerTiming(t *testing.T) {
	const header = "cold;dur=9.412, queued;dur=0.201, start;dur=8.330"
	for name, want := range map[string]time.Duration{"start": 8330 * time.Microsecond, "queued": 201 * time.Microsecond, "other": 0} {
		if got := serverTiming(header, name); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}

func TestHelloHidesNoMoreThanThereIs(t *testing.T) {
	ms := func(n int) []time.Duration { return []time.Duration{time.Duration(n) * time.Millisecond} }
	for _, c := range []struct {
		rtt, with, without int
		want               float64
	}{
		{0, 60, 60, 0},      // no round trip hides nothing
		{20, 75, 95, 1},     // all of the round trip
		{40, 95, 115, 0.5},  // half of it
		{80, 165, 215, 1.0}, // all of the start, which is shorter
	} {
		if h := newHello(keysOnDemand, time.Duration(c.rtt)*time.Millisecond, ms(c.with), ms(c.without)); h.Share != c.want {
			t.Errorf("%+v: hid %.2f", c, h.Share)
		}
	}
}

// TestConfigurationsHaveNoFault: every stage has a region whose configuration is
// taken, and with nothing to measure it has none.
func TestConfigurationsHaveNoFault(t *testing.T) {
	o := DefaultOptions()
	if err := o.Validate(); err != nil {
		t.Fatal(err)
	}
	o.Samples, o.Sleeper = "/samples", "/bin/sleeper"
	want := []int{startCopies * len(o.Programs), 1, len(helloKinds) * helloCopies, 1, o.Sleepers + lateComers, 2 * cyclers}
	for i, stage := range stages {
		result := polder.Decode([]polder.File{{Name: "polder.yaml", Data: []byte(configuration(stage.services(o)))}})
		if len(result.Faults) > 0 {
			t.Fatal(result.Faults)
		}
		if got := len(result.Model.Services); got != want[i] {
			t.Errorf("stage %d: %d services, want %d", i, got, want[i])
		}
		if left := stage.services(Options{}); len(left) != 0 {
			t.Errorf("stage %d: %d services to measure nothing", i, len(left))
		}
	}
}

// TestBareOf: of another Envoy's configuration remains what the service needs, and
// nobody who controls it.
func TestBareOf(t *testing.T) {
	const bootstrap = `{"admin":{},"dynamicResources":{"ldsConfig":{"ads":{}}},"clusterManager":{"loadStatsConfig":{},"enableDeferredClusterCreation":true},"staticResources":{"clusters":[{"name":"polder"}]}}`
	const dump = `{"configs":[
	  {"@type":"type.googleapis.com/envoy.admin.v3.ListenersConfigDump","dynamic_listeners":[{"name":"entrypoint-https","active_state":{"listener":{
	    "@type":"type.googleapis.com/envoy.config.listener.v3.Listener","name":"entrypoint-https","filter_chain_matcher":{},"listener_filters":[{"name":"inspector"},{"name":"diverted","config_discovery":{"ads":{}}}],"filter_chains":[{"name":"forbidden"},
	    {"name":"serve","filters":[{"name":"envoy.filters.network.http_connection_manager","typed_config":{"scoped_routes":{"ads":{}},"server_name":"polder"}}],
	     "transport_socket":{"typed_config":{"common_tls_context":{"custom_tls_certificate_selector":{"ads":{}},"alpn_protocols":["h2"]}}}}]}}}]},
	  {"dynamic_scoped_route_configs":[{"@type":"type.googleapis.com/envoy.config.route.v3.ScopedRouteConfiguration","name":"host/warmed.example.com","key":{}}]},
	  {"dynamic_route_configs":[{"route_config":{"@type":"type.googleapis.com/envoy.config.route.v3.RouteConfiguration","name":"host/warmed.example.com","virtual_hosts":[]}}]},
	  {"dynamic_active_clusters":[{"cluster":{"@type":"type.googleapis.com/envoy.config.cluster.v3.Cluster","name":"service/warmed","type":"EDS","eds_cluster_config":{"ads":{}},"circuit_breakers":{}}}]}]}`
	text, err := bareOf([]byte(bootstrap), []byte(dump), "/key.pem", "/admin.sock", "127.0.0.1:8443", "127.0.0.1:9000")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"server_name":"polder"`, `[{"name":"inspector"}]`, `"virtual_hosts":[]`, `"alpn_protocols":["h2"]`, `"circuit_breakers":{}`, `"port_value":9000`, `"port_value":8443`, `"/key.pem"`, `"mode":384`, `"enableDeferredClusterCreation":true`} {
		if !strings.Contains(string(text), want) {
			t.Errorf("no %s in %s", want, text)
		}
	}
	for _, foreign := range []string{"ads", "dynamicResources", "loadStats", "forbidden", "matcher", "diverted", `"name":"polder"`, "EDS"} {
		if strings.Contains(string(text), foreign) {
			t.Errorf("%s in %s", foreign, text)
		}
	}
	if _, err := bareOf([]byte(bootstrap), []byte(`{"configs":[]}`), "", "", "127.0.0.1:1", "127.0.0.1:2"); err == nil || !strings.Contains(err.Error(), "entrypoint-https") {
		t.Errorf("of an Envoy with nothing: %v", err)
	}
}

// TestWarmComparesNeighbours: what both Envoys suffer from in one turn says
// nothing, and turns that the machine disturbed on one side do not decide.
func TestWarmComparesNeighbours(t *testing.T) {
	var turns []Turn
	for i := range 100 {
		slow := int64(1 + i%7) // a machine that is now faster, now slower
		turns = append(turns, Turn{Polder: 102_000 * slow, Bare: 100_000 * slow})
	}
	for i := range 10 {
		turns[i*9].Polder *= 3
	}
	w := newWarm(turns)
	if w.More < 0.0199 || w.More > 0.0201 || w.From > w.More || w.To < w.More || w.To > 0.03 || w.Requests != 100*turnRequests {
		t.Errorf("%+v", Warm{Requests: w.Requests, More: w.More, From: w.From, To: w.To})
	}
	if w := newWarm(nil); w.More != 0 {
		t.Errorf("of nothing: %+v", w)
	}
}

func TestValidateNamesEveryFault(t *testing.T) {
	o := DefaultOptions()
	o.Rounds, o.Programs, o.RTTs, o.Sleepers = 0, []string{"perl"}, []time.Duration{-time.Second}, 1001
	err := o.Validate()
	for _, want := range []string{"0 rounds", `"perl"`, "-1s", "1001 sleepers"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: want %s in it", err, want)
		}
	}
}

func TestReport(t *testing.T) {
	r := Report{
		Starts: []Start{{Program: "go", Samples: 3, Bare: Spread{5000, 9000}, Through: Spread{7500, 12_000}, Share: Spread{2500, 3000}}},
		Hellos: []Hello{{RTT: 20_000, Samples: 2, Hidden: 18_000, Share: 0.9}},
		Warm:   &Warm{Requests: 100, Polder: 102_000, Bare: 100_000, More: 0.02, From: 0.01, To: 0.03, Turns: []Turn{{102_000, 100_000}}},
		Crowds: []Crowd{
			{Name: "1000 callers of one sleeper", Answered: 999, Failed: 1, Errors: map[string]int{"503 <saturated>": 1}, Starts: 1, Wakes: 1},
			{Name: "cycles", Answered: 10, Starts: 11, Wakes: 10, Took: Spread{20_000, 2_000_000}},
		},
	}
	var text, page strings.Builder
	if err := r.WriteText(&text); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"2.5/3.0", "90 %", "2.0 %", "1.0 to 3.0 %", "1000 callers of one sleeper: 1 times: 503 <saturated>"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("no %q in\n%s", want, &text)
		}
	}
	if err := r.WriteHTML(&page); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(page.String(), "<svg"); n != 4 {
		t.Errorf("%d plots, want one of starts, hellos, crowds and warm requests each", n)
	}
	for _, want := range []string{"bare: p50 5.0 ms", "&lt;saturated&gt;", "20.0 ms away: 90 %", "cycles: p50 20.0 ms, p99 2000.0 ms", "2.0 % more", "<circle"} {
		if !strings.Contains(page.String(), want) {
			t.Errorf("no %q in the page", want)
		}
	}
	for _, foreign := range []string{"src=", "href=", "@import"} {
		if strings.Contains(page.String(), foreign) {
			t.Errorf("the page needs something else: %s", foreign)
		}
	}
	if err := r.Faults(); err == nil || !strings.Contains(err.Error(), "1 requests were not answered") || !strings.Contains(err.Error(), "cycles: 11 starts for 10 wake-ups") {
		t.Errorf("faults: %v", err)
	}
}
