package cold

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	// warmed is the service whose warm requests are counted.
	warmed = "warmed"
	// turnRequests are those of one Envoy before it is the other's turn: few, so
	// that what the machine does besides falls on both.
	turnRequests = 250
	// turnsBefore are not counted: connections open and caches fill.
	turnsBefore = 4
)

func warmServices(o Options) []service {
	if o.Warm == 0 {
		return nil
	}
	return []service{{program: o.program("sleeper-0"), name: warmed, keepAlive: awake}}
}

// warm measures the processor time of warm requests, in turn through the
// region's Envoy and through a bare one.
func warm(ctx context.Context, s *site, o Options, r *Report) error {
	ours := s.Caller(s.address, false)
	defer ours.CloseIdleConnections()
	if _, err := s.call(ctx, ours, host(warmed)); err != nil {
		return err
	}
	return s.bare(ctx, o, func(ctx context.Context, b *bare) error {
		status, err := s.client.Status(ctx)
		if err != nil {
			return err
		}
		theirs := s.Caller(b.address, false)
		defer theirs.CloseIdleConnections()
		sides := [2]side{{"through Polder's Envoy", ours, status.Envoy.PID}, {"through the bare Envoy", theirs, b.pid}}
		var turns []Turn
		for n := range turnsBefore + max(1, o.Warm/turnRequests) {
			turn, err := s.turn(ctx, sides, n%2)
			if err != nil {
				return err
			}
			if n >= turnsBefore {
				turns = append(turns, turn)
			}
		}
		w := newWarm(turns)
		r.Warm = &w
		o.progress("warm requests are done")
		return nil
	})
}

// side is one of the two Envoys.
type side struct {
	name   string
	client *http.Client
	pid    int
}

// turn sends some requests through each; first says which begins.
func (s *site) turn(ctx context.Context, sides [2]side, first int) (Turn, error) {
	var took [2]time.Duration
	for _, i := range []int{first, 1 - first} {
		before, err := processorTime(sides[i].pid)
		if err != nil {
			return Turn{}, err
		}
		for range turnRequests {
			if _, err := s.call(ctx, sides[i].client, host(warmed)); err != nil {
				return Turn{}, fmt.Errorf("warm request %s: %w", sides[i].name, err)
			}
		}
		after, err := processorTime(sides[i].pid)
		if err != nil {
			return Turn{}, err
		}
		took[i] = after - before
	}
	return Turn{Polder: took[0].Nanoseconds() / turnRequests, Bare: took[1].Nanoseconds() / turnRequests}, nil
}

// newWarm compares turn by turn. The interval is that of the median by ranks,
// which assumes nothing of how noise is distributed (Conover, Practical
// Nonparametric Statistics, 3.2).
func newWarm(turns []Turn) Warm {
	w := Warm{Requests: len(turns) * turnRequests, Turns: turns}
	var polder, bare []int64
	var more []float64
	for _, t := range turns {
		polder, bare = append(polder, t.Polder), append(bare, t.Bare)
		if t.Bare > 0 {
			more = append(more, float64(t.Polder)/float64(t.Bare)-1)
		}
	}
	if len(more) == 0 {
		return w
	}
	slices.Sort(polder)
	slices.Sort(bare)
	slices.Sort(more)
	n := len(more)
	w.Polder, w.Bare, w.More = polder[len(polder)/2], bare[len(bare)/2], more[n/2]
	reach := int(math.Ceil(1.96 * math.Sqrt(float64(n)) / 2))
	w.From, w.To = more[max(0, n/2-reach)], more[min(n-1, n/2+reach)]
	return w
}

// processorTime is what all threads of a process have taken.
func processorTime(pid int) (time.Duration, error) {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil || len(files) == 0 {
		return 0, fmt.Errorf("processor time of process %d: it has no threads", pid)
	}
	var sum time.Duration
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // the thread has ended
		}
		first, _, _ := strings.Cut(string(text), " ")
		n, err := strconv.ParseInt(first, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("processor time in %s: %w", file, err)
		}
		sum += time.Duration(n)
	}
	return sum, nil
}
