package gateway

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway/activator"
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
