package gateway

import (
	"testing"
	"time"

	"github.com/polder/polder"
)

func TestGreetingsAreThinnedOut(t *testing.T) {
	var g greetings
	now := time.Unix(1000, 0)
	passed := 0
	for i := range 1000 { // a flood of a second
		if g.due("billing", now.Add(time.Duration(i)*time.Millisecond)) {
			passed++
		}
	}
	if want := int(time.Second / greetingEvery); passed != want {
		t.Errorf("%d of 1000 a second are passed on, want %d", passed, want)
	}
	if !g.due("shop", now) {
		t.Error("another service waits for it")
	}
	g.forget([]polder.ServiceName{"billing", "nobody"})
	if len(g.last) != 1 {
		t.Errorf("remembers %v", g.last)
	}
}

// TestHelloWithoutRequest: who greets and asks for nothing has the instance
// stopped soon, whatever the keep-alive, and is not listened to for a while,
// which grows; a request makes up for it. A greeting for a service that is awake,
// that must not be started ahead, or that nobody knows starts nothing.
func TestHelloWithoutRequest(t *testing.T) {
	shop, off := started("shop", time.Second), started("off", time.Second)
	shop.Scale.Prewarm = polder.PrewarmAuto
	inWorld(t, []polder.Service{shop, off}, func(w *world) {
		greet := func(name polder.ServiceName) {
			w.r.offer(func(now time.Time) { w.r.announce(name, signHello, now) })
			w.r.do(w.ctx, func(time.Time) {})
		}
		greet("nobody")
		greet("off")
		if n := w.started(); n != 0 {
			t.Fatalf("%d starts for nobody", n)
		}
		for range 100 {
			greet("shop")
		}
		if n := w.started(); n != 1 {
			t.Fatalf("a crowd of greetings has %d starts", n)
		}
		after(helloGrace + 5*time.Second)
		if n := w.alive.Load(); n != 0 {
			t.Fatalf("%d instances wait for a request that does not come", n)
		}
		greet("shop")
		if n := w.started(); n != 1 {
			t.Fatal("a scanner is listened to at once")
		}
		after(helloPenalty)
		greet("shop")
		if n := w.started(); n != 2 {
			t.Fatalf("a caller after the scanner is not heard: %d starts", n)
		}
		if _, err := w.wake("shop"); err != nil {
			t.Fatal(err)
		}
		after(time.Minute)
		greet("shop")
		if n := w.started(); n != 3 {
			t.Errorf("after a request, greetings are not listened to: %d starts", n)
		}
	})
}

// TestHelloOfferedToABusyReconciler: what tells of greetings never waits.
func TestHelloOfferedToABusyReconciler(t *testing.T) {
	r := &reconciler{events: make(chan func(time.Time), 1)}
	for range 3 {
		r.offer(func(time.Time) {})
	}
	if len(r.events) != 1 {
		t.Errorf("%d events wait", len(r.events))
	}
}
