package launch

import (
	"strings"
	"sync"
)

// tail keeps the last lines of a log. It is safe for concurrent use.
type tail struct {
	most int
	mu   sync.Mutex
	last []string
}

func newTail(most int) *tail { return &tail{most: most} }

func (t *tail) add(line string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last = append(t.last, line)
	if len(t.last) > t.most {
		t.last = append(t.last[:0], t.last[1:]...)
	}
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.Join(t.last, "\n")
}
