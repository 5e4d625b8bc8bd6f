package instancetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/prewarm/instance"
)

// Harness is what the suite needs to know of a provider.
type Harness struct {
	// Open makes a provider over the same state each time, as a restarted
	// Polder has it. The state is the test's own.
	Open func() instance.Provider

	// Run makes a run of the sample program.
	Run func() polder.Run
}

// Patience bounds each wait of the suite; nothing is expected to take so long.
const Patience = 30 * time.Second

// Run tests a provider. make is called in every subtest.
func Run(t *testing.T, make func(t *testing.T) Harness) {
	for name, test := range map[string]func(*suite){
		"starts and answers":                (*suite).starts,
		"waits for the readiness path":      (*suite).waitsForReadiness,
		"speaks HTTP/2 to the path":         (*suite).speaksHTTP2,
		"stops gracefully":                  (*suite).stopsGracefully,
		"kills after the grace":             (*suite).kills,
		"tells an early death at once":      (*suite).tellsEarlyDeath,
		"gives up a start that hangs":       (*suite).givesUp,
		"tells a crash":                     (*suite).tellsCrash,
		"adopts what runs":                  (*suite).adopts,
		"does not adopt what ended":         (*suite).adoptsNoDead,
		"keeps the log":                     (*suite).keepsLog,
		"keeps instances apart":             (*suite).keepsApart,
		"leaves nothing of a failed start":  (*suite).leavesNothing,
		"takes stops from everywhere":       (*suite).stopsOnce,
		"passes the inherited socket":       (*suite).inherits,
		"an inheritor's death is told":      (*suite).inheritorDies,
		"an inheritor that hangs is unmade": (*suite).inheritorHangs,
		"pauses":                            (*suite).pauses,
	} {
		t.Run(name, func(t *testing.T) {
			s := &suite{T: t, harness: make(t), logs: t.TempDir()}
			s.provider = s.harness.Open()
			test(s)
		})
	}
}

type suite struct {
	*testing.T
	harness  Harness
	provider instance.Provider
	logs     string
	started  int
}

// order is an order of one more instance of the sample program.
func (s *suite) order(what Behaviour, change func(*polder.Run)) instance.Order {
	run := s.harness.Run()
	environment := map[string]string{BehaviourKey: string(what), "GORACE": "atexit_sleep_ms=0"}
	for name, value := range run.Environment {
		environment[name] = value
	}
	run.Environment = environment
	if change != nil {
		change(&run)
	}
	s.started++
	id := polder.InstanceID(fmt.Sprintf("sample-%d", s.started))
	return instance.Order{
		ID: id, Region: "nl", Asked: time.Now(), Reason: "a test", LogFile: filepath.Join(s.logs, string(id)),
		Service: polder.Service{Name: "sample", Hosts: []polder.Host{"*.example.com", "sample.example.com"}, Protocol: polder.HTTP1, Run: &run},
	}
}

func (s *suite) context() context.Context {
	ctx, cancel := context.WithTimeout(s.Context(), Patience)
	s.Cleanup(cancel)
	return ctx
}

func (s *suite) start(o instance.Order) instance.Handle {
	s.Helper()
	h, err := s.provider.Start(s.context(), o)
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { _ = h.Stop(context.Background(), 0) })
	return h
}

func (s *suite) ready(o instance.Order) instance.Handle {
	s.Helper()
	h := s.start(o)
	listening, err := h.AwaitReady(s.context())
	if err != nil {
		s.Fatal(err)
	}
	if listening.Before(o.Asked) || listening.After(time.Now()) {
		s.Errorf("listening at %v, asked at %v", listening, o.Asked)
	}
	return h
}

func (s *suite) stop(h instance.Handle, grace time.Duration) {
	s.Helper()
	if err := h.Stop(s.context(), grace); err != nil {
		s.Fatal(err)
	}
	s.gone(h)
}

// gone checks that Done is closed and nobody listens.
func (s *suite) gone(h instance.Handle) {
	s.Helper()
	select {
	case <-h.Done():
	case <-time.After(Patience):
		s.Fatal("Done is not closed")
	}
	conn, err := net.DialTimeout("tcp", h.Identity().Address.String(), Patience)
	if err == nil {
		conn.Close()
		s.Errorf("somebody still listens on %s", h.Identity().Address)
	}
}

func get(ctx context.Context, h instance.Handle, path string) (*http.Response, error) {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: Patience}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+h.Identity().Address.String()+path, nil)
	if err != nil {
		return nil, err
	}
	return client.Do(request)
}

func (s *suite) who(h instance.Handle) (w Who) {
	s.Helper()
	answer, err := get(s.context(), h, "/who")
	if err != nil {
		s.Fatal(err)
	}
	defer answer.Body.Close()
	if err := json.NewDecoder(answer.Body).Decode(&w); err != nil {
		s.Fatal(err)
	}
	return w
}

func (s *suite) tell(h instance.Handle, path string) {
	if answer, err := get(s.context(), h, path); err == nil {
		answer.Body.Close()
	}
}

func (s *suite) log(o instance.Order) string {
	s.Helper()
	text, err := os.ReadFile(o.LogFile)
	if err != nil {
		s.Fatal(err)
	}
	return string(text)
}

func (s *suite) starts() {
	o := s.order(Serve, nil)
	h := s.ready(o)
	id := h.Identity()
	want := instance.Identity{ID: o.ID, Service: "sample", Region: "nl", Address: id.Address, Asked: o.Asked, Reason: "a test"}
	if id != want || !id.Address.IsValid() || id.Address.Port() == 0 {
		s.Errorf("identity %+v, want %+v", id, want)
	}
	if w := s.who(h); w.Service != "sample" || w.Region != "nl" || w.Instance != string(o.ID) {
		s.Errorf("it thinks that it is %+v", w)
	}
	select {
	case <-h.Done():
		s.Error("Done is closed")
	default:
	}
}

func (s *suite) waitsForReadiness() {
	o := s.order(Serve, func(r *polder.Run) { r.Ready = "/ready" })
	h := s.ready(o)
	s.who(h)
}

func (s *suite) speaksHTTP2() {
	o := s.order(Serve, func(r *polder.Run) { r.Ready = "/ready" })
	o.Service.Protocol = polder.HTTP2
	s.ready(o)
}

// pauses is for providers that can.
func (s *suite) pauses() {
	o := s.order(Serve, nil)
	h := s.ready(o)
	p, ok := h.(instance.Pauser)
	if !ok {
		return
	}
	before := s.who(h)
	for range 2 {
		if err := p.Pause(); err != nil {
			s.Fatal(err)
		}
	}
	// What comes meanwhile waits, and is answered.
	answered := make(chan error, 1)
	go func() {
		answer, err := get(s.context(), h, "/who")
		if err == nil {
			err = answer.Body.Close()
		}
		answered <- err
	}()
	select {
	case <-answered:
		s.Error("a paused instance answers")
	default:
	}
	if err := p.Resume(); err != nil {
		s.Fatal(err)
	}
	if err := <-answered; err != nil {
		s.Errorf("who came while it was paused: %v", err)
	}
	if after := s.who(h); after.PID != before.PID {
		s.Errorf("pid %d answers, paused was %d", after.PID, before.PID)
	}

	// The next owner finds it running, and one that is paused is stopped as ever.
	if err := p.Pause(); err != nil {
		s.Fatal(err)
	}
	h.Release()
	adopted, err := s.harness.Open().Adopt(s.context())
	if err != nil || len(adopted) != 1 {
		s.Fatalf("adopted %d, %v", len(adopted), err)
	}
	if w := s.who(adopted[0]); w.PID != before.PID {
		s.Errorf("pid %d answers, adopted was %d", w.PID, before.PID)
	}
	if err := adopted[0].(instance.Pauser).Pause(); err != nil {
		s.Error(err)
	}
	s.stop(adopted[0], Patience)
	if text := s.log(o); !strings.Contains(text, "bye") {
		s.Errorf("it was not asked to finish; log:\n%s", text)
	}
}

func (s *suite) stopsGracefully() {
	o := s.order(Serve, nil)
	h := s.ready(o)
	s.stop(h, Patience)
	if text := s.log(o); !strings.Contains(text, "bye") {
		s.Errorf("it was not asked to finish; log:\n%s", text)
	}
}

func (s *suite) kills() {
	h := s.ready(s.order(Stubborn, nil))
	s.stop(h, time.Millisecond)
}

func (s *suite) tellsEarlyDeath() {
	o := s.order(Die, nil)
	h := s.start(o)
	_, err := h.AwaitReady(s.context())
	died := (*instance.Died)(nil)
	if !errors.As(err, &died) {
		s.Fatalf("error %v is no *Died", err)
	}
	if want := []string{"opening the database", "cannot open the database"}; !slices.Equal(died.LastLines, want) {
		s.Errorf("last lines %q, want %q", died.LastLines, want)
	}
	for _, part := range []string{"code 3", "cannot open the database"} {
		if !strings.Contains(err.Error(), part) {
			s.Errorf("error %q lacks %q", err, part)
		}
	}
	s.gone(h)
	s.stop(h, Patience)
}

func (s *suite) givesUp() {
	h := s.start(s.order(Idle, nil))
	s.hangs(h)
}

// hangs checks that a wait for an instance that never gets ready ends with its context.
func (s *suite) hangs(h instance.Handle) {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := h.AwaitReady(ctx)
	if !errors.Is(err, context.DeadlineExceeded) {
		s.Errorf("error = %v", err)
	}
	s.stop(h, time.Millisecond)
}

func (s *suite) tellsCrash() {
	o := s.order(Serve, nil)
	h := s.ready(o)
	s.tell(h, "/exit?code=7")
	s.gone(h)
	died := h.Died()
	if !strings.Contains(died.Exit, "code 7") || !slices.Contains(died.LastLines, "exiting as told") {
		s.Errorf("died: %+v", died)
	}
}

func (s *suite) adopts() {
	first, second := s.ready(s.order(Serve, nil)), s.ready(s.order(Stubborn, func(r *polder.Run) { r.Ready = "/ready" }))
	was := map[polder.InstanceID]Who{}
	for _, h := range []instance.Handle{first, second} {
		was[h.Identity().ID] = s.who(h)
		h.Release()
	}
	adopted, err := s.harness.Open().Adopt(s.context())
	if err != nil || len(adopted) != 2 {
		s.Fatalf("adopted %d, %v", len(adopted), err)
	}
	for _, h := range adopted {
		s.Cleanup(func() { _ = h.Stop(context.Background(), 0) })
		before := first.Identity()
		if h.Identity().ID != before.ID {
			before = second.Identity()
		}
		if now := h.Identity(); now.ID != before.ID || now.Address != before.Address || now.Service != before.Service ||
			now.Region != before.Region || now.Reason != before.Reason || !now.Asked.Equal(before.Asked) {
			s.Errorf("identity %+v, before %+v", now, before)
		}
		if _, err := h.AwaitReady(s.context()); err != nil {
			s.Error(err)
		}
		if w := s.who(h); w.PID != was[h.Identity().ID].PID {
			s.Errorf("another process answers: %+v, before %+v", w, was[h.Identity().ID])
		}
		s.stop(h, time.Millisecond)
	}
	if again, err := s.harness.Open().Adopt(s.context()); err != nil || len(again) != 0 {
		s.Errorf("after the stop it adopts %d, %v", len(again), err)
	}
}

func (s *suite) adoptsNoDead() {
	o := s.order(Serve, nil)
	h := s.ready(o)
	h.Release()
	s.tell(h, "/exit?code=0")
	deadline := time.After(Patience)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for { // a released handle tells nothing
		adopted, err := s.harness.Open().Adopt(s.context())
		if err != nil {
			s.Fatal(err)
		}
		if len(adopted) == 0 {
			return
		}
		adopted[0].Release()
		select {
		case <-tick.C:
		case <-deadline:
			s.Fatal("it adopts what has ended")
		}
	}
}

func (s *suite) keepsLog() {
	o := s.order(Serve, nil)
	if err := os.WriteFile(o.LogFile, []byte("from before\n"), 0o600); err != nil {
		s.Fatal(err)
	}
	h := s.ready(o)
	s.tell(h, "/say?text=hello")
	s.stop(h, Patience)
	if text := s.log(o); text != "from before\nhello\nhello\nbye\n" {
		s.Errorf("log:\n%s", text)
	}
}

func (s *suite) keepsApart() {
	const many = 5
	var orders []instance.Order
	for range many {
		orders = append(orders, s.order(Serve, nil))
	}
	handles := make(chan instance.Handle, many)
	for _, o := range orders { // all at once
		go func() {
			h, err := s.provider.Start(s.context(), o)
			if err == nil {
				_, err = h.AwaitReady(s.context())
			}
			if err != nil {
				s.Error(err)
			}
			handles <- h
		}()
	}
	addresses, pids := map[string]bool{}, map[int]bool{}
	for range many {
		h := <-handles
		if h == nil {
			continue
		}
		s.Cleanup(func() { _ = h.Stop(context.Background(), 0) })
		w := s.who(h)
		if w.Instance != string(h.Identity().ID) {
			s.Errorf("%s answers at the address of %s", w.Instance, h.Identity().ID)
		}
		addresses[h.Identity().Address.String()], pids[w.PID] = true, true
	}
	if len(addresses) != many {
		s.Errorf("addresses %v for %d instances", addresses, many)
	}
}

func (s *suite) leavesNothing() {
	o := s.order(Serve, func(r *polder.Run) { r.Command = []string{"/no/such/program"} })
	if h, err := s.provider.Start(s.context(), o); err == nil {
		s.stop(h, 0)
		s.Fatal("it started")
	} else if !strings.Contains(err.Error(), "/no/such/program") || !strings.Contains(err.Error(), string(o.ID)) {
		s.Errorf("error %q lacks the program or the instance", err)
	}
	adopted, err := s.harness.Open().Adopt(s.context())
	if err != nil || len(adopted) != 0 {
		s.Errorf("left behind: %d, %v", len(adopted), err)
	}
}

func (s *suite) stopsOnce() {
	h := s.ready(s.order(Serve, nil))
	errs := make(chan error)
	for range 3 {
		go func() { errs <- h.Stop(s.context(), Patience) }()
	}
	for range 3 {
		if err := <-errs; err != nil {
			s.Error(err)
		}
	}
	s.stop(h, 0)
}

func inherit(r *polder.Run) { r.Listen = polder.ListenInherit }

func (s *suite) inherits() {
	h := s.ready(s.order(Serve, inherit))
	s.who(h)
	s.stop(h, Patience)
}

func (s *suite) inheritorDies() {
	h := s.start(s.order(Die, inherit))
	_, err := h.AwaitReady(s.context())
	if died := (*instance.Died)(nil); !errors.As(err, &died) {
		s.Errorf("error %v is no *Died", err)
	}
	s.stop(h, 0)
}

func (s *suite) inheritorHangs() {
	h := s.start(s.order(Idle, inherit))
	s.hangs(h)
}
