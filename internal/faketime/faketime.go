package faketime

import (
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
)

var bubbles struct {
	sync.Mutex
	count  int
	before int // processors when there were no bubbles
}

// Test runs f in a bubble, as synctest.Test does.
func Test(t *testing.T, f func(*testing.T)) {
	t.Helper()
	enter()
	defer leave()
	synctest.Test(t, f)
}

func enter() {
	bubbles.Lock()
	defer bubbles.Unlock()
	if bubbles.count == 0 {
		bubbles.before = runtime.GOMAXPROCS(1)
	}
	bubbles.count++
}

func leave() {
	bubbles.Lock()
	defer bubbles.Unlock()
	if bubbles.count--; bubbles.count == 0 {
		runtime.GOMAXPROCS(bubbles.before)
	}
}
