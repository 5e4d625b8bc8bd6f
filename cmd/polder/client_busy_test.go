package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway/activator"
	"github.com/polder/polder/internal/grpctest"
)

// rpcTakes makes the instance that speaks gRPC take that long for each call with one
// request, and answer with how many of them were in progress when it came.
const rpcTakes = "TEST_RPC_TAKES"

// worker is such an instance.
type worker struct {
	grpctest.Service
	takes   time.Duration
	working *atomic.Int32
}

// UnaryCall works.
func (w worker) UnaryCall(ctx context.Context, _ *testgrpc.SimpleRequest) (*testgrpc.SimpleResponse, error) {
	defer w.working.Add(-1)
	answer := &testgrpc.SimpleResponse{Payload: &testgrpc.Payload{Body: fmt.Append(nil, w.working.Add(1))}}
	<-time.After(w.takes) // this is the program's work, not a wait of a test
	return answer, ctx.Err()
}

// TestClientsOfABusyService has a gRPC program without an Envoy call services more
// often than they take, as TestSaturation does through Envoy:
//
//  1. Five times as many callers of a sleeping service as its instances take: each is
//     answered, no instance is given more than it takes, and as many are started as
//     may be.
//  2. As many of the warm service, again and again: no call fails, and from some round
//     on no instance has more than it takes, because the others wait.
//  3. Whoever finds the budget for waiting used up, or has waited as long as it says,
//     gets UNAVAILABLE with the reason; whoever has a deadline of his own, that. A
//     stream that the instance has goes on meanwhile.
//  4. When the load is gone, calls go straight to the instances again.
func TestClientsOfABusyService(t *testing.T) {
	u := newClientFleetOf(t, "testdata/clients-busy.yaml")
	checkout := u.program(u.bootstrap("fr", "checkout"))
	narrow, single := newCrowded(checkout, "narrow"), newCrowded(checkout, "single")
	const callers = 40 // two instances take four each
	for _, c := range narrow.atOnce(callers) {
		if c.err != nil || c.beside > 4 {
			t.Fatalf("a burst from cold: %+v", c)
		}
	}
	if got := u.service("fr", "narrow"); got.Totals.Starts != 2 || len(got.Instances) != 2 {
		t.Errorf("five times the capacity of two instances, and %d were started", got.Totals.Starts)
	}
	eventually(t, "callers of busy instances wait", func() bool {
		orderly := true
		for _, c := range narrow.atOnce(callers) {
			if c.err != nil {
				t.Fatalf("a burst of a warm service: %+v", c)
			}
			orderly = orderly && c.beside <= 4
		}
		now := u.service("fr", "narrow")
		return orderly && now.Saturated != "" && now.Totals.Saturated > 0
	})

	u.editHold(t, "{ requests: 20, per-service: 8, wait: 3s }", `polder_held_requests_limit{class="saturated",peer="fr-1",region="fr"} 20`+"\n")
	eventually(t, "calls of single go straight to its instance", func() bool { return single.must().from != u.at["FR_CLIENTS"] })
	ctx, leave := context.WithCancel(u.ctx)
	defer leave()
	stay, err := single.rpc.FullDuplexCall(ctx)
	if err != nil {
		t.Fatal(err)
	}
	echo := func() {
		t.Helper()
		if err := stay.Send(&testgrpc.StreamingOutputCallRequest{Payload: grpctest.Payload(1)}); err != nil {
			t.Fatal(err)
		}
		if _, err := stay.Recv(); err != nil {
			t.Fatalf("the stream at the busy instance: %v", err)
		}
	}
	echo()
	eventually(t, "the only instance is busy", func() bool { return u.service("fr", "single").Saturated != "" })
	eventually(t, "the program knows it, and a call with a deadline of its own waits in vain", func() bool {
		ctx, cancel := context.WithTimeout(u.ctx, 500*time.Millisecond)
		defer cancel()
		c := single.call(ctx)
		if c.err != nil && status.Code(c.err) != codes.DeadlineExceeded {
			t.Fatalf("a call with a deadline of its own: %+v", c)
		}
		return c.err != nil
	})
	reasons := map[activator.Reason]int{}
	for _, c := range single.atOnce(20) {
		for _, reason := range []activator.Reason{activator.ActivatorFull, activator.Saturated} {
			if status.Code(c.err) == codes.Unavailable && strings.Contains(c.err.Error(), "("+string(reason)+")") {
				reasons[reason]++
			}
		}
	}
	if reasons[activator.ActivatorFull] == 0 || reasons[activator.Saturated] == 0 || reasons[activator.ActivatorFull]+reasons[activator.Saturated] != 20 {
		t.Errorf("of 20 calls were refused: %v", reasons)
	}
	echo()
	leave()
	eventually(t, "there is room at the instance", func() bool { return single.atOnce(1)[0].err == nil })
	for _, b := range []*crowded{narrow, single} {
		eventually(t, "calls go straight to the instances of "+b.name+" again", func() bool {
			return b.must().from != u.at["FR_CLIENTS"] && u.service("fr", polder.ServiceName(b.name)).Saturated == ""
		})
	}
}

// crowded is a service that is called more often than it takes.
type crowded struct {
	u    *clientFleet
	name string
	rpc  testgrpc.TestServiceClient
}

func newCrowded(p *program, name string) *crowded {
	p.u.t.Helper()
	return &crowded{p.u, name, testgrpc.NewTestServiceClient(p.dial(name))}
}

// worked is what became of a call.
type worked struct {
	beside int    // calls in progress at the instance, this one included
	from   string // the address that answered
	err    error
}

func (c *crowded) call(ctx context.Context) (w worked) {
	other := new(peer.Peer)
	answer, err := c.rpc.UnaryCall(ctx, new(testgrpc.SimpleRequest), grpc.Peer(other))
	if err != nil {
		return worked{err: err}
	}
	_, err = fmt.Sscan(string(answer.Payload.Body), &w.beside)
	w.from, w.err = other.Addr.String(), err
	return w
}

// atOnce makes so many calls at the same time.
func (c *crowded) atOnce(n int) []worked {
	ctx, cancel := context.WithTimeout(c.u.ctx, patience)
	defer cancel()
	list := make([]worked, n)
	var all sync.WaitGroup
	for i := range list {
		all.Go(func() { list[i] = c.call(ctx) })
	}
	all.Wait()
	return list
}

// must makes a call that may not fail.
func (c *crowded) must() worked {
	c.u.t.Helper()
	w := c.atOnce(1)[0]
	if w.err != nil {
		c.u.t.Fatalf("calling %s: %v", c.name, w.err)
	}
	return w
}
