package envoy

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestLife(t *testing.T) {
	p := newPlace(t)
	var log journal
	o := p.options(p.answering("hello"))
	o.Log = log.logger()
	r := p.run(o)
	started := r.await(Starting)
	running := r.await(Running)
	if running.PID != started.PID || running.Restarts != 0 {
		t.Errorf("running %+v after starting %+v", running, started)
	}
	p.wants("hello")

	admin := r.s.Admin()
	if info, err := os.Stat(p.adminSocket()); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("admin socket: %v, %v, want mode 0600", info, err)
	}
	if info, err := admin.serverInfo(t.Context()); err != nil || info.State != "LIVE" || info.Node.ID != "fr-1" || !strings.Contains(info.Version, Version) {
		t.Errorf("server info %+v, %v", info, err)
	}
	dump, err := admin.ConfigDump(t.Context(), url.Values{"resource": {"static_listeners"}})
	if err != nil || !strings.Contains(string(dump), `"public"`) || strings.Contains(string(dump), "BootstrapConfigDump") {
		t.Errorf("config dump of the listeners: %v\n%.500s", err, dump)
	}
	stats, err := admin.Stats(t.Context(), `^http\.ingress\.downstream_rq_2xx$`)
	if err != nil || len(stats) != 1 || stats["http.ingress.downstream_rq_2xx"] != 1 {
		t.Errorf("stats %v, %v, want one request", stats, err)
	}
	if _, err := admin.ConfigDump(t.Context(), url.Values{"resource": {"nonsense"}}); err == nil || !strings.Contains(err.Error(), "nonsense") {
		t.Errorf("a refused question: %v, want Envoy's words", err)
	}

	r.stop(nil)
	r.await(Draining)
	r.await(Stopped)
	p.nothingLeft(started.PID)
	p.refuses()
	if err := admin.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), p.adminSocket()) {
		t.Errorf("a stopped Envoy: %v, want an error that names the socket", err)
	}
	for _, want := range []string{
		`msg="Envoy: all dependencies initialized. starting workers" node=fr-1 component=config`,
		`msg="Envoy: caught ENVOY_SIGTERM" node=fr-1 component=main`,
		`msg="Envoy is live" node=fr-1 pid=` + fmt.Sprint(started.PID),
	} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log lacks %s:\n%s", want, &log)
		}
	}
	if strings.Contains(log.String(), "statically linked extensions") {
		t.Error("the list of all extensions is in the log")
	}
}

// TestCrash kills Envoy again and again: each time it is back.
func TestCrash(t *testing.T) {
	p := newPlace(t)
	var log journal
	o := p.options(p.answering("hello"))
	o.Log = log.logger()
	r := p.run(o)
	var pids []int
	for n := range 3 {
		running := r.await(Running)
		if running.Restarts != n {
			t.Errorf("%d restarts, want %d", running.Restarts, n)
		}
		p.wants("hello")
		pids = append(pids, running.PID)
		if err := syscall.Kill(running.PID, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		exited := r.await(Exited)
		if exited.PID != running.PID || exited.Wait <= 0 || !strings.Contains(exited.Reason, "signal 9") {
			t.Errorf("exited %+v, want pid %d, a pause, and signal 9", exited, running.PID)
		}
	}
	running := r.await(Running)
	p.wants("hello")
	r.stop(nil)
	p.nothingLeft(append(pids, running.PID)...)
	if n := strings.Count(log.String(), "Envoy ended and is started again"); n != 3 {
		t.Errorf("%d crashes in the log, want 3", n)
	}
}

// TestRestart ends an Envoy that does nothing wrong. Another takes its place.
func TestRestart(t *testing.T) {
	p := newPlace(t)
	r := p.run(p.options(p.answering("hello")))
	first := r.await(Running)
	r.s.Restart("somebody changed it")
	exited := r.await(Exited)
	if exited.PID != first.PID {
		t.Errorf("%+v ended, want the one that ran", exited)
	}
	second := r.await(Running)
	if second.PID == first.PID || second.Restarts != 1 {
		t.Errorf("running %+v after %+v", second, first)
	}
	p.wants("hello")
	r.stop(nil)
	r.await(Draining)
	r.await(Stopped)
	p.nothingLeft(first.PID, second.PID)
}

// TestStopWhilePausing: a stop does not wait for the next start.
func TestStopWhilePausing(t *testing.T) {
	p := newPlace(t)
	r := p.run(p.options(p.answering("hello")))
	for { // until the pause is long enough to meet
		running := r.await(Running)
		if err := syscall.Kill(running.PID, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if exited := r.await(Exited); exited.Wait > 500*time.Millisecond {
			r.stop(nil)
			p.nothingLeft(exited.PID)
			return
		}
	}
}

// TestRejected: Envoy's own words, one start, nothing left.
func TestRejected(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	for _, c := range []struct {
		name      string
		bootstrap func(p *place) []byte
		want      string
	}{
		{"an unknown field", func(p *place) []byte {
			return encode(t, object{"admin": p.admin(), "static_resources": object{"listenerz": []object{}}})
		}, "no such field: 'listenerz'"},
		{"a value out of range", func(p *place) []byte {
			p.port = 70000
			return p.answering("hello")
		}, "value must be less than or equal to 65535"},
		{"an unknown type", func(p *place) []byte {
			return []byte(strings.ReplaceAll(string(p.answering("hello")), "router.v3.Router", "router.v3.Rooter"))
		}, "could not find @type"},
		{"a port that is taken", func(p *place) []byte {
			p.port = listener.Addr().(*net.TCPAddr).Port
			return p.answering("hello")
		}, "Address already in use"},
		{"a folder that is missing", func(p *place) []byte {
			return []byte(strings.ReplaceAll(string(p.answering("hello")), "/admin.sock", "/gone/a.sock"))
		}, "No such file or directory"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPlace(t)
			r := p.run(p.options(c.bootstrap(p)))
			var rejected *RejectedError
			err := r.end()
			if !errors.As(err, &rejected) || !strings.Contains(rejected.Words, c.want) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Run = %v, want Envoy's words %q", err, c.want)
			}
			if err != nil && len(err.Error()) > 2*mostWords {
				t.Errorf("the error is %d bytes long", len(err.Error()))
			}
			starts := 0
			for len(r.events) > 0 {
				if (<-r.events).State == Starting {
					starts++
				}
			}
			if starts != 1 {
				t.Errorf("%d starts, want one", starts)
			}
			if records := p.records(); len(records) > 0 {
				t.Errorf("records are left: %v", records)
			}
		})
	}
}

func TestMissingBinary(t *testing.T) {
	p := newPlace(t)
	o := p.options(p.answering("hello"))
	o.Binary = "/nonexistent/envoy"
	if err := p.run(o).end(); err == nil || !strings.Contains(err.Error(), "/nonexistent/envoy") {
		t.Errorf("Run = %v, want an error that names the program", err)
	}
}

// TestNeverLive: an Envoy that waits for its control plane is stopped like any
// other.
func TestNeverLive(t *testing.T) {
	p := newPlace(t)
	ads := object{"api_type": "GRPC", "transport_api_version": "V3", "grpc_services": []object{{"envoy_grpc": object{"cluster_name": "polder"}}}}
	r := p.run(p.options(encode(t, object{
		"node":              object{"id": "fr-1", "cluster": "fr"},
		"admin":             p.admin(),
		"dynamic_resources": object{"ads_config": ads, "lds_config": object{"ads": object{}, "initial_fetch_timeout": "0s"}},
		"static_resources": object{"clusters": []object{{
			"name": "polder", "connect_timeout": "1s",
			"typed_extension_protocol_options": object{"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": object{
				"@type":                "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
				"explicit_http_config": object{"http2_protocol_options": object{}},
			}},
			"load_assignment": object{"cluster_name": "polder", "endpoints": []object{{"lb_endpoints": []object{{
				"endpoint": object{"address": object{"pipe": object{"path": p.sockets + "/xds.sock"}}},
			}}}}},
		}}},
	})))
	pid := r.await(Starting).PID
	until(t, "Envoy initializes", func() bool {
		info, err := r.s.Admin().serverInfo(t.Context())
		return err == nil && info.State == "INITIALIZING"
	})
	if err := r.s.Admin().Ready(t.Context()); err == nil || !strings.Contains(err.Error(), "INITIALIZING") {
		t.Errorf("Ready = %v, want an error that says INITIALIZING", err)
	}
	r.stop(nil)
	p.nothingLeft(pid)
	for len(r.events) > 0 {
		if e := <-r.events; e.State == Running {
			t.Error("it was called running")
		}
	}
}

// TestDrain: a stop lets requests in progress finish, and accepts no others.
func TestDrain(t *testing.T) {
	p := newPlace(t)
	up := newUpstream(t)
	r := p.run(p.options(p.forwarding(up.Addr())))
	pid := r.await(Running).PID
	slow := p.hold(up)
	r.cancel(nil)
	r.await(Draining)
	until(t, "new connections are refused", func() bool {
		connection, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", p.port))
		if err == nil {
			connection.Close()
		}
		return errors.Is(err, syscall.ECONNREFUSED)
	})
	select {
	case <-r.ended:
		t.Fatal("Run ended with a request in progress")
	default:
	}
	slow.release <- "finished"
	if body, err := slow.result(); err != nil || body != "finished" {
		t.Errorf("the request in progress: %q, %v", body, err)
	}
	if err := r.end(); err != nil {
		t.Error(err)
	}
	p.nothingLeft(pid)
}

// TestDrainEnds: a request that never ends does not hold up a stop for ever.
func TestDrainEnds(t *testing.T) {
	p := newPlace(t)
	up := newUpstream(t)
	var log journal
	o := p.options(p.forwarding(up.Addr()))
	o.DrainTime, o.Log = time.Second, log.logger()
	r := p.run(o)
	pid := r.await(Running).PID
	slow := p.hold(up)
	r.stop(nil)
	p.nothingLeft(pid)
	if body, err := slow.result(); err == nil {
		t.Errorf("the request was answered: %q", body)
	}
	if !strings.Contains(log.String(), "requests in progress") {
		t.Errorf("the log does not tell that a request was cut off:\n%s", &log)
	}
}
