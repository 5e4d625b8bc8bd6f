package instance_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/polder/polder"
	"github.com/polder/polder/prewarm/instance"
	"github.com/polder/polder/prewarm/instance/instancetest"
	"github.com/polder/polder/prewarm/instance/local"
)

// ownerKey makes the test binary an owner of instances: its value is the state
// folder. See owner.
const ownerKey = "INSTANCETEST_OWNER"

func TestMain(m *testing.M) {
	instancetest.Sample()
	if dir := os.Getenv(ownerKey); dir != "" {
		owner(dir)
		return
	}
	goleak.VerifyTestMain(m)
}

// owner runs a manager over dir, starts one instance of "web" that serves and
// one of "slow" that does not listen, prints each event, and waits to be killed.
func owner(dir string) {
	m, err := manager(dir, slog.New(slog.DiscardHandler), false, func(e instance.Event) {
		fmt.Println(e.State, e.Service, e.ID)
	})
	if err == nil {
		go func() {
			<-m.Adopted()
			for name, what := range map[polder.ServiceName]instancetest.Behaviour{"web": instancetest.Serve, "slow": instancetest.Idle} {
				if _, err := m.Start(context.Background(), service(name, what), "a test"); err != nil {
					fmt.Println(err)
				}
			}
		}()
		err = m.Run(context.Background())
	}
	fmt.Println(err)
}

func manager(dir string, log *slog.Logger, keep bool, events func(instance.Event)) (*instance.Manager, error) {
	p, err := local.New(local.Options{Dir: filepath.Join(dir, "instances"), Environ: os.Environ(), Log: log})
	if err != nil {
		return nil, err
	}
	return instance.New(instance.Options{
		Region: "nl", Provider: p, StateDir: dir, Log: log, Keep: keep, Events: events,
		Timing: instance.DefaultTiming(), Logs: instance.DefaultLogLimits(),
	})
}

func service(name polder.ServiceName, what instancetest.Behaviour) polder.Service {
	exe, err := os.Executable()
	if err != nil {
		panic(err)
	}
	return polder.Service{Name: name, Scale: polder.Scale{Max: 5}, Run: &polder.Run{
		Command: []string{exe}, Environment: map[string]string{instancetest.BehaviourKey: string(what), "GORACE": "atexit_sleep_ms=0"},
	}}
}

// running is a manager that serves.
type running struct {
	*instance.Manager
	t      *testing.T
	cancel context.CancelFunc
	ended  chan struct{}

	mu     sync.Mutex
	events []instance.Event
	news   chan struct{}
}

func run(t *testing.T, dir string, keep bool) *running {
	t.Helper()
	r := &running{t: t, ended: make(chan struct{}), news: make(chan struct{}, 1)}
	var err error
	r.Manager, err = manager(dir, slog.New(slog.NewTextHandler(t.Output(), nil)), keep, func(e instance.Event) {
		r.mu.Lock()
		r.events = append(r.events, e)
		r.mu.Unlock()
		select {
		case r.news <- struct{}{}:
		default:
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	go func() {
		defer close(r.ended)
		if err := r.Run(ctx); err != nil {
			t.Error(err)
		}
	}()
	t.Cleanup(r.end)
	select {
	case <-r.Adopted():
	case <-r.ended:
		t.FailNow()
	}
	return r
}

func (r *running) end() {
	r.cancel()
	<-r.ended
}

// event waits for an event of the service in that state.
func (r *running) event(service polder.ServiceName, state polder.InstanceState) instance.Event {
	r.t.Helper()
	deadline := time.After(instancetest.Patience)
	for {
		r.mu.Lock()
		i := slices.IndexFunc(r.events, func(e instance.Event) bool { return e.Service == service && e.State == state })
		if i >= 0 {
			e := r.events[i]
			r.events = slices.Delete(r.events, i, i+1)
			r.mu.Unlock()
			return e
		}
		r.mu.Unlock()
		select {
		case <-r.news:
		case <-deadline:
			r.t.Fatalf("service %s did not become %s", service, state)
		}
	}
}

func (r *running) start(s polder.Service) polder.InstanceID {
	r.t.Helper()
	id, err := r.Start(r.t.Context(), s, "a test")
	if err != nil {
		r.t.Fatal(err)
	}
	return id
}

func get(t *testing.T, i polder.Instance, path string) (string, error) {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: instancetest.Patience}
	answer, err := client.Get("http://" + i.Address.String() + path)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	return string(body), err
}

func who(t *testing.T, i polder.Instance) (w instancetest.Who) {
	t.Helper()
	body, err := get(t, i, "/who")
	if err == nil {
		err = json.Unmarshal([]byte(body), &w)
	}
	if err != nil || w.Instance != string(i.ID) {
		t.Fatalf("at %s answers %q, %v", i.Address, body, err)
	}
	return w
}

// dead checks that the process has ended; whose child it is not we cannot reap.
func dead(t *testing.T, pid int) {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err == nil && !strings.Contains(string(stat), ") Z ") {
		t.Errorf("process %d still runs: %s", pid, stat)
	}
}

func TestInstancesOfRealProcesses(t *testing.T) {
	r := run(t, t.TempDir(), false)
	id := r.start(service("web", instancetest.Serve))
	starting, ready := r.event("web", polder.Starting), r.event("web", polder.Ready)
	p := ready.Phases
	if starting.ID != id || !starting.Address.IsValid() || p.Asked.After(p.Spawned) || p.Spawned.After(p.Listening) || p.Listening.After(p.Ready) {
		t.Errorf("starting %+v, ready %+v", starting, ready)
	}
	w := who(t, ready.Instance)

	_, _ = get(t, ready.Instance, "/exit?code=9")
	crashed := r.event("web", polder.Stopped)
	if !crashed.Failed || crashed.Reason != "crashed: exited with code 9" || !slices.Contains(crashed.LastLines, "exiting as told") {
		t.Errorf("crashed: %+v", crashed)
	}
	dead(t, w.PID)

	r.start(service("other", instancetest.Serve))
	other := r.event("other", polder.Ready)
	w = who(t, other.Instance)
	if err := r.Stop(other.ID, "idle"); err != nil {
		t.Fatal(err)
	}
	r.event("other", polder.Draining)
	if stopped := r.event("other", polder.Stopped); stopped.Failed || stopped.Reason != "idle" {
		t.Errorf("stopped: %+v", stopped)
	}
	dead(t, w.PID)

	r.start(service("broken", instancetest.Die))
	failed := r.event("broken", polder.Stopped)
	if !failed.Failed || failed.Reason != "start failed: exited with code 3" || !slices.Contains(failed.LastLines, "cannot open the database") {
		t.Errorf("failed: %+v", failed)
	}
}

func TestEndStopsRealProcesses(t *testing.T) {
	r := run(t, t.TempDir(), false)
	r.start(service("web", instancetest.Serve))
	r.start(service("slow", instancetest.Idle))
	r.event("slow", polder.Starting)
	w := who(t, r.event("web", polder.Ready).Instance)
	r.end()
	dead(t, w.PID)
	r.event("slow", polder.Stopped)
}

// The owner of serving instances is killed: they serve on, without losing a
// request, and the next owner adopts them, also one that was still starting.
func TestKilledOwnersInstancesAreAdopted(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), ownerKey+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	seen := map[string]string{}
	for lines := bufio.NewScanner(out); len(seen) < 2 && lines.Scan(); {
		switch field := strings.Fields(lines.Text()); {
		case len(field) != 3:
			t.Fatalf("the owner says %q", lines.Text())
		case field[0] == "ready", field[1] == "slow":
			seen[field[1]] = field[2]
		}
	}
	if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()

	r := run(t, dir, false)
	all := r.Instances()
	if len(all) != 2 || string(all[0].ID) != seen["slow"] || string(all[1].ID) != seen["web"] {
		t.Fatalf("adopted %+v, the owner had %v", all, seen)
	}
	web := r.event("web", polder.Ready)
	if !web.Adopted || web.Instance.Reason != "a test" {
		t.Errorf("adopted: %+v", web)
	}
	w := who(t, web.Instance)
	slow := r.event("slow", polder.Starting)
	if slow.Instance.Address == web.Instance.Address {
		t.Errorf("both at %s", slow.Instance.Address)
	}
	r.start(service("web", instancetest.Serve)) // and it goes on as ever
	if again := r.event("web", polder.Ready); again.Adopted || again.ID == web.ID {
		t.Errorf("new instance: %+v", again)
	}
	r.end()
	dead(t, w.PID)
}

// Requests go on while one Polder hands over to the next.
func TestHandOverLosesNoRequest(t *testing.T) {
	dir := t.TempDir()
	first := run(t, dir, true)
	first.start(service("web", instancetest.Serve))
	web := first.event("web", polder.Ready)
	before := who(t, web.Instance)

	stop := make(chan struct{})
	var caller sync.WaitGroup
	caller.Go(func() {
		for n := 0; ; n++ {
			select {
			case <-stop:
				if n == 0 {
					t.Error("no request was sent")
				}
				return
			default:
				if _, err := get(t, web.Instance, "/who"); err != nil {
					t.Errorf("request %d: %v", n, err)
				}
			}
		}
	})
	for range 3 {
		first.end()
		first = run(t, dir, true)
		if e := first.event("web", polder.Ready); e.ID != web.ID || !e.Adopted {
			t.Errorf("adopted: %+v", e)
		}
	}
	close(stop)
	caller.Wait()
	if after := who(t, web.Instance); after.PID != before.PID {
		t.Errorf("pid %d, before %d", after.PID, before.PID)
	}
	if err := first.Stop(web.ID, "enough"); err != nil {
		t.Fatal(err)
	}
	first.event("web", polder.Stopped)
	dead(t, before.PID)
}

func TestLogsOfInstances(t *testing.T) {
	dir := t.TempDir()
	r := run(t, dir, false)
	s := service("web", instancetest.Serve)
	collect := func(id polder.InstanceID, n int, follow bool, want ...string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), instancetest.Patience)
		defer cancel()
		var got []string
		for line, err := range instance.Logs(ctx, dir, "web", id, n, follow) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, line.Text)
			if follow && len(got) == len(want) {
				break
			}
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("logs of %q: %q, want %q", id, got, want)
		}
	}
	collect("", 10, false)
	r.start(s)
	one := r.event("web", polder.Ready)
	_, _ = get(t, one.Instance, "/say?text=one")
	collect("", 10, false, "one", "one")
	collect("", 1, false, "one")
	r.start(s)
	two := r.event("web", polder.Ready)
	_, _ = get(t, two.Instance, "/say?text=two")
	collect("", 1, false, "one", "two")
	collect(two.ID, 10, false, "two", "two")
	collect(one.ID, 1, true, "one")

	// Followed, it has what comes later, and what a later instance says.
	ctx, cancel := context.WithTimeout(t.Context(), instancetest.Patience)
	defer cancel()
	seen := map[string]int{}
	var once sync.Once
	for line, err := range instance.Logs(ctx, dir, "web", "", 1, true) {
		if err != nil {
			t.Fatal(err)
		}
		seen[line.Text]++
		if seen["one"]+seen["two"] == 2 {
			once.Do(func() {
				_, _ = get(t, one.Instance, "/say?text=three")
				r.start(s)
				three := r.event("web", polder.Ready)
				_, _ = get(t, three.Instance, "/say?text=four")
			})
		}
		if seen["three"] == 2 && seen["four"] == 2 {
			break
		}
	}
	if seen["one"] != 1 || seen["two"] != 1 {
		t.Errorf("lines %v", seen)
	}
	for _, err := range instance.Logs(t.Context(), dir, "web", "web-none", 1, false) {
		if err == nil || !strings.Contains(err.Error(), "web-none") {
			t.Errorf("logs of nobody: %v", err)
		}
	}
}

// TestPauseByTheManager: an instance is paused and resumed as events tell, and
// ends with its manager while it is paused.
func TestPauseByTheManager(t *testing.T) {
	r := run(t, t.TempDir(), false)
	id := r.start(service("web", instancetest.Serve))
	r.event("web", polder.Ready)
	if err := r.Resume(id); err == nil {
		t.Error("an instance is resumed that was not paused")
	}
	if err := r.Pause(id, "idle"); err != nil {
		t.Fatal(err)
	}
	r.event("web", polder.Paused)
	if err := r.Pause(id, "idle"); err == nil {
		t.Error("a paused instance is paused")
	}
	if err := r.Resume(id); err != nil {
		t.Fatal(err)
	}
	if e := r.event("web", polder.Ready); e.ID != id {
		t.Errorf("%s became ready, want %s", e.ID, id)
	}
	if err := r.Pause(id, "idle"); err != nil {
		t.Fatal(err)
	}
	r.event("web", polder.Paused)
	r.end()
	if last := r.event("web", polder.Stopped); last.ID != id || last.Failed {
		t.Errorf("it ended as %+v", last)
	}
}
