package gateway

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway/activator"
	"github.com/polder/polder/internal/faketime"
	"github.com/polder/polder/prewarm/instance"
	"github.com/polder/polder/xds"
	"github.com/polder/polder/xds/load"
)

// world is a reconciler in fake time among scripted surroundings.
type world struct {
	t       *testing.T
	region  polder.RegionName
	ctx     context.Context
	r       *reconciler
	held    map[xds.Key]xds.Resource
	ack     chan struct{} // closed lets Wait return
	startUp time.Duration // of an instance; negative: it fails
	starts  int
	ending  time.Duration // that an instance takes after Stop
	alive   atomic.Int32  // instances that have not ended
	breaker int           // starts after which a service that fails is not started again; 0 for never
	warm    []polder.ServiceName

	mu   sync.Mutex // guards what follows
	done []string
	born map[polder.InstanceID]time.Time // of instances that live
	ran  time.Duration                   // sum over those that ended
}

// ended notes the end of an instance.
func (w *world) ended(id polder.InstanceID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if at, ok := w.born[id]; ok {
		w.ran += time.Since(at)
		delete(w.born, id)
	}
}

// lived is for how long instances were there, all together.
func (w *world) lived() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	sum := w.ran
	for _, at := range w.born {
		sum += time.Since(at)
	}
	return sum
}

func (w *world) log(entry string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.done = append(w.done, entry)
}

// journal is what the reconciler did, in order.
func (w *world) journal() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.done)
}

// Apply implements publisher.
func (w *world) Apply(set []xds.Resource, remove []xds.Key) int {
	for _, r := range set {
		if old, ok := w.held[r.Key]; ok && old.Version == r.Version {
			continue
		}
		w.held[r.Key] = r
		if r.Type == xds.TypeEndpoint {
			w.log("publish endpoints of " + r.Name)
		}
	}
	for _, key := range remove {
		delete(w.held, key)
	}
	return 0
}

func (w *world) Touch(...string) {}

func (w *world) GiveUp(...xds.Key) {}

// Wait implements publisher.
func (w *world) Wait(ctx context.Context, keys ...xds.Key) error {
	select {
	case <-w.ack:
		w.log("acknowledged")
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Hold implements certificates.
func (w *world) Hold(context.Context, map[polder.ServiceName][]polder.Host) map[polder.ServiceName]error {
	return nil
}

// Change implements certificates.
func (w *world) Change(context.Context, map[polder.ServiceName][]polder.Host, []polder.ServiceName) map[polder.ServiceName]error {
	return nil
}

// Start implements instances: the instance becomes ready, or fails, after startUp.
func (w *world) Start(_ context.Context, s polder.Service, reason string) (polder.InstanceID, error) {
	if w.breaker > 0 && w.starts >= w.breaker {
		return "", &instance.Backoff{Service: s.Name, Until: time.Now().Add(time.Minute), Failures: w.starts, Reason: "exited with code 3"}
	}
	if w.alive.Load() >= int32(s.Scale.Max) {
		return "", &instance.Full{Service: s.Name, Max: s.Scale.Max}
	}
	w.alive.Add(1)
	w.starts++
	id := polder.InstanceID(string(s.Name) + "-" + strconv.Itoa(w.starts))
	w.log("start " + string(id))
	w.mu.Lock()
	w.born[id] = time.Now()
	w.mu.Unlock()
	i := polder.Instance{ID: id, Service: s.Name, Region: w.region, State: polder.Ready, Started: time.Now(), Reason: reason,
		Address: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(20000+w.starts))}
	fails := w.startUp < 0
	time.AfterFunc(max(w.startUp, time.Millisecond), func() {
		i.Ready = time.Now()
		if fails {
			w.alive.Add(-1)
			w.ended(id)
			i.State, i.Reason = polder.Stopped, "exited with code 3"
		}
		w.r.InstanceChanged(w.ctx, instance.Event{Instance: i, Failed: fails})
	})
	return id, nil
}

// Stop implements instances.
func (w *world) Stop(id polder.InstanceID, reason string) error {
	w.log("stop " + string(id))
	service, _, _ := strings.Cut(string(id), "-")
	time.AfterFunc(w.ending, func() {
		w.alive.Add(-1)
		w.ended(id)
		w.r.InstanceChanged(w.ctx, instance.Event{Instance: polder.Instance{
			ID: id, Service: polder.ServiceName(service), Region: w.region, State: polder.Stopped, Reason: reason}})
	})
	return nil
}

// newWorld makes a reconciler of region fr that does not run yet.
func newWorld(t *testing.T, ctx context.Context) *world {
	w := &world{t: t, region: "fr", ctx: ctx, held: map[xds.Key]xds.Resource{}, born: map[polder.InstanceID]time.Time{}, ack: make(chan struct{}), startUp: 20 * time.Millisecond}
	close(w.ack)
	w.r = newReconciler(slog.New(slog.DiscardHandler), xds.Gateway{Region: "fr", Activator: "/activator.sock"},
		xds.NodeConfig{Region: "fr", TrustDomain: "polder", HTTPS: netip.MustParseAddrPort("127.0.0.1:8443"),
			HTTP: netip.MustParseAddrPort("127.0.0.1:8080"), Peer: netip.MustParseAddrPort("127.0.0.1:7443")}, w, w, func(warm []polder.ServiceName) { w.warm = warm })
	w.r.instances = w
	w.r.asleep = func(name polder.ServiceName) { w.log("asleep " + string(name)) }
	return w
}

// inWorld runs a script against a reconciler in fake time.
func inWorld(t *testing.T, services []polder.Service, script func(w *world)) {
	faketime.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		w := newWorld(t, ctx)
		ended := make(chan error, 1)
		go func() { ended <- w.r.Run(ctx) }()
		w.r.SetSurroundings(ctx, surroundings{health: polder.RegionHealth{"fr": true, "nl": true}})
		w.r.SetModel(ctx, &polder.Model{Regions: testRegions, Services: services})
		w.r.Begin(ctx, nil)
		script(w)
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// started tells how many instances were started.
func (w *world) started() (n int) {
	w.r.do(w.ctx, func(time.Time) { n = w.starts })
	return n
}

func started(name string, keepAlive time.Duration) polder.Service {
	return polder.Service{
		Name: polder.ServiceName(name), Hosts: []polder.Host{polder.Host(name + ".example.com")}, Timeout: time.Minute,
		Residency: polder.Residency{Allow: []polder.Place{"fr"}, Elsewhere: polder.PassThrough, Failover: polder.Failover{Class: polder.FailoverClosed}, Telemetry: polder.DefaultTelemetry()},
		Run:       &polder.Run{Command: []string{name}},
		Scale:     polder.Scale{Max: 5, Concurrency: 80, KeepAlive: keepAlive, Prewarm: polder.PrewarmOff},
	}
}

func (w *world) wake(name polder.ServiceName) (activator.Target, error) {
	target, err := w.r.Wake(w.ctx, name, activator.Cause{Kind: activator.CauseRequest})
	if err == nil {
		target.Release() // the request is short
	}
	w.r.do(w.ctx, func(time.Time) {}) // what follows the answer in the same step has happened
	return target, err
}

// after advances the fake clock.
func after(d time.Duration) { <-time.After(d); synctest.Wait() }

func TestOneStartForManyCallers(t *testing.T) {
	inWorld(t, []polder.Service{started("billing", time.Minute)}, func(w *world) {
		answers := make(chan error, 50)
		for range cap(answers) {
			go func() {
				target, err := w.wake("billing")
				if err == nil && (target.Warm || target.Address.Port() != 20001) {
					err = errors.New("not the instance that was started")
				}
				answers <- err
			}()
		}
		for range cap(answers) {
			if err := <-answers; err != nil {
				t.Fatal(err)
			}
		}
		if n := w.started(); n != 1 {
			t.Errorf("%d instances were started", n)
		}
		w.r.do(w.ctx, func(time.Time) {
			if !slices.Equal(w.warm, []polder.ServiceName{"billing"}) {
				t.Errorf("warm: %v", w.warm)
			}
		})
	})
}

func TestSleepLosesNothing(t *testing.T) {
	inWorld(t, []polder.Service{started("billing", 10*time.Second)}, func(w *world) {
		if _, err := w.wake("billing"); err != nil {
			t.Fatal(err)
		}
		w.ack = make(chan struct{})
		w.mu.Lock()
		w.done = nil
		w.mu.Unlock()
		after(12 * time.Second)
		if !slices.Equal(w.journal(), []string{"publish endpoints of service/billing"}) {
			t.Fatalf("before the acknowledgement: %v", w.journal())
		}
		close(w.ack)
		after(time.Second)
		want := []string{"publish endpoints of service/billing", "acknowledged", "stop billing-1", "asleep billing"}
		if !slices.Equal(w.journal(), want) {
			t.Errorf("order: %v, want %v", w.journal(), want)
		}
	})
}

// TestNewVersionWaitsForOldRequests: an instance of an older version is not
// asked to end while a request is in progress.
func TestNewVersionWaitsForOldRequests(t *testing.T) {
	inWorld(t, []polder.Service{started("billing", time.Minute)}, func(w *world) {
		if _, err := w.wake("billing"); err != nil {
			t.Fatal(err)
		}
		w.r.LoadReported(w.ctx, []load.Report{{Node: "fr-1", Service: "billing", InProgress: 1}})
		newer := started("billing", time.Minute)
		newer.Run = &polder.Run{Command: []string{"billing", "--newer"}}
		w.r.SetModel(w.ctx, &polder.Model{Regions: testRegions, Services: []polder.Service{newer}})
		after(5 * time.Second)
		if w.started() != 2 || slices.Contains(w.journal(), "stop billing-1") {
			t.Fatalf("stopped while a request was in progress, or not replaced: %v", w.journal())
		}
		w.r.LoadReported(w.ctx, []load.Report{{Node: "fr-1", Service: "billing", InProgress: 0}})
		after(time.Second)
		if !slices.Contains(w.journal(), "stop billing-1") {
			t.Errorf("the old version stays: %v", w.journal())
		}
	})
}

// TestCallWhileFallingAsleep: a request that races brings the instance back, at
// once and without a start; the retirement that it interrupted ends nothing.
func TestCallWhileFallingAsleep(t *testing.T) {
	inWorld(t, []polder.Service{started("billing", 10*time.Second)}, func(w *world) {
		first, err := w.wake("billing")
		if err != nil {
			t.Fatal(err)
		}
		w.r.do(w.ctx, func(time.Time) { w.ack = make(chan struct{}) })
		after(12 * time.Second)
		again, err := w.wake("billing")
		if err != nil || again.Instance != first.Instance || !again.Warm || again.Why != first.Why {
			t.Fatalf("a racing request got %+v, %v; want %+v, warm", again, err, first)
		}
		close(w.ack)
		after(5 * time.Second)
		if n := w.started(); n != 1 || slices.Contains(w.journal(), "stop billing-1") {
			t.Fatalf("%d starts, %v", n, w.journal())
		}
		var endpoints xds.Resource
		w.r.do(w.ctx, func(time.Time) {
			endpoints = w.held[xds.Key{Type: xds.TypeEndpoint, Name: xds.ServiceCluster("billing")}]
		})
		if !strings.Contains(string(endpoints.Body.GetValue()), "127.0.0.1") {
			t.Error("its endpoint is not published again")
		}
		after(12 * time.Second) // nobody calls any more
		if got := w.journal()[len(w.journal())-1]; got != "asleep billing" {
			t.Errorf("last of all: %v", w.journal())
		}
	})
}

// TestCallWhileTheLastInstanceEnds: a service that may have one instance is
// called while that one ends; the request waits for its place and is answered.
func TestCallWhileTheLastInstanceEnds(t *testing.T) {
	only := started("billing", 10*time.Second)
	only.Scale.Max = 1
	inWorld(t, []polder.Service{only}, func(w *world) {
		w.ending = 2 * time.Second
		if _, err := w.wake("billing"); err != nil {
			t.Fatal(err)
		}
		after(11 * time.Second)
		if !slices.Contains(w.journal(), "stop billing-1") {
			t.Fatalf("it does not end: %v", w.journal())
		}
		target, err := w.wake("billing")
		if err != nil || target.Instance != "billing-2" {
			t.Errorf("got %s, %v; want billing-2, %v", target.Instance, err, w.journal())
		}
	})
}

func TestTrafficKeepsAwake(t *testing.T) {
	inWorld(t, []polder.Service{started("billing", 10*time.Second)}, func(w *world) {
		if _, err := w.wake("billing"); err != nil {
			t.Fatal(err)
		}
		for range 20 {
			after(5 * time.Second)
			w.r.LoadReported(w.ctx, []load.Report{{Node: "fr-1", Service: "billing", Interval: time.Second, Direct: load.Count{Issued: 1}}})
		}
		if w.started() != 1 || slices.Contains(w.journal(), "stop billing-1") {
			t.Errorf("a service in use was put to sleep: %v", w.journal())
		}
	})
}

func TestStartThatFails(t *testing.T) {
	inWorld(t, []polder.Service{started("billing", time.Minute)}, func(w *world) {
		w.startUp, w.breaker = -1, 3
		_, err := w.wake("billing")
		var failure *activator.Failure
		if !errors.As(err, &failure) || failure.RetryAfter <= 0 || !strings.Contains(err.Error(), "exited with code 3") {
			t.Fatalf("got %v, want why the start failed and when to try again", err)
		}
		if _, err := w.wake("billing"); err == nil {
			t.Error("a service in a crash loop was woken")
		}
		if n := w.started(); n != w.breaker {
			t.Errorf("a start storm: %d starts", n)
		}
	})
}

func TestCrashIsReplaced(t *testing.T) {
	inWorld(t, []polder.Service{started("billing", time.Minute)}, func(w *world) {
		first, err := w.wake("billing")
		if err != nil {
			t.Fatal(err)
		}
		w.r.InstanceChanged(w.ctx, instance.Event{Failed: true, Instance: polder.Instance{
			ID: first.Instance, Service: "billing", Region: w.region, State: polder.Stopped, Reason: "killed"}})
		second, err := w.wake("billing")
		if err != nil || second.Instance == first.Instance {
			t.Errorf("after a crash: %v, %v", second.Instance, err)
		}
	})
}

func TestGoneInstanceIsNotGivenTwice(t *testing.T) {
	inWorld(t, []polder.Service{started("billing", time.Minute)}, func(w *world) {
		first, err := w.wake("billing")
		if err != nil {
			t.Fatal(err)
		}
		second, err := w.r.Wake(w.ctx, "billing", activator.Cause{Kind: activator.CauseGone, Gone: first.Address})
		if err != nil || second.Instance == first.Instance {
			t.Errorf("got %v, %v after %v accepted no connection", second.Instance, err, first.Instance)
		}
	})
}

func TestNewVersionTakesOver(t *testing.T) {
	inWorld(t, []polder.Service{started("billing", time.Minute)}, func(w *world) {
		if _, err := w.wake("billing"); err != nil {
			t.Fatal(err)
		}
		changed := started("billing", time.Minute)
		changed.Run = &polder.Run{Command: []string{"billing", "--new"}}
		w.r.SetModel(w.ctx, &polder.Model{Regions: testRegions, Services: []polder.Service{changed}})
		after(5 * time.Second)
		newer, older := slices.Index(w.journal(), "start billing-2"), slices.Index(w.journal(), "stop billing-1")
		if newer < 0 || older < newer {
			t.Errorf("the old version ended before the new one was there: %v", w.journal())
		}
	})
}

func TestRemovedServiceIsGone(t *testing.T) {
	inWorld(t, []polder.Service{started("billing", time.Minute), started("other", time.Minute)}, func(w *world) {
		if _, err := w.wake("billing"); err != nil {
			t.Fatal(err)
		}
		w.r.SetModel(w.ctx, &polder.Model{Regions: testRegions, Services: []polder.Service{started("other", time.Minute)}})
		after(5 * time.Second)
		if !slices.Contains(w.journal(), "stop billing-1") {
			t.Errorf("its instance runs on: %v", w.journal())
		}
		for key := range w.held {
			if strings.Contains(key.Name, "billing") {
				t.Errorf("%s %s is still published", key.Type, key.Name)
			}
		}
		if _, err := w.wake("billing"); err == nil {
			t.Error("it was woken")
		}
	})
}

func TestCallerWhoLeavesIsForgotten(t *testing.T) {
	inWorld(t, []polder.Service{started("billing", time.Second)}, func(w *world) {
		w.startUp = time.Minute
		ctx, leave := context.WithCancel(w.ctx)
		time.AfterFunc(time.Second, leave)
		if _, err := w.r.Wake(ctx, "billing", activator.Cause{Kind: activator.CauseRequest}); !errors.Is(err, context.Canceled) {
			t.Fatalf("got %v", err)
		}
		list, err := w.r.Status(w.ctx)
		if err != nil || list[0].Waiting != 0 {
			t.Errorf("waiting: %+v, %v", list, err)
		}
	})
}

func TestSignsWake(t *testing.T) {
	for name, sign := range map[string]func(*reconciler, context.Context, polder.ServiceName){
		"a ClientHello": (*reconciler).Hello, "a DNS query": (*reconciler).Queried,
	} {
		t.Run(name, func(t *testing.T) { wantSignToWake(t, sign) })
	}
}

func wantSignToWake(t *testing.T, sign func(*reconciler, context.Context, polder.ServiceName)) {
	service := started("billing", 10*time.Second)
	service.Scale.Prewarm = polder.PrewarmAuto
	inWorld(t, []polder.Service{service}, func(w *world) {
		sign(w.r, w.ctx, "billing")
		after(time.Second)
		if w.started() != 1 {
			t.Fatal("it did not wake the service")
		}
		target, err := w.wake("billing") // the request that it announced
		if err != nil || !target.Warm {
			t.Errorf("the request had to wait: %+v, %v", target, err)
		}
		after(time.Minute)
		if !slices.Contains(w.journal(), "asleep billing") {
			t.Fatalf("does not sleep: %v", w.journal())
		}

		// Scanners give signs and ask for nothing: they are heard less and less.
		for range 60 {
			sign(w.r, w.ctx, "billing")
			after(time.Minute)
		}
		if n := w.started(); n > 8 {
			t.Errorf("an hour of signs started %d instances", n-1)
		}
		if _, err := w.wake("billing"); err != nil {
			t.Error(err)
		}
	})
}
