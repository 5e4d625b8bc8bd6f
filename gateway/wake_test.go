package gateway

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway/activator"
	"github.com/polder/polder/internal/faketime"
	"github.com/polder/polder/prewarm/instance"
)

// onTrial are the instances of a service that failed often: one start is allowed and
// under way, and no other.
type onTrial struct{ *world }

func (onTrial) Start(_ context.Context, s polder.Service, _ string) (polder.InstanceID, error) {
	return "", &instance.Backoff{Service: s.Name, Trial: "failing-1", Failures: 7, Reason: "exited with code 3"}
}

// TestWhyNothingStartsIsLoggedOnce: however many callers come while a failed service is
// given no further start, the reason is logged once, and a minute later with how often
// it came again.
func TestWhyNothingStartsIsLoggedOnce(t *testing.T) {
	inWorld(t, []polder.Service{started("failing", time.Minute)}, func(w *world) {
		var log strings.Builder
		w.r.do(w.ctx, func(time.Time) {
			w.r.instances, w.r.log = onTrial{w}, slog.New(slog.NewTextHandler(&log, nil))
		})
		logged := func() (lines []string) {
			w.r.do(w.ctx, func(time.Time) {
				for line := range strings.Lines(log.String()) {
					if strings.Contains(line, "no instance was started") {
						lines = append(lines, line)
					}
				}
			})
			return lines
		}
		callAll := func() {
			var all sync.WaitGroup
			for range 50 {
				all.Go(func() {
					ctx, cancel := context.WithTimeout(w.ctx, time.Second)
					defer cancel()
					w.r.Wake(ctx, "failing", activator.Cause{Kind: activator.CauseRequest})
				})
			}
			all.Wait()
		}
		callAll()
		if lines := logged(); len(lines) != 1 || !strings.Contains(lines[0], "repeats=0") || !strings.Contains(lines[0], "failing-1 has proved itself") {
			t.Errorf("50 callers: %q", lines)
		}
		after(complainAgain)
		callAll()
		if lines := logged(); len(lines) != 2 || strings.Contains(lines[1], "repeats=0") {
			t.Errorf("50 more, a minute later: %q", lines)
		}
	})
}

// handedOver are instances whose manager has ended, as it does before the reconciler.
type handedOver struct{ *world }

func (handedOver) Start(_ context.Context, s polder.Service, _ string) (polder.InstanceID, error) {
	return "", fmt.Errorf("start an instance of service %s: %w", s.Name, instance.ErrNotServing)
}

// TestWhoComesAtTheHandOverIsNotRefused: callers for whom nothing can be started
// because Polder ends are told that it does, which Envoy takes for a reason to ask the
// next one, and not that a start failed.
func TestWhoComesAtTheHandOverIsNotRefused(t *testing.T) {
	faketime.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		w := newWorld(t, ctx)
		w.r.instances = handedOver{w}
		ended := make(chan error, 1)
		go func() { ended <- w.r.Run(ctx) }()
		w.r.SetSurroundings(ctx, surroundings{health: polder.RegionHealth{"fr": true, "nl": true}})
		w.r.SetModel(ctx, &polder.Model{Regions: testRegions, Services: []polder.Service{started("billing", time.Minute)}})
		w.r.Begin(ctx, nil)
		answers := make(chan error, 3)
		for range cap(answers) {
			go func() {
				_, err := w.r.Wake(context.WithoutCancel(ctx), "billing", activator.Cause{Kind: activator.CauseRequest})
				answers <- err
			}()
		}
		after(5 * time.Second)
		if len(answers) > 0 {
			t.Errorf("answered while the next Polder may come: %v", <-answers)
		}
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		for range cap(answers) {
			if err := <-answers; reasonOf(err) != activator.Stopping {
				t.Errorf("got %v, want the reason %s", err, activator.Stopping)
			}
		}
	})
}
