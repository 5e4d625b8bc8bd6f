package gateway

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpoint "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"pgregory.net/rapid"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway/activator"
	"github.com/polder/polder/prewarm/instance"
	"github.com/polder/polder/xds"
	"github.com/polder/polder/xds/load"
)

// narrow is a service of which each instance takes two requests.
func narrow(most int) polder.Service {
	s := started("billing", time.Minute)
	s.Scale.Max, s.Scale.Concurrency = most, 2
	return s
}

// crowd is callers of one service, each with its own goroutine.
type crowd struct {
	w       *world
	targets chan activator.Target
	errors  chan error
}

// call adds callers, and returns when each has a target or waits.
func (c *crowd) call(ctx context.Context, n int) {
	for range n {
		go func() {
			target, err := c.w.r.Wake(ctx, "billing", activator.Cause{Kind: activator.CauseRequest})
			if err != nil {
				c.errors <- err
				return
			}
			c.targets <- target
		}()
	}
	synctest.Wait()
}

func newCrowd(w *world) *crowd {
	return &crowd{w, make(chan activator.Target, 1000), make(chan error, 1000)}
}

// hidden tells whether Envoy is told to send nothing to the instances.
func (w *world) hidden() bool {
	hidden := false
	w.r.do(w.ctx, func(time.Time) {
		held := w.held[xds.Key{Type: xds.TypeEndpoint, Name: xds.ServiceCluster("billing")}]
		a := new(endpoint.ClusterLoadAssignment)
		if err := held.Body.UnmarshalTo(a); err != nil {
			w.t.Fatal(err)
		}
		hidden = slices.ContainsFunc(a.Endpoints[0].LbEndpoints, func(e *endpoint.LbEndpoint) bool { return e.HealthStatus == core.HealthStatus_UNHEALTHY })
	})
	return hidden
}

// TestSaturatedServiceHoldsWhatItHasNoRoomFor: an instance is given as many
// requests as it takes, the others get its room one by one in the order in which
// they came, and while that is so Envoy sends it none. When it has had room for a
// while Envoy does again.
func TestSaturatedServiceHoldsWhatItHasNoRoomFor(t *testing.T) {
	inWorld(t, []polder.Service{narrow(1)}, func(w *world) {
		c := newCrowd(w)
		c.call(w.ctx, 5)
		after(time.Second)
		if n := len(c.targets); n != 2 || !w.hidden() || !w.r.Saturated("billing") {
			t.Fatalf("%d were given the instance, want 2; hidden: %v", n, w.hidden())
		}
		status, err := w.r.Status(w.ctx)
		if err != nil || !strings.Contains(status[0].Saturated, "3 wait; there are as many instances as scale.max allows") {
			t.Errorf("status: %q, %v", status[0].Saturated, err)
		}
		for left := 3; left > 0; left-- {
			target := <-c.targets
			target.Release()
			synctest.Wait()
			if n := len(c.targets); n != 2 {
				t.Fatalf("with %d waiting, one ended: %d are at the instance, want 2", left, n)
			}
		}
		late := newCrowd(w)
		late.call(w.ctx, 1)
		(<-c.targets).Release()
		synctest.Wait()
		if target := <-late.targets; !target.Busy || target.Warm {
			t.Errorf("who waited for room got %+v", target)
		} else {
			target.Release()
		}
		(<-c.targets).Release()
		after(saturatedFor + time.Second)
		if w.hidden() || w.r.Saturated("billing") || w.started() != 1 {
			t.Errorf("idle, and hidden: %v; %d starts", w.hidden(), w.started())
		}
	})
}

// TestSaturationIsSeenInLoadReports: what Envoy sent directly fills an instance
// as well, and what has ended of it by the next report makes room.
func TestSaturationIsSeenInLoadReports(t *testing.T) {
	inWorld(t, []polder.Service{narrow(1)}, func(w *world) {
		if _, err := w.wake("billing"); err != nil {
			t.Fatal(err)
		}
		report := func(atWork, held int) {
			w.r.LoadReported(w.ctx, []load.Report{{Node: "fr-1", Service: "billing", Interval: time.Second, InProgress: atWork + held, AtWork: atWork}})
			synctest.Wait()
		}
		if report(1, 0); w.hidden() {
			t.Fatal("there is room, and the instance is hidden")
		}
		if report(2, 0); !w.hidden() {
			t.Fatal("there is no room, and Envoy goes on sending")
		}
		c := newCrowd(w)
		c.call(w.ctx, 3)
		if len(c.targets) != 0 {
			t.Fatal("a request was given to an instance that has no room")
		}
		if report(1, 3); len(c.targets) != 1 {
			t.Fatalf("room for one, and %d got it", len(c.targets))
		}
		if report(0, 2); len(c.targets) != 2 {
			t.Fatalf("room for one more, and %d got it", len(c.targets))
		}
	})
}

// TestMoreInstancesStartForThoseWhoWait: saturation is a reason to start more, up
// to the maximum and no further.
func TestMoreInstancesStartForThoseWhoWait(t *testing.T) {
	inWorld(t, []polder.Service{narrow(3)}, func(w *world) {
		c := newCrowd(w)
		c.call(w.ctx, 30)
		after(10 * time.Second)
		if len(c.targets) != 6 || w.started() != 3 {
			t.Errorf("%d of 30 are at %d instances, want 6 at 3", len(c.targets), w.started())
		}
		perInstance := map[polder.InstanceID]int{}
		for range 6 {
			perInstance[(<-c.targets).Instance]++
		}
		for id, n := range perInstance {
			if n != 2 {
				t.Errorf("%s has %d requests, want 2", id, n)
			}
		}
	})
}

// TestCrashWhileSaturated: who waits is given the replacement.
func TestCrashWhileSaturated(t *testing.T) {
	inWorld(t, []polder.Service{narrow(1)}, func(w *world) {
		c := newCrowd(w)
		c.call(w.ctx, 4)
		after(time.Second)
		first := <-c.targets
		<-c.targets
		w.alive.Add(-1)
		w.r.InstanceChanged(w.ctx, instance.Event{Failed: true, Instance: polder.Instance{
			ID: first.Instance, Service: "billing", Region: "fr", State: polder.Stopped, Reason: "killed"}})
		first.Release() // of an instance that is no more
		after(time.Second)
		if n := len(c.targets); n != 2 {
			t.Fatalf("%d of 2 have the replacement", n)
		}
		if target := <-c.targets; target.Instance == first.Instance {
			t.Errorf("got %s again", target.Instance)
		}
	})
}

// TestRoomIsNeverGivenTwice drives callers who come, are served and leave at any
// moment: the instances never have more than they take, and nobody waits while
// there is room.
func TestRoomIsNeverGivenTwice(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		steps := rapid.SliceOfN(rapid.IntRange(0, 3), 1, 60).Draw(rt, "steps")
		inWorld(t, []polder.Service{narrow(2)}, func(w *world) {
			c := newCrowd(w)
			leave := []context.CancelFunc{}
			var inside []activator.Target
			for _, step := range steps {
				switch step {
				case 0, 1:
					ctx, cancel := context.WithCancel(w.ctx)
					leave = append(leave, cancel)
					c.call(ctx, 1)
				case 2:
					if len(inside) > 0 {
						inside[0].Release()
						inside = inside[1:]
						synctest.Wait()
					}
				case 3: // who has an answer does not notice
					if len(leave) > 0 {
						leave[0]()
						leave = leave[1:]
						synctest.Wait()
					}
				}
				for len(c.targets) > 0 {
					inside = append(inside, <-c.targets)
				}
				for len(c.errors) > 0 {
					if err := <-c.errors; !errors.Is(err, context.Canceled) {
						t.Fatal(err)
					}
				}
				w.r.do(w.ctx, func(now time.Time) {
					s := w.r.services["billing"]
					if s.taken() != len(inside) || len(inside) > 2*s.count().Ready {
						t.Errorf("%d are inside %d instances, and %d count", len(inside), s.count().Ready, s.taken())
					}
					if len(s.waiters) > 0 && s.room(now) > 0 {
						t.Errorf("%d wait, and there is room for %d", len(s.waiters), s.room(now))
					}
				})
			}
			for _, cancel := range leave {
				cancel()
			}
		})
	})
}
