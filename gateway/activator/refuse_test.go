package activator_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway/activator"
	"sync/atomic"
)

func TestRefusalsTellTheReasonAndNoMore(t *testing.T) {
	secret := errors.New("exec /srv/secret-path: no such file")
	for _, test := range []struct {
		name   string
		err    error
		status int
		reason activator.Reason
		retry  string
	}{
		{"a failure with a reason", &activator.Failure{Reason: activator.OverBudget, RetryAfter: 90 * time.Second, Err: secret}, 503, activator.OverBudget, "90"},
		{"a wrapped failure", fmt.Errorf("region fr: %w", &activator.Failure{Reason: activator.CrashLoop, RetryAfter: 1500 * time.Millisecond, Err: secret}), 503, activator.CrashLoop, "2"},
		{"a quota", &activator.Failure{Reason: activator.OverQuota}, 503, activator.OverQuota, "1"},
		{"any other error", secret, 503, activator.StartFailed, "1"},
		{"a reason that nobody knows", &activator.Failure{Reason: "secret-path", Err: secret}, 503, activator.StartFailed, "1"},
		{"a reason that is only counted", &activator.Failure{Reason: activator.CallerGone, Err: secret}, 503, activator.StartFailed, "1"},
		{"a wait without end", &activator.Failure{Reason: activator.StartFailed, RetryAfter: 1 << 62}, 503, activator.StartFailed, "3600"},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWakes()
			r := newRig(t, options(w.wake))
			got := start(r.client(polder.HTTP1), newRequest(t, t.Context(), "GET", "/", nil))
			w.next(t).fail(test.err)
			answer := receive(t, got, "the refusal")
			body := answer.refused(t, test.status, test.reason)
			if body.Service != "svc" || body.Region != "fr" || body.Request != "req-1" {
				t.Errorf("the refusal says %+v", body)
			}
			if retry := answer.Header.Get("Retry-After"); retry != test.retry {
				t.Errorf("Retry-After %q, want %q", retry, test.retry)
			}
			if strings.Contains(answer.text, "secret") || strings.Contains(fmt.Sprint(answer.Header), "secret") {
				t.Errorf("the caller learns of the operator's matters: %v %s", answer.Header, answer.text)
			}
			if errors.Is(test.err, secret) && !strings.Contains(r.log.String(), secret.Error()) {
				t.Errorf("the operator does not learn why: %s", r.log)
			}
			r.idle()
			if n := r.stats("svc").Failed[test.reason]; n != 1 {
				t.Errorf("counted %d of %s", n, test.reason)
			}
			cold := r.ColdRequests()
			if len(cold) != 1 || cold[0].Reason != test.reason || cold[0].Status != test.status {
				t.Errorf("the ledger has %+v", cold)
			}
		})
	}
}

func TestServicesThatAreNotKnownWakeNobody(t *testing.T) {
	r := newRig(t, options(func(context.Context, polder.ServiceName, activator.Cause) (activator.Target, error) {
		t.Error("Wake was called")
		return activator.Target{}, errors.New("no")
	}))
	client := r.client(polder.HTTP1)
	names := [][]string{nil, {""}, {"nobody"}, {"svc", "svc"}, {"SVC"}, {"svc,svc"}, {"-svc"}, {"svc-"}, {"a.b"}, {strings.Repeat("a", 64)}, {"s/../vc"}}
	for _, name := range names {
		request := newRequest(t, t.Context(), "GET", "/", nil)
		request.Header["X-Polder-Service"] = name
		send(client, request).refused(t, 503, activator.UnknownService)
	}
	if s := r.Stats(); s.Unknown != uint64(len(names)) || len(s.Services) != 0 {
		t.Errorf("unknown names take memory: %+v", s)
	}
	if lines := strings.Count(r.log.String(), "not answered"); lines < 1 || lines >= len(names) {
		t.Errorf("%d log lines for %d requests in a row", lines, len(names))
	}
}

// TestAHostThatMovedIsItsHeirs: an Envoy that has not heard yet that a host moved to
// another service names the former one. The request is the new one's then, and that of
// a host which nobody has is nobody's; a service that is known keeps what names it.
func TestAHostThatMovedIsItsHeirs(t *testing.T) {
	to := instance(t, polder.HTTP1, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Host) }))
	var woken atomic.Value
	o := options(func(_ context.Context, name polder.ServiceName, _ activator.Cause) (activator.Target, error) {
		woken.Store(name)
		return to, nil
	})
	o.Known = func(name polder.ServiceName) bool { return name == "svc" || name == "heir" }
	o.Heir = func(host string) (polder.ServiceName, bool) { return "heir", host == "moved.example.com" }
	r := newRig(t, o)
	client := r.client(polder.HTTP1)
	for _, c := range []struct {
		named, host string
		want        polder.ServiceName // "" for nobody
	}{
		{"former", "moved.example.com", "heir"},
		{"former", "moved.example.com:8443", "heir"},
		{"former", "gone.example.com", ""},
		{"svc", "moved.example.com", "svc"},
		{"", "moved.example.com", ""},
	} {
		request := newRequest(t, t.Context(), "GET", "/", nil)
		request.Host = c.host
		request.Header.Set("X-Polder-Service", c.named)
		got := send(client, request)
		if c.want == "" {
			got.refused(t, 503, activator.UnknownService)
			continue
		}
		got.ok(t, c.host)
		if name := woken.Load(); name != c.want {
			t.Errorf("%s at %s woke %v, want %s", c.host, c.named, name, c.want)
		}
	}
}

// TestAHostThatMovesWhileItsCallersWait: who is held for a service that goes is its
// heir's, and counted there alone.
func TestAHostThatMovesWhileItsCallersWait(t *testing.T) {
	to := instance(t, polder.HTTP1, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Host) }))
	asked, gone := newWakes(), new(atomic.Bool)
	o := options(asked.wake)
	o.Known = func(name polder.ServiceName) bool { return name == "heir" || name == "svc" && !gone.Load() }
	o.Heir = func(host string) (polder.ServiceName, bool) { return "heir", host == "svc.example.com" }
	r := newRig(t, o)
	got := start(r.client(polder.HTTP1), newRequest(t, t.Context(), "GET", "/", nil))
	first := asked.next(t)
	gone.Store(true)
	first.fail(&activator.Failure{Reason: activator.UnknownService, Err: errors.New("it was removed")})
	second := asked.next(t)
	if first.service != "svc" || second.service != "heir" {
		t.Errorf("%s and then %s were woken", first.service, second.service)
	}
	second.succeed(to)
	receive(t, got, "an answer").ok(t, "svc.example.com")
	r.idle()
	if former, heir := r.stats("svc"), r.stats("heir"); former.Requests != 0 || len(former.Failed) != 0 || heir.Requests != 1 || heir.Forwarded != 1 {
		t.Errorf("counted %+v and %+v", former, heir)
	}
}

func TestNoInstanceInTime(t *testing.T) {
	for class, reason := range map[activator.Class]activator.Reason{
		activator.Cold:       activator.StartTimeout,
		activator.Saturation: activator.Saturated,
	} {
		o := options(newWakes().wake)
		o.Saturated = func(polder.ServiceName) bool { return class == activator.Saturation }
		o.Limits.Cold.Wait, o.Limits.Saturated.Wait = patience, patience
		if class == activator.Cold {
			o.Limits.Cold.Wait = time.Millisecond
		} else {
			o.Limits.Saturated.Wait = time.Millisecond
		}
		r := newRig(t, o)
		send(r.client(polder.HTTP1), newRequest(t, t.Context(), "POST", "/", strings.NewReader("body"))).refused(t, 503, reason)
		r.idle()
		if cold := r.ColdRequests(); len(cold) != 1 || cold[0].Class != class || cold[0].Reason != reason {
			t.Errorf("the ledger has %+v", cold)
		}
	}
}

func TestInstanceThatIsGoneBeforeTheDial(t *testing.T) {
	protocols(t, func(t *testing.T, p polder.Protocol) {
		w := newWakes()
		r := newRig(t, options(w.wake))
		got := start(r.client(p), newRequest(t, t.Context(), "POST", "/", strings.NewReader("not lost")))
		dead := nobody(t)
		w.next(t).succeed(dead)
		again := w.next(t)
		if want := (activator.Cause{Kind: activator.CauseGone, Request: "req-1", Gone: dead.Address}); again.cause != want {
			t.Errorf("the second cause is %+v, want %+v", again.cause, want)
		}
		again.succeed(instance(t, p, echo))
		receive(t, got, "the answer").ok(t, "not lost")
		r.idle()
		if cold := r.ColdRequests(); len(cold) != 1 || cold[0].Wakes != 2 || cold[0].Status != 200 {
			t.Errorf("the ledger has %+v", cold)
		}

		got = start(r.client(p), newRequest(t, t.Context(), "GET", "/", nil))
		w.next(t).succeed(dead)
		w.next(t).succeed(dead)
		receive(t, got, "the refusal").refused(t, 503, activator.InstanceGone)
		r.idle()
	})
}

func TestInstanceThatListensAMomentLateIsDialledAgain(t *testing.T) {
	protocols(t, func(t *testing.T, p polder.Protocol) {
		to := nobody(t)
		to.Protocol = p
		var calls int
		r := newRig(t, options(func(context.Context, polder.ServiceName, activator.Cause) (activator.Target, error) {
			calls++
			if calls == 2 { // the first round of dials found nobody
				listener, err := net.Listen("tcp", to.Address.String())
				if err != nil {
					t.Error(err)
					return activator.Target{}, err
				}
				server := &http.Server{Handler: echo, Protocols: new(http.Protocols)}
				server.Protocols.SetHTTP1(true)
				server.Protocols.SetUnencryptedHTTP2(true)
				go server.Serve(listener)
				t.Cleanup(func() { server.Close() })
			}
			return to, nil
		}))
		send(r.client(p), newRequest(t, t.Context(), "POST", "/", strings.NewReader("a"))).ok(t, "a")
		if calls != 2 {
			t.Errorf("Wake was called %d times", calls)
		}
	})
}

func TestInstanceThatBreaksTheConnection(t *testing.T) {
	protocols(t, func(t *testing.T, p polder.Protocol) {
		r := newRig(t, options(at(instance(t, p, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/half" {
				w.Header().Set("Content-Length", "100")
				io.WriteString(w, "half")
				http.NewResponseController(w).Flush()
			}
			panic(http.ErrAbortHandler)
		})))))
		client := r.client(p)
		// The instance may have acted on it: repeating it is the caller's decision.
		send(client, newRequest(t, t.Context(), "POST", "/", strings.NewReader("pay"))).refused(t, 502, activator.InstanceFailed)
		if half := send(client, newRequest(t, t.Context(), "GET", "/half", nil)); half.err == nil {
			t.Errorf("half an answer looks whole: %q", half.text)
		}
		eventually(t, "both are counted", func() bool { return r.stats("svc").Failed[activator.InstanceFailed] == 2 })
		r.idle()
		for _, cold := range r.ColdRequests() {
			if cold.Phases.Forwarded == 0 || cold.Phases.FirstByte == 0 {
				t.Errorf("a request that reached an instance has phases %+v", cold.Phases)
			}
		}
	})
}

func TestOneMayNotHoldMoreThanTheBudget(t *testing.T) {
	type arrival struct {
		service polder.ServiceName
		body    string
		ok      bool
	}
	small := activator.Budget{Held: 8, PerService: 8, Bytes: 1 << 30, Wait: patience}
	one := strings.Repeat("x", 64<<10)
	for _, test := range []struct {
		name      string
		budget    activator.Budget
		saturated bool
		arrivals  []arrival
	}{
		{"one service gets half", small, false, []arrival{
			{"a", "", true}, {"a", "", true}, {"a", "", true}, {"a", "", true}, {"a", "", false}}},
		{"a newcomer finds room", small, false, []arrival{
			{"a", "", true}, {"a", "", true}, {"a", "", true}, {"a", "", true}, {"b", "", true}, {"b", "", true}, {"b", "", false},
			{"c", "", true}, {"c", "", false}, {"d", "", true}, {"e", "", false}}},
		{"no more than its own bound", activator.Budget{Held: 100, PerService: 2, Bytes: 1 << 30, Wait: patience}, false, []arrival{
			{"a", "", true}, {"a", "", true}, {"a", "", false}, {"b", "", true}}},
		// Each costs some 96 KiB; what a service takes it must leave free as well.
		{"bytes", activator.Budget{Held: 100, PerService: 100, Bytes: 440 << 10, Wait: patience}, false, []arrival{
			{"a", one, true}, {"a", one, true}, {"a", one, false}, {"b", one, true}, {"b", one, false}, {"c", one, true}, {"d", one, false}, {"e", "", true}}},
		{"saturated apart from cold", small, true, []arrival{
			{"a", "", true}, {"a", "", true}, {"a", "", true}, {"a", "", true}, {"a", "", false}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWakes()
			o := options(w.wake)
			full := activator.Budget{Held: 1, PerService: 1, Bytes: 128 << 10, Wait: patience}
			o.Limits.Cold, o.Limits.Saturated = test.budget, full
			if test.saturated {
				o.Limits.Cold, o.Limits.Saturated = full, test.budget
			}
			o.Saturated = func(polder.ServiceName) bool { return test.saturated }
			r := newRig(t, o)
			client := r.client(polder.HTTP2)
			to := instance(t, polder.HTTP2, echo)
			round := func() {
				var held []<-chan result
				var asked []*wake
				for i, a := range test.arrivals {
					request := newRequest(t, t.Context(), "POST", "/", strings.NewReader(a.body))
					request.Header.Set("X-Polder-Service", string(a.service))
					got := start(client, request)
					if !a.ok {
						if body := receive(t, got, "a refusal").refused(t, 503, activator.ActivatorFull); body.Service != string(a.service) {
							t.Errorf("arrival %d: refused as %+v", i, body)
						}
						continue
					}
					select {
					case one := <-w.asked:
						asked, held = append(asked, one), append(held, got)
					case g := <-got:
						t.Fatalf("arrival %d was not held: %+v", i, g)
					}
				}
				for _, one := range asked {
					one.succeed(to)
				}
				for _, got := range held {
					if g := receive(t, got, "an answer"); g.err != nil || g.StatusCode != 200 {
						t.Errorf("held, but then %+v", g)
					}
				}
				r.idle()
			}
			round()
			round() // all that was taken was given back
		})
	}
}

// Closing a connection resets a caller that still sends, unless it is done with care.
func TestRefusalReachesACallerThatStillSends(t *testing.T) {
	protocols(t, func(t *testing.T, p polder.Protocol) {
		r := newRig(t, options(func(context.Context, polder.ServiceName, activator.Cause) (activator.Target, error) {
			return activator.Target{}, &activator.Failure{Reason: activator.OverBudget}
		}))
		for range 5 {
			send(r.client(p), newRequest(t, t.Context(), "POST", "/", bytes.NewReader(make([]byte, 64<<20)))).refused(t, 503, activator.OverBudget)
		}
	})
}

func TestForwardedRequestsAreBoundedToo(t *testing.T) {
	release := make(chan struct{})
	o := options(at(instance(t, polder.HTTP1, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))))
	o.Limits.Forwarding = 2
	r := newRig(t, o)
	client := r.client(polder.HTTP1)
	var open []<-chan result
	for i := range 2 {
		open = append(open, start(client, newRequest(t, t.Context(), "GET", "/", nil)))
		eventually(t, "it is forwarded", func() bool { return r.Stats().Forwarding == i+1 })
	}
	send(client, newRequest(t, t.Context(), "GET", "/", nil)).refused(t, 503, activator.ActivatorFull)
	close(release)
	for _, got := range open {
		receive(t, got, "an answer").ok(t, "")
	}
	r.idle()
	send(client, newRequest(t, t.Context(), "GET", "/", nil)).ok(t, "")
	if len(r.ColdRequests()) != 3 {
		t.Errorf("a refused request is in the ledger, where a flood would push out the others")
	}
}

func TestOptionsAreCheckedAtOnce(t *testing.T) {
	_, err := activator.New(activator.Options{})
	for _, want := range []string{"Wake", "Known", "Log", "Region", "Remember", "cold: Held", "saturated: PerService", "Bytes", "Wait", "Forwarding", "Stop"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not mention %s", err, want)
		}
	}
}
