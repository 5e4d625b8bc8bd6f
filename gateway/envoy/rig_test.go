package envoy

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/polder/polder/prewarm/instance/process"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// patience bounds every wait of these tests; none is expected to take long.
const patience = 60 * time.Second

// asOwner, when set, makes the test binary run a Supervisor with the options
// that it holds (JSON) and print its events, until it is killed.
const asOwner = "ENVOY_TEST_OWNER"

func TestMain(m *testing.M) {
	if text := os.Getenv(asOwner); text != "" {
		if err := runOwner(text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// ownerOptions is what of the options can be said in JSON.
type ownerOptions struct {
	Node, Binary, Dir string
	Bootstrap         string
}

func runOwner(text string) error {
	var o ownerOptions
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		return err
	}
	s, err := NewSupervisor(Options{
		Node: o.Node, Binary: o.Binary, Bootstrap: []byte(o.Bootstrap), Dir: o.Dir,
		Concurrency: 1, DrainTime: testDrain, Grace: testGrace, Log: slog.New(slog.DiscardHandler),
		OnEvent: func(e Event) { fmt.Println(e.State, e.PID) },
	})
	if err != nil {
		return err
	}
	return s.Run(context.Background())
}

const (
	testDrain = 20 * time.Second // longer than any test needs, so that cutting a request off shows
	testGrace = 5 * time.Second
)

// place is where one Envoy lives: its folders, its port, its binary.
type place struct {
	t       *testing.T
	binary  string
	state   string
	sockets string
	port    int
}

func newPlace(t *testing.T) *place {
	t.Helper()
	binary, err := Find(t.Context(), "../../.tools", os.Getenv("PATH"))
	if err != nil {
		t.Fatal(err) // says `make envoy`
	}
	sockets, err := os.MkdirTemp("", "envoy") // short, for the sockets
	if err != nil {
		t.Fatal(err)
	}
	p := &place{t: t, binary: binary, state: t.TempDir(), sockets: sockets, port: reservePort(t)}
	t.Cleanup(func() {
		p.clean()
		if err := os.RemoveAll(sockets); err != nil {
			t.Error(err)
		}
	})
	return p
}

// clean ends what a test left running, and fails the test for it.
func (p *place) clean() {
	for _, record := range p.records() {
		if left, err := process.Adopt(record); err == nil {
			p.t.Errorf("pid %d is left running", left.PID())
			if err := left.Stop(context.Background(), 0); err != nil {
				p.t.Error(err)
			}
		}
	}
}

func (p *place) records() []string {
	records, err := filepath.Glob(filepath.Join(p.state, "envoy-*.json"))
	if err != nil {
		p.t.Fatal(err)
	}
	return records
}

// reservePort holds a port without listening on it: only those who share it
// (SO_REUSEPORT), as Envoy does, can bind it.
func reservePort(t *testing.T) int {
	t.Helper()
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(socket) })
	errOption := unix.SetsockoptInt(socket, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	errBind := unix.Bind(socket, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
	name, errName := unix.Getsockname(socket)
	if err := errors.Join(errOption, errBind, errName); err != nil {
		t.Fatal(err)
	}
	return name.(*unix.SockaddrInet4).Port
}

func (p *place) url() string { return fmt.Sprintf("http://127.0.0.1:%d/", p.port) }

func (p *place) adminSocket() string { return filepath.Join(p.sockets, "admin.sock") }

// object is a JSON object.
type object map[string]any

// answering is a bootstrap whose listener answers every request with the text.
func (p *place) answering(text string) []byte {
	return p.bootstrap(object{"direct_response": object{"status": 200, "body": object{"inline_string": text}}})
}

// forwarding is a bootstrap whose listener sends every request to the address.
func (p *place) forwarding(to net.Addr) []byte {
	return p.bootstrap(object{"route": object{"cluster": "upstream", "timeout": "0s"}}, object{
		"name": "upstream", "connect_timeout": "5s",
		"load_assignment": object{"cluster_name": "upstream", "endpoints": []object{{
			"lb_endpoints": []object{{"endpoint": object{"address": socketAddress(to.(*net.TCPAddr).Port)}}},
		}}},
	})
}

func socketAddress(port int) object {
	return object{"socket_address": object{"address": "127.0.0.1", "port_value": port}}
}

func (p *place) bootstrap(action object, clusters ...object) []byte {
	route := object{"match": object{"prefix": "/"}}
	for key, value := range action {
		route[key] = value
	}
	manager := object{
		"@type":        "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
		"stat_prefix":  "ingress",
		"route_config": object{"virtual_hosts": []object{{"name": "all", "domains": []string{"*"}, "routes": []object{route}}}},
		"http_filters": []object{{
			"name":         "envoy.filters.http.router",
			"typed_config": object{"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
		}},
	}
	return encode(p.t, object{
		"node":  object{"id": "fr-1", "cluster": "fr"},
		"admin": p.admin(),
		"static_resources": object{
			"clusters": clusters,
			"listeners": []object{{
				"name": "public", "address": socketAddress(p.port),
				"filter_chains": []object{{"filters": []object{{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}}}},
			}},
		},
	})
}

func (p *place) admin() object {
	return object{"address": object{"pipe": object{"path": p.adminSocket(), "mode": 0o600}}}
}

func encode(t *testing.T, value any) []byte {
	t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func (p *place) options(bootstrap []byte) Options {
	return Options{
		Node: "fr-1", Binary: p.binary, Bootstrap: bootstrap, Dir: p.state,
		Concurrency: 1, DrainTime: testDrain, Grace: testGrace, Log: slog.New(slog.DiscardHandler),
	}
}

// run is a Supervisor that runs.
type run struct {
	t      *testing.T
	s      *Supervisor
	cancel context.CancelCauseFunc
	events chan Event
	ended  chan struct{}
	err    error // valid once ended is closed
}

func (p *place) run(o Options) *run {
	p.t.Helper()
	ctx, cancel := context.WithCancelCause(context.Background())
	r := &run{t: p.t, cancel: cancel, events: make(chan Event, 1000), ended: make(chan struct{})}
	o.OnEvent = func(e Event) { r.events <- e }
	var err error
	if r.s, err = NewSupervisor(o); err != nil {
		p.t.Fatal(err)
	}
	go func() {
		defer close(r.ended)
		r.err = r.s.Run(ctx)
	}()
	p.t.Cleanup(func() {
		cancel(nil)
		<-r.ended
	})
	return r
}

// await returns the next event of this state; those before it are passed over.
func (r *run) await(state State) Event {
	r.t.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		select {
		case e := <-r.events:
			if e.State == state {
				return e
			}
		case <-r.ended:
			for len(r.events) > 0 {
				if e := <-r.events; e.State == state {
					return e
				}
			}
			r.t.Fatalf("Run ended (%v) before the state %q", r.err, state)
		case <-timer.C:
			r.t.Fatalf("no state %q within %s", state, patience)
		}
	}
}

// end waits for Run to end, and returns its error.
func (r *run) end() error {
	r.t.Helper()
	select {
	case <-r.ended:
		return r.err
	case <-time.After(patience):
		r.t.Fatal("Run does not end")
		return nil
	}
}

// stop ends Run with the cause and fails the test if that is an error.
func (r *run) stop(cause error) {
	r.t.Helper()
	r.cancel(cause)
	if err := r.end(); err != nil {
		r.t.Fatal(err)
	}
}

// owner is a Supervisor in a process of its own.
type owner struct {
	*exec.Cmd
	lines *bufio.Scanner
}

func (p *place) owner(bootstrap []byte) *owner {
	p.t.Helper()
	text := encode(p.t, ownerOptions{Node: "fr-1", Binary: p.binary, Dir: p.state, Bootstrap: string(bootstrap)})
	command := exec.Command(os.Args[0])
	command.Env = append(os.Environ(), asOwner+"="+string(text))
	command.Stderr = p.t.Output()
	out, err := command.StdoutPipe()
	if err == nil {
		err = command.Start()
	}
	if err != nil {
		p.t.Fatal(err)
	}
	return &owner{Cmd: command, lines: bufio.NewScanner(out)}
}

// await returns the PID of the event with this state.
func (o *owner) await(t *testing.T, state State) (pid int) {
	t.Helper()
	for o.lines.Scan() {
		if text, found := strings.CutPrefix(o.lines.Text(), string(state)+" "); found {
			if _, err := fmt.Sscan(text, &pid); err != nil {
				t.Fatal(err)
			}
			return pid
		}
	}
	t.Fatalf("the owner ended before the state %q", state)
	return 0
}

// kill ends the owner as kill -9 does.
func (o *owner) kill(t *testing.T) {
	t.Helper()
	if err := o.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = o.Wait() // always an error after a kill
}

// client opens a connection for each request, as new callers do.
func client() *http.Client {
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
}

func get(url string) (string, error) {
	response, err := client().Get(url)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", response.Status, body)
	}
	return string(body), err
}

func (p *place) wants(want string) {
	p.t.Helper()
	if got, err := get(p.url()); err != nil || got != want {
		p.t.Fatalf("GET %s = %q, %v, want %q", p.url(), got, err, want)
	}
}

func (p *place) refuses() {
	p.t.Helper()
	if body, err := get(p.url()); !errors.Is(err, syscall.ECONNREFUSED) {
		p.t.Errorf("GET %s = %q, %v, want a refused connection", p.url(), body, err)
	}
}

// nothingLeft checks that neither process nor record nor socket remains.
func (p *place) nothingLeft(pids ...int) {
	p.t.Helper()
	for _, pid := range pids {
		if !gone(p.t, pid) {
			p.t.Errorf("pid %d is still there", pid)
		}
	}
	if records := p.records(); len(records) > 0 {
		p.t.Errorf("records are left: %v", records)
	}
	sockets, err := os.ReadDir(p.sockets)
	if err != nil || len(sockets) > 0 {
		p.t.Errorf("sockets are left: %v (%v)", sockets, err)
	}
}

// gone tells whether the process has ended. One whose parent we killed may wait
// for another to reap it.
func gone(t *testing.T, pid int) bool {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
		return true
	}
	if err != nil {
		t.Fatal(err)
	}
	_, state, _ := bytes.Cut(stat, []byte(") "))
	return bytes.HasPrefix(state, []byte("Z")) || bytes.HasPrefix(state, []byte("X"))
}

// until tries again and again, for what no event tells.
func until(t *testing.T, what string, try func() bool) {
	t.Helper()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	deadline := time.Now().Add(patience)
	for !try() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", patience, what)
		}
		<-ticker.C
	}
}

// journal is a log that a test reads.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *journal) Write(text []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(text)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

func (j *journal) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(j, &slog.HandlerOptions{Level: slog.LevelDebug}))
}
