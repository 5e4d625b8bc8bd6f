package server

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/polder/polder/xds"
)

// TestSlowEnvoyGetsTheLatest changes one resource a thousand times while an
// Envoy owes an answer: nothing queues up, and the last version is the next.
func TestSlowEnvoyGetsTheLatest(t *testing.T) {
	c := newControl(t, Options{})
	c.Apply([]xds.Resource{resource(xds.TypeCluster, "a", "0"), resource(xds.TypeCluster, "b", "0")}, nil)
	e := c.envoy("fr-1")
	first := e.expect(xds.TypeCluster, "a@0", "b@0")
	for i := range 1_000 {
		c.Apply([]xds.Resource{resource(xds.TypeCluster, "a", fmt.Sprint(i+1))}, nil)
	}
	e.accept(first)
	e.accept(e.expect(xds.TypeCluster, "a@1000"))
	e.barrier(c, "quiet")
}

// TestEnvoyThatNeverAnswers is cut off, and delays nobody after that.
func TestEnvoyThatNeverAnswers(t *testing.T) {
	c := newControl(t, Options{AnswerWait: 20 * time.Millisecond})
	c.Apply([]xds.Resource{resource(xds.TypeCluster, "a", "1")}, nil)
	e := c.envoy("fr-1")
	e.expect(xds.TypeCluster, "a@1")
	if r, err := e.stream.Recv(); status.Code(err) != codes.DeadlineExceeded || !strings.Contains(err.Error(), "fr-1") {
		t.Fatalf("got %v %v, want the end of the stream with the node's name", r, err)
	}
	if err := c.Wait(t.Context(), xds.Key{Type: xds.TypeCluster, Name: "a"}); err != nil {
		t.Errorf("still waiting for an Envoy that was cut off: %v", err)
	}
}

// TestEnvoyThatIsGivenUp is waited for again once it answers anything. Others who have
// not answered to something else are waited for all along.
func TestEnvoyThatIsGivenUp(t *testing.T) {
	c := newControl(t, Options{})
	a, b := xds.Key{Type: xds.TypeCluster, Name: "a"}, xds.Key{Type: xds.TypeCluster, Name: "b"}
	c.Apply([]xds.Resource{resource(xds.TypeCluster, "a", "1")}, nil)
	silent, slow := c.envoy("fr-1"), c.envoy("fr-2")
	owed := silent.expect(xds.TypeCluster, "a@1")
	slow.accept(slow.expect(xds.TypeCluster, "a@1"))
	slow.barrier(c, "fr-2 has answered")
	now, cancel := context.WithCancel(t.Context())
	cancel()
	waits := func(key xds.Key) bool { return c.Wait(now, key) != nil }
	if !waits(a) {
		t.Error("nobody waits for fr-1, which has not answered")
	}
	c.GiveUp(a)
	if waits(a) {
		t.Error("fr-1 was given up, and is waited for")
	}
	c.Apply([]xds.Resource{resource(xds.TypeCluster, "b", "1")}, nil)
	if !waits(b) {
		t.Error("nobody waits for fr-2, which was not given up")
	}
	slow.accept(slow.expect(xds.TypeCluster, "b@1"))
	if err := c.Wait(t.Context(), b); err != nil {
		t.Errorf("fr-2 has answered, and fr-1 was given up: %v", err)
	}
	silent.accept(owed)
	next := silent.expect(xds.TypeCluster, "b@1")
	if !waits(b) {
		t.Error("nobody waits for fr-1, which answers again")
	}
	silent.accept(next)
	if err := c.Wait(t.Context(), a, b); err != nil {
		t.Error(err)
	}
}

// TestEnvoyThatReadsNothing leaves more bytes unread than any buffer on the way
// holds: it is cut off as well, although sending to it blocks.
func TestEnvoyThatReadsNothing(t *testing.T) {
	c := newControl(t, Options{AnswerWait: 500 * time.Millisecond})
	var set []xds.Resource
	for i := range 100 {
		r := resource(xds.TypeCluster, fmt.Sprintf("c%03d", i), "1")
		r.Body = &anypb.Any{TypeUrl: xds.TypeCluster, Value: make([]byte, 100_000)}
		set = append(set, r)
	}
	c.Apply(set, nil)
	c.envoy("fr-1")
	c.until("something is sent to the Envoy", func() bool { return c.counters[xds.TypeCluster] != nil }) // counted for good, and not for as long as it is there
	c.until("the Envoy that reads nothing is cut off", func() bool { return len(c.streams) == 0 })
}

// TestManyStreamsLeaveNothing connects and leaves again and again.
func TestManyStreamsLeaveNothing(t *testing.T) {
	c := newControl(t, Options{})
	c.Apply([]xds.Resource{resource(xds.TypeCluster, "a", "1")}, nil)
	once := func() {
		e := c.envoy("fr-1")
		e.accept(e.expect(xds.TypeCluster, "a@1"))
		e.barrier(c, "heard")
		e.cancel()
		c.until("the stream has ended", func() bool { return len(c.streams) == 0 })
	}
	once()
	before := runtime.NumGoroutine()
	for range 50 {
		once()
	}
	c.until("their goroutines have ended", func() bool { return runtime.NumGoroutine() <= before+2 })
}

// patience is for what happens at once where nobody else has the processors.
const patience = 60 * time.Second

// until asks, with the server's lock held, until the answer is yes.
func (c *control) until(what string, ok func() bool) {
	c.t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	again := time.NewTicker(time.Millisecond)
	defer again.Stop()
	for {
		c.mu.Lock()
		yes := ok()
		c.mu.Unlock()
		if yes {
			return
		}
		select {
		case <-again.C:
		case <-deadline.C:
			c.t.Fatalf("not within %v: %s", patience, what)
		}
	}
}
