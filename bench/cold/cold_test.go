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
		if h := newHello("on-demand", time.Duration(c.rtt)*time.Millisecond, ms(c.with), ms(c.without)); h.Share != c.want {
			t.Errorf("%+v: hid %.2f", c, h.Share)
		}
	}
}

func TestConfigurationHasNoFault(t *testing.T) {
	o := DefaultOptions()
	if err := o.Validate(); err != nil {
		t.Fatal(err)
	}
	o.Samples, o.Sleeper = "/samples", "/bin/sleeper"
	result := polder.Decode([]polder.File{{Name: "polder.yaml", Data: []byte(configuration(services(o)))}})
	if len(result.Faults) > 0 {
		t.Fatal(result.Faults)
	}
	if want := len(o.Programs) + 3 + 1 + 1 + o.Sleepers + cyclers; len(result.Model.Services) != want {
		t.Errorf("%d services, want %d", len(result.Model.Services), want)
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
		Warm:   &Warm{Requests: 100, With: 10_200, Alone: 10_000, More: 0.02},
		Crowds: []Crowd{{Name: "1000 callers of one sleeper", Answered: 999, Failed: 1, Errors: map[string]int{"503 <saturated>": 1}, Starts: 1}},
	}
	var text, page strings.Builder
	if err := r.WriteText(&text); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"2.5/3.0", "90 %", "2.0 %", "1000 callers of one sleeper: 1 times: 503 <saturated>"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("no %q in\n%s", want, &text)
		}
	}
	if err := r.WriteHTML(&page); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"<svg", "bare: p50 5.0 ms", "&lt;saturated&gt;"} {
		if !strings.Contains(page.String(), want) {
			t.Errorf("no %q in the page", want)
		}
	}
	for _, foreign := range []string{"src=", "href=", "@import"} {
		if strings.Contains(page.String(), foreign) {
			t.Errorf("the page needs something else: %s", foreign)
		}
	}
	if r.Failed() != 1 {
		t.Errorf("%d failed", r.Failed())
	}
}
