package local_test

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/polder/polder"
	"github.com/polder/polder/prewarm/instance"
	"github.com/polder/polder/prewarm/instance/instancetest"
	"github.com/polder/polder/prewarm/instance/local"
	"github.com/polder/polder/prewarm/instance/sockets"
)

// porch is a provider with berths, and a service that inherits.
type porch struct {
	t        *testing.T
	dir      string
	store    *sockets.Store
	berths   *local.Berths
	provider *local.Provider
	bell     chan polder.ServiceName
	started  int
	behave   instancetest.Behaviour
}

func newPorch(t *testing.T) *porch {
	t.Helper()
	p := &porch{t: t, dir: t.TempDir(), bell: make(chan polder.ServiceName, 10), behave: instancetest.Serve}
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	p.store = sockets.New(sockets.Options{Log: log})
	berths, err := local.NewBerths(p.store, func(name polder.ServiceName) { p.bell <- name })
	if err != nil {
		t.Fatal(err)
	}
	p.berths = berths
	p.provider, err = local.New(local.Options{Dir: filepath.Join(p.dir, "records"), Environ: os.Environ(), Log: log, Berths: berths})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var running errgroup.Group
	running.Go(func() error { return berths.Run(ctx) })
	t.Cleanup(func() {
		stop()
		if err := running.Wait(); err != nil {
			t.Error(err)
		}
		if err := p.store.End(); err != nil {
			t.Error(err)
		}
	})
	return p
}

func (p *porch) open() netip.AddrPort {
	p.t.Helper()
	address, err := p.berths.Open("billing")
	if err != nil {
		p.t.Fatal(err)
	}
	return address
}

// start starts an instance, which ends with the test.
func (p *porch) start() instance.Handle {
	p.t.Helper()
	p.started++
	id := polder.InstanceID("billing-" + string(rune('a'+p.started)))
	handle, err := p.provider.Start(p.t.Context(), instance.Order{
		ID: id, Region: "fr", Asked: time.Now(), LogFile: filepath.Join(p.dir, string(id)+".log"),
		Service: polder.Service{Name: "billing", Run: &polder.Run{
			Command: []string{os.Args[0]}, Directory: p.dir, Listen: polder.ListenInherit,
			Environment: map[string]string{instancetest.BehaviourKey: string(p.behave), "GORACE": "atexit_sleep_ms=0"},
		}},
	})
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { p.stop(handle) })
	return handle
}

func (p *porch) stop(h instance.Handle) {
	p.t.Helper()
	if err := h.Stop(context.Background(), instancetest.Patience); err != nil {
		p.t.Error(err)
	}
}

// call asks who answers at the address, on a connection of its own.
func call(address netip.AddrPort) (instancetest.Who, error) {
	client := http.Client{Timeout: instancetest.Patience, Transport: &http.Transport{DisableKeepAlives: true}}
	var who instancetest.Who
	answer, err := client.Get("http://" + address.String() + "/who")
	if err != nil {
		return who, err
	}
	defer answer.Body.Close()
	return who, json.NewDecoder(answer.Body).Decode(&who)
}

func (p *porch) rings() {
	p.t.Helper()
	select {
	case name := <-p.bell:
		if name != "billing" {
			p.t.Fatalf("the bell of %s rang", name)
		}
	case <-time.After(instancetest.Patience):
		p.t.Fatal("the bell does not ring")
	}
}

// TestBerth: callers come to a berth where nobody is, wake one instance after the
// other, and are answered at the same address each time.
func TestBerth(t *testing.T) {
	p := newPorch(t)
	address := p.open()
	for range 3 {
		if err := p.berths.Watch("billing"); err != nil {
			t.Fatal(err)
		}
		var callers errgroup.Group
		for range 20 {
			callers.Go(func() error { _, err := call(address); return err })
		}
		p.rings()
		if p.berths.Waiting("billing") == 0 {
			t.Error("nobody waits")
		}
		h := p.start()
		if got := h.Identity().Address; got != address {
			t.Errorf("the instance is at %s, its berth at %s", got, address)
		}
		if _, err := h.AwaitReady(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := callers.Wait(); err != nil {
			t.Error(err)
		}
		p.stop(h)
	}
	if again := p.open(); again != address {
		t.Errorf("the berth moved from %s to %s", address, again)
	}
	select {
	case <-p.bell:
		t.Error("the bell rang twice for one watch")
	default:
	}
	p.berths.Close("billing")
	if c, err := net.Dial("tcp", address.String()); err == nil {
		c.Close()
		t.Error("a closed berth is open")
	}
}

// TestOneStandsAtTheBerth: a second instance has a socket of its own, and the
// next one after the first is at the berth again.
func TestOneStandsAtTheBerth(t *testing.T) {
	p := newPorch(t)
	berth := p.open()
	first, second := p.start(), p.start()
	if at := first.Identity().Address; at != berth {
		t.Errorf("the first is at %s", at)
	}
	if at := second.Identity().Address; at == berth {
		t.Error("the second is at the berth as well")
	}
	p.stop(first)
	if at := p.start().Identity().Address; at != berth {
		t.Errorf("the third is at %s", at)
	}
}

// TestTakenIn: whom no instance can serve is taken in, and a program that comes
// afterwards finds its socket in blocking mode.
func TestTakenIn(t *testing.T) {
	p := newPorch(t)
	berth := p.open()
	if err := p.berths.Take("billing"); err != nil {
		t.Fatal(err)
	}
	var servers errgroup.Group
	callers := p.berths.Callers()
	server := http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusServiceUnavailable)
	})}
	servers.Go(func() error { return server.Serve(callers) })
	client := http.Client{Timeout: instancetest.Patience, Transport: &http.Transport{DisableKeepAlives: true}}
	for range 3 {
		answer, err := client.Get("http://" + berth.String())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, answer.Body)
		answer.Body.Close()
		if answer.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("%s, want what the server of the taken says", answer.Status)
		}
	}
	p.behave = instancetest.Idle // it does not touch its socket
	idle := p.start()
	kept, err := p.store.Get("berth billing")
	if err != nil {
		t.Fatal(err)
	}
	defer kept.Close()
	raw, err := kept.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Control(func(fd uintptr) {
		if flags, err := unix.FcntlInt(fd, unix.F_GETFL, 0); err != nil || flags&unix.O_NONBLOCK != 0 {
			t.Errorf("mode %#x, %v; want a blocking one", flags, err)
		}
	}); err != nil {
		t.Fatal(err)
	}
	p.stop(idle)
	p.behave = instancetest.Serve
	if _, err := p.start().AwaitReady(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := call(berth); err != nil {
		t.Error(err)
	}
	if err := server.Close(); err != nil {
		t.Error(err)
	}
	if err := servers.Wait(); err != http.ErrServerClosed {
		t.Error(err)
	}
}
