package audit

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/anypb"

	"github.com/polder/polder"
	"github.com/polder/polder/internal/faketime"
	"github.com/polder/polder/xds"
	"github.com/polder/polder/xds/dump"
	"github.com/polder/polder/xds/proof"
	"github.com/polder/polder/xds/server"
)

func key(name string) xds.Key { return xds.Key{Type: xds.TypeCluster, Name: name} }

func resource(name, version string) xds.Resource {
	return xds.Resource{Key: key(name), Version: version, Body: &anypb.Any{TypeUrl: xds.TypeCluster, Value: []byte(version)}}
}

func running(name, digest string) dump.Resource {
	return dump.Resource{Key: key(name), Version: digest, Digest: digest}
}

// TestCompare is one table of everything that can differ, with an Envoy that
// holds a and b, of which b was published twice.
func TestCompare(t *testing.T) {
	m := NewMirror(nil)
	m.Publish([]xds.Resource{resource("a", "1"), resource("b", "1")}, nil, nil, nil)
	m.Publish([]xds.Resource{resource("b", "2")}, nil, nil, nil)
	secret := xds.Key{Type: xds.TypeSecret, Name: "billing.example.com"}
	want := dump.Expected{Bootstrap: "B", Static: map[xds.Key]string{key("polder"): "P"}}
	both := []dump.Resource{running("a", "1"), running("b", "2")}
	for name, c := range map[string]struct {
		resources  []dump.Resource
		change     func(*look)
		unsettled  bool
		unknown    bool
		wantedKind []string
	}{
		"in order":                        {resources: both},
		"foreign":                         {resources: append(both[:2:2], running("x", "1")), wantedKind: []string{"foreign cluster x"}},
		"changed":                         {resources: []dump.Resource{both[0], running("b", "9")}, wantedKind: []string{"changed cluster b"}},
		"old, though the new one is held": {resources: []dump.Resource{both[0], running("b", "1")}, wantedKind: []string{"changed cluster b"}},
		"missing":                         {resources: both[:1], wantedKind: []string{"missing cluster b"}},
		"warming":                         {resources: both[:1], change: func(l *look) { l.dump.Warming = []xds.Key{key("b")} }},
		"foreign and warming":             {resources: both, change: func(l *look) { l.dump.Warming = []xds.Key{key("x")} }, wantedKind: []string{"foreign cluster x"}},
		"sent and never proved":           {resources: []dump.Resource{both[0], running("b", "7")}, change: func(l *look) { l.held.Versions[key("b")] = "8" }, wantedKind: []string{"foreign cluster b"}},
		"of an earlier Polder":            {resources: []dump.Resource{both[0], running("b", "7")}, change: func(l *look) { l.held.Versions[key("b")] = "7" }},
		"rejected so often that its version is forgotten": {resources: []dump.Resource{both[0], running("b", "0")}, change: func(l *look) {
			l.held.Versions[key("b")], l.last = "0", map[xds.Key]string{key("b"): "0"}
		}},
		"secret": {resources: both, change: func(l *look) {
			l.dump.Secrets, l.held.Versions[secret] = []dump.Secret{{Name: secret.Name, Version: "1"}}, "1"
		}},
		"foreign secret": {resources: both, change: func(l *look) { l.dump.Secrets = []dump.Secret{{Name: secret.Name, Version: "1"}} }, wantedKind: []string{"foreign secret billing.example.com"}},
		"changed secret": {resources: both, change: func(l *look) {
			l.dump.Secrets, l.held.Versions[secret] = []dump.Secret{{Name: secret.Name, Version: "2"}}, "1"
		}, wantedKind: []string{"changed secret billing.example.com"}},
		"secret that Envoy dropped": {resources: both, change: func(l *look) { l.held.Versions[secret] = "1" }},
		"another bootstrap":         {resources: both, change: func(l *look) { l.dump.Bootstrap = "C" }, wantedKind: []string{"changed bootstrap"}},
		"static":                    {resources: both, change: func(l *look) { l.dump.Static = append(l.dump.Static, running("x", "1")) }, wantedKind: []string{"foreign cluster x"}},
		"changed static":            {resources: both, change: func(l *look) { l.dump.Static[0].Digest = "Q" }, wantedKind: []string{"changed cluster polder"}},
		"missing static":            {resources: both, change: func(l *look) { l.dump.Static = nil }, wantedKind: []string{"missing cluster polder"}},
		"override":                  {resources: both, change: func(l *look) { l.overrides = []dump.Override{{Layer: "admin", Key: "k", Value: "v"}} }, wantedKind: []string{"overruled runtime value k"}},
		"unread":                    {resources: both, change: func(l *look) { l.dump.Faults = []dump.Fault{{Where: "w", Reason: "r"}} }, wantedKind: []string{"unread w"}},

		"on the move, older version":    {unsettled: true, resources: []dump.Resource{both[0], running("b", "1")}},
		"on the move, not there yet":    {unsettled: true, resources: both[:1]},
		"on the move, never published":  {unsettled: true, resources: []dump.Resource{both[0], running("b", "9"), running("x", "1")}, wantedKind: []string{"changed cluster b", "foreign cluster x"}},
		"of an earlier Polder's making": {unsettled: true, unknown: true, resources: []dump.Resource{running("x", "1")}},
	} {
		t.Run(name, func(t *testing.T) {
			l := look{expectation: m.look(),
				held: server.Held{Connected: true, Settled: true, Versions: map[xds.Key]string{key("a"): "1", key("b"): "2"}},
				dump: &dump.Dump{Bootstrap: "B", Resources: c.resources, Static: []dump.Resource{running("polder", "P")}}}
			if c.change != nil {
				c.change(&l)
			}
			var got []string
			for _, d := range compare(l, want, !c.unsettled, !c.unknown) {
				got = append(got, string(d.Kind)+" "+d.What)
				if d.Reason == "" {
					t.Errorf("%v has no reason", d)
				}
			}
			if !slices.Equal(got, c.wantedKind) {
				t.Errorf("got %q, want %q", got, c.wantedKind)
			}
		})
	}
}

// TestMirrorForgetsInOrder: what was superseded lately is known, and the memory
// is bounded.
func TestMirrorForgetsInOrder(t *testing.T) {
	m := NewMirror(nil)
	for i := range 3 * minPast {
		m.Publish([]xds.Resource{resource("a", fmt.Sprint(i))}, nil, nil, nil)
	}
	e := m.look()
	if n := len(e.past[key("a")]); n != minPast || len(m.order) != minPast {
		t.Errorf("%d versions are remembered, want %d", n, minPast)
	}
	for version, want := range map[int]bool{0: false, 3*minPast - 1: true, 3*minPast - 2: true, 2*minPast - 1: true, 2*minPast - 2: false} {
		if _, ok := e.digest(key("a"), fmt.Sprint(version)); ok != want {
			t.Errorf("version %d is known: %v, want %v", version, ok, want)
		}
	}
}

// TestDigestOfASnapshot depends on what is published and on nothing else.
func TestDigestOfASnapshot(t *testing.T) {
	publish := func(set ...xds.Resource) string {
		m := NewMirror(nil)
		for _, r := range set {
			m.Publish([]xds.Resource{r}, nil, nil, nil)
		}
		return m.Digest()
	}
	a, b := resource("a", "1"), resource("b", "1")
	if publish(a, b) != publish(b, a) || publish(a, b) != publish(resource("a", "0"), b, a) {
		t.Error("the order, or what was before, changes the digest")
	}
	if publish(a) == publish(a, b) || publish(a) == publish(resource("a", "2")) {
		t.Error("another snapshot has the same digest")
	}
}

// silent is an Envoy that does not answer, or answers what it is told to.
type silent struct {
	text    []byte
	runtime []byte
	asked   int
}

func (s *silent) ConfigDump(context.Context, url.Values) ([]byte, error) {
	s.asked++
	if s.text == nil {
		return nil, errors.New("no answer")
	}
	return s.text, nil
}

func (s *silent) Runtime(context.Context) ([]byte, error) { return s.runtime, nil }

// Held implements ControlPlane: the Envoy is connected and holds nothing.
func (s *silent) Held(string) server.Held { return server.Held{Connected: true, Settled: true} }

// newSilent makes one, and who audits it.
func newSilent(t *testing.T) (*silent, *Auditor) {
	t.Helper()
	e := &silent{runtime: []byte(`{}`)}
	a, err := New(Options{Node: "fr-1", Bootstrap: []byte(`{"node":{"id":"fr-1"}}`), Admin: e, ControlPlane: e, Mirror: NewMirror(nil)})
	if err != nil {
		t.Fatal(err)
	}
	return e, a
}

// TestRun keeps its pauses: some seconds while all is well, less while the
// Envoy is not trusted; and an Envoy without an answer is neither.
func TestRun(t *testing.T) {
	faketime.Test(t, func(t *testing.T) {
		e, a := newSilent(t)
		ctx, stop := context.WithCancel(t.Context())
		var at []time.Time
		trusted := true
		ended := make(chan error, 1)
		go func() {
			ended <- a.Run(ctx, func(r Result, err error) bool {
				if at = append(at, time.Now()); err == nil {
					t.Errorf("an Envoy that does not answer gave %+v", r)
				}
				trusted = len(at) < 4
				if len(at) == 6 {
					stop()
				}
				return trusted
			})
		}()
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
		for i := 1; i < len(at); i++ {
			pause := at[i].Sub(at[i-1])
			if quick := i > 3; quick && pause != recheck || !quick && (pause < every*8/10 || pause > every*12/10) {
				t.Errorf("pause %d is %v", i, pause)
			}
		}
		if e.asked != 6 {
			t.Errorf("asked %d times, want 6", e.asked)
		}
	})
}

// TestRunDoesNotPayForWaiting: an audit that waited for a quiet moment is followed by
// the usual pause, as one that found it at once. To wait costs nobody anything.
func TestRunDoesNotPayForWaiting(t *testing.T) {
	faketime.Test(t, func(t *testing.T) {
		e := &restless{silent{runtime: []byte(`{}`), text: []byte(`{"configs":[{"@type":"type.googleapis.com/envoy.admin.v3.BootstrapConfigDump","bootstrap":{"node":{"id":"fr-1"}}}]}`)}}
		a, err := New(Options{Node: "fr-1", Bootstrap: []byte(`{"node":{"id":"fr-1"}}`), Admin: e, ControlPlane: e, Mirror: NewMirror(proof.NewBook(&polder.Model{}, proof.Site{Region: "fr"}))})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		var at []time.Time
		err = a.Run(ctx, func(r Result, err error) bool {
			if at = append(at, time.Now()); err != nil || r.Settled {
				t.Errorf("got %+v, %v, want a result that is not settled", r, err)
			}
			if len(at) == 4 {
				stop()
			}
			return true
		})
		if err != nil {
			t.Fatal(err)
		}
		for i := 1; i < len(at); i++ {
			if pause := at[i].Sub(at[i-1]) - settleWait; pause < every*8/10 || pause > every*12/10+again {
				t.Errorf("pause %d is %v", i, pause)
			}
		}
	})
}

// TestHurry: who distrusts the Envoy for another reason does not wait for the next
// audit to come by itself, and is not told of the moment before.
func TestHurry(t *testing.T) {
	faketime.Test(t, func(t *testing.T) {
		_, a := newSilent(t)
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		var at []time.Time
		err := a.Run(ctx, func(Result, error) bool {
			switch at = append(at, time.Now()); len(at) {
			case 1:
				a.Hurry()
				a.Hurry()
			case 3:
				stop()
			}
			return true
		})
		if err != nil {
			t.Fatal(err)
		}
		if first, second := at[1].Sub(at[0]), at[2].Sub(at[1]); first != recheck || second < every*8/10 {
			t.Errorf("pauses of %v and %v, want %v and then the usual one", first, second, recheck)
		}
	})
}

// restless is an Envoy that has always something to come.
type restless struct{ silent }

func (*restless) Held(string) server.Held { return server.Held{Connected: true} }

// TestDriftIsToldWhenSeenTwice: a moment is no drift.
func TestDriftIsToldWhenSeenTwice(t *testing.T) {
	faketime.Test(t, func(t *testing.T) {
		const set = `{"layers":["admin"],"entries":{"k":{"layer_values":["v"]}}}`
		e := &flicker{silent: silent{text: []byte(`{"configs":[{"@type":"type.googleapis.com/envoy.admin.v3.BootstrapConfigDump","bootstrap":{"node":{"id":"fr-1"}}}]}`)},
			answers: []string{set, `{}`, set, set}}
		a, err := New(Options{Node: "fr-1", Bootstrap: []byte(`{"node":{"id":"fr-1"}}`), Admin: e, ControlPlane: e, Mirror: NewMirror(proof.NewBook(&polder.Model{}, proof.Site{Region: "fr"}))})
		if err != nil {
			t.Fatal(err)
		}
		for i, want := range []int{0, 1} {
			result, err := a.Audit(t.Context())
			if err != nil || len(result.Drift) != want || !result.Settled {
				t.Errorf("audit %d: got %+v, %v, want %d drifts", i, result, err, want)
			}
		}
	})
}

// flicker answers with one set of runtime values after the other.
type flicker struct {
	silent
	answers []string
}

func (f *flicker) Runtime(context.Context) ([]byte, error) {
	next := f.answers[0]
	f.answers = f.answers[1:]
	return []byte(next), nil
}
