package gateway

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/polder/polder"
	"github.com/polder/polder/internal/faketime"
)

// TestCensusAsksOnceForAll: however many services are asked about while a
// question is on its way, one more answers them all, and it is asked later than
// they are: what had begun before may not know their requests.
func TestCensusAsksOnceForAll(t *testing.T) {
	faketime.Test(t, func(t *testing.T) {
		asked, answer := 0, make(chan struct{})
		c := newCensus(func() (map[string]uint64, error) {
			asked++
			now := uint64(asked)
			<-answer
			stats := map[string]uint64{}
			for i := range 1000 {
				stats[inProgress(polder.ServiceName(fmt.Sprintf("s-%d", i)))] = now
			}
			return stats, nil
		})
		var asking sync.WaitGroup
		want := func(service string, open int) {
			asking.Go(func() {
				if n, err := c.open(t.Context(), polder.ServiceName(service)); n != open || err != nil {
					t.Errorf("%s: %d requests, %v, want %d", service, n, err, open)
				}
			})
		}
		want("s-0", 1)
		synctest.Wait()
		for i := range 1000 {
			want(fmt.Sprintf("s-%d", i), 2)
		}
		want("nobody-called-it", 0)
		synctest.Wait()
		left, leave := context.WithCancel(t.Context())
		asking.Go(func() {
			if _, err := c.open(left, "s-0"); !errors.Is(err, context.Canceled) {
				t.Errorf("one who leaves is told %v", err)
			}
		})
		synctest.Wait()
		leave()
		synctest.Wait()
		answer <- struct{}{}
		answer <- struct{}{}
		asking.Wait()
		if asked != 2 {
			t.Errorf("asked %d times, want 2", asked)
		}
	})
}

func TestCensusTellsFailuresToAll(t *testing.T) {
	gone := errors.New("Envoy is gone")
	c := newCensus(func() (map[string]uint64, error) { return nil, gone })
	for range 2 {
		if _, err := c.open(t.Context(), "shop"); !errors.Is(err, gone) {
			t.Errorf("told %v", err)
		}
	}
}
