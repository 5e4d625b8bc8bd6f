package activator_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway/activator"
)

// sleeper is a service that a test puts into a state.
type sleeper struct {
	*wakes
	state  atomic.Pointer[activator.Outlook]
	roused atomic.Int32
	fails  error
}

func newSleeper(state activator.State) *sleeper {
	s := &sleeper{wakes: newWakes()}
	s.is(state)
	return s
}

func (s *sleeper) is(state activator.State) {
	s.state.Store(&activator.Outlook{State: state, Rest: 2500 * time.Millisecond})
}

func (s *sleeper) rouse(context.Context, polder.ServiceName, activator.Cause) (activator.Outlook, error) {
	s.roused.Add(1)
	return *s.state.Load(), s.fails
}

func (s *sleeper) look(context.Context, polder.ServiceName) (activator.Outlook, error) {
	return *s.state.Load(), nil
}

func (s *sleeper) options(cold polder.Cold) activator.Options {
	o := options(s.wake)
	o.Cold, o.Rouse, o.Look = func(polder.ServiceName) polder.Cold { return cold }, s.rouse, s.look
	return o
}

// held asserts that the request waits for an instance, and gives it one.
func (s *sleeper) held(t *testing.T, got <-chan result, to activator.Target, want string) {
	t.Helper()
	s.next(t).succeed(to)
	receive(t, got, "the instance's answer").ok(t, want)
}

// A caller is told at once, the service is woken, and nothing of the call
// reaches an instance: then or later.
func TestAccepted(t *testing.T) {
	protocols(t, func(t *testing.T, p polder.Protocol) {
		s := newSleeper(activator.StateStarting)
		r := newRig(t, s.options(polder.Cold{Answer: polder.ColdAccepted, Paths: map[string]polder.ColdAnswer{"/api": polder.ColdHold}}))
		client := r.client(p)
		got := send(client, newRequest(t, t.Context(), "POST", "/jobs?a=b", strings.NewReader("order")))
		var body struct{ Text, State, Link, Service, Region string }
		if err := json.Unmarshal([]byte(got.text), &body); err != nil || got.StatusCode != http.StatusAccepted {
			t.Fatalf("got %+v, %v", got, err)
		}
		if body.State != "starting" || body.Service != "svc" || body.Region != "fr" || !strings.Contains(body.Text, "repeat") ||
			body.Link != got.Header.Get("Location") || got.Header.Get("Retry-After") != "3" || got.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("told %s with %v", got.text, got.Header)
		}
		for _, state := range []activator.State{activator.StateQueued, activator.StateStarting, activator.StateFailed, activator.StateReady, activator.StateAsleep} {
			s.is(state)
			wantState(t, client, body.Link, state)
		}
		if n := s.roused.Load(); n != 1 || len(s.asked) != 0 {
			t.Errorf("roused %d times and woken %d times: asking wakes nobody", n, len(s.asked))
		}
		s.is(activator.StateReady)
		to := instance(t, p, echo)
		s.held(t, start(client, newRequest(t, t.Context(), "POST", "/jobs", strings.NewReader("order"))), to, "order")
		s.is(activator.StateStarting)
		s.held(t, start(client, newRequest(t, t.Context(), "POST", "/api/x", strings.NewReader("held"))), to, "held")
		r.idle()
		if stats := r.stats("svc"); stats.Brief[polder.ColdAccepted] != 1 || len(stats.Failed) != 0 || stats.Requests != 3 {
			t.Errorf("counted %+v", stats)
		}
		wantRemembered(t, r, polder.ColdAccepted, http.StatusAccepted)
	})
}

func wantState(t *testing.T, client *http.Client, link string, want activator.State) {
	t.Helper()
	got := send(client, newRequest(t, t.Context(), "GET", link, nil))
	var told struct {
		State   activator.State
		Request string `json:"request-id"`
	}
	if err := json.Unmarshal([]byte(got.text), &told); err != nil || got.StatusCode != 200 || told.State != want || told.Request != "req-1" {
		t.Errorf("the state is told as %d %s, %v, want %s", got.StatusCode, got.text, err, want)
	}
	if retry := got.Header.Get("Retry-After"); (retry == "") != (want == activator.StateReady) || got.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("%s with the headers %v", want, got.Header)
	}
}

func wantRemembered(t *testing.T, r *rig, answer polder.ColdAnswer, status int) {
	t.Helper()
	for _, c := range r.ColdRequests() {
		if c.Answer == answer {
			if c.ID != "req-1" || c.Status != status || c.Instance != "" {
				t.Errorf("remembered as %+v", c)
			}
			return
		}
	}
	t.Errorf("no cold request is remembered as %s", answer)
}

// A state is told for what can be a request, to who only reads; and of a service
// that tells nobody to come back, the path is its own.
func TestStateOfWhat(t *testing.T) {
	s := newSleeper(activator.StateStarting)
	r := newRig(t, s.options(polder.Cold{Answer: polder.ColdPage}))
	client := r.client(polder.HTTP1)
	for path, want := range map[string]int{
		polder.ColdStatePath + "x": 200, polder.ColdStatePath: 404, polder.ColdStatePath + "a/b": 404, polder.ColdStatePath + "a%20b": 404,
		polder.ColdStatePath + strings.Repeat("x", 129): 404, polder.ColdStatePath + "x?y=z": 200,
	} {
		request := newRequest(t, t.Context(), "GET", "/", nil)
		request.URL.Opaque = path
		if got := send(client, request); got.err != nil || got.StatusCode != want {
			t.Errorf("%s: got %+v, want %d", path, got, want)
		}
	}
	if got := send(client, newRequest(t, t.Context(), "DELETE", polder.ColdStatePath+"x", nil)); got.StatusCode != 405 || got.Header.Get("Allow") == "" {
		t.Errorf("got %+v, want 405", got)
	}

	plain := newRig(t, s.options(polder.Cold{Answer: polder.ColdReject}))
	s.is(activator.StateReady)
	got := start(plain.client(polder.HTTP1), newRequest(t, t.Context(), "GET", polder.ColdStatePath+"x", nil))
	s.held(t, got, instance(t, polder.HTTP1, echo), "")
}

// A browser that opens a page sees one that waits; whatever else it asks for is
// held, and so are all other callers.
func TestPage(t *testing.T) {
	s := newSleeper(activator.StateStarting)
	r := newRig(t, s.options(polder.Cold{Answer: polder.ColdPage}))
	client, to := r.client(polder.HTTP1), instance(t, polder.HTTP1, echo)
	opens := func(header ...string) *http.Request {
		request := newRequest(t, t.Context(), "GET", "/shop", nil)
		request.Header.Set("Accept", "text/html,application/xhtml+xml,*/*;q=0.8")
		for i := 0; i < len(header); i += 2 {
			request.Header.Set(header[i], header[i+1])
		}
		return request
	}
	for _, request := range []*http.Request{opens(), opens("Sec-Fetch-Mode", "navigate")} {
		got := send(client, request)
		if got.err != nil || got.StatusCode != 503 || got.Header.Get("Retry-After") != "3" || got.Header.Get("X-Polder-Reason") != "asleep" ||
			!strings.HasPrefix(got.Header.Get("Content-Type"), "text/html") {
			t.Fatalf("got %+v", got)
		}
		for _, part := range []string{"<!doctype html>", "svc.example.com is starting", `data-link="` + polder.ColdStatePath + `req-1"`, "http-equiv=\"refresh\""} {
			if !strings.Contains(got.text, part) {
				t.Errorf("the page lacks %q:\n%s", part, got.text)
			}
		}
		for _, outside := range []string{"http://", "https://", "src=", "@import", "url("} {
			if strings.Contains(got.text, outside) {
				t.Errorf("the page needs something else: %q", outside)
			}
		}
		if policy := got.Header.Get("Content-Security-Policy"); !strings.HasPrefix(policy, "default-src 'none'; style-src 'sha256-") {
			t.Errorf("policy %q", policy)
		}
	}
	post := opens()
	post.Method = "POST"
	for _, request := range []*http.Request{
		opens("Accept", "application/json"), opens("Sec-Fetch-Mode", "cors"), opens("Upgrade", "websocket"), post,
	} {
		s.held(t, start(client, request), to, "")
	}
	r.idle()
	wantRemembered(t, r, polder.ColdPage, 503)
}

// What a caller sends as host is text on the page, and nothing else.
func TestPageEscapesTheHost(t *testing.T) {
	s := newSleeper(activator.StateStarting)
	r := newRig(t, s.options(polder.Cold{Answer: polder.ColdPage}))
	request := newRequest(t, t.Context(), "GET", "/", nil)
	request.Header.Set("Accept", "text/html")
	request.Header.Set("X-Request-Id", `"><script>alert(1)</script>`)
	request.Host = "evil'onload=alert(1)"
	got := send(r.client(polder.HTTP1), request)
	if got.err != nil || strings.Contains(got.text, "<script>alert") || strings.Contains(got.text, "evil'onload") {
		t.Errorf("got %+v", got)
	}
}

func TestReject(t *testing.T) {
	s := newSleeper(activator.StateQueued)
	r := newRig(t, s.options(polder.Cold{Answer: polder.ColdReject}))
	got := send(r.client(polder.HTTP1), newRequest(t, t.Context(), "GET", "/", nil))
	got.refused(t, 503, activator.Asleep)
	if got.Header.Get("Retry-After") != "3" || s.roused.Load() != 1 {
		t.Errorf("Retry-After %q, roused %d times", got.Header.Get("Retry-After"), s.roused.Load())
	}
	_, err := r.grpc().EmptyCall(grpcContext(t), &testgrpc.Empty{})
	if status.Code(err) != codes.Unavailable {
		t.Errorf("gRPC: got %v", err)
	}
	wantRemembered(t, r, polder.ColdReject, 503)
	r.idle()
	if n := r.stats("svc").Failed[activator.Asleep]; n != 2 {
		t.Errorf("counted %d", n)
	}
}

// A gRPC call and an upgrade cannot use a 202.
func TestAcceptedHoldsWhatCannotUseIt(t *testing.T) {
	s := newSleeper(activator.StateStarting)
	r := newRig(t, s.options(polder.Cold{Answer: polder.ColdAccepted}))
	to, _ := grpcInstance(t)
	done := make(chan error, 1)
	go func() {
		_, err := r.grpc().UnaryCall(grpcContext(t), &testgrpc.SimpleRequest{Payload: payload("x")})
		done <- err
	}()
	s.next(t).succeed(to)
	if err := receive(t, done, "the end of the call"); err != nil {
		t.Error(err)
	}
}

// What cannot be woken is refused with its reason, whatever the answer.
func TestBriefFailure(t *testing.T) {
	for _, answer := range []polder.ColdAnswer{polder.ColdAccepted, polder.ColdPage, polder.ColdReject} {
		s := newSleeper(activator.StateFailed)
		s.fails = &activator.Failure{Reason: activator.CrashLoop, RetryAfter: 7 * time.Second, Err: errors.New("exit 3")}
		r := newRig(t, s.options(polder.Cold{Answer: answer}))
		request := newRequest(t, t.Context(), "GET", "/", nil)
		request.Header.Set("Accept", "text/html")
		got := send(r.client(polder.HTTP1), request)
		got.refused(t, 503, activator.CrashLoop)
		if got.Header.Get("Retry-After") != "7" || strings.Contains(got.text, "exit 3") {
			t.Errorf("%s: %+v", answer, got)
		}
		r.idle()
	}
}
