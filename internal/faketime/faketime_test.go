package faketime

import (
	"runtime"
	"sync"
	"testing"
	"time"
)

// TestTimersAtOnce sets many timers that are due at once, and reads many that
// have become due, from several goroutines: what the race detector does not
// survive with two processors.
func TestTimersAtOnce(t *testing.T) {
	Test(t, func(*testing.T) {
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				for range 5000 {
					<-time.NewTimer(0).C
					due, later := time.NewTimer(time.Millisecond), time.NewTimer(time.Millisecond)
					<-later.C
					<-due.C
				}
			})
		}
		all.Wait()
	})
}

func TestProcessorsComeBack(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(3))
	Test(t, func(t *testing.T) {
		if n := runtime.GOMAXPROCS(0); n != 1 {
			t.Errorf("%d processors in a bubble, want 1", n)
		}
	})
	var all sync.WaitGroup
	for range 3 {
		all.Go(func() { Test(t, func(*testing.T) { <-time.After(time.Hour) }) })
	}
	all.Wait()
	if n := runtime.GOMAXPROCS(0); n != 3 {
		t.Errorf("%d processors afterwards, want the 3 from before", n)
	}
}
