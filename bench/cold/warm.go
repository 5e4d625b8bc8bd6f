package cold

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// warmed is the service whose warm requests are counted.
const warmed = "warmed"

// warm measures Envoy's processor time for warm requests, in turn with a Polder
// that runs and with one that is stopped: the same Envoy with the same listener,
// and nobody behind it.
func warm(ctx context.Context, s *site, o Options, r *Report) (err error) {
	if o.Warm == 0 {
		return nil
	}
	client := s.Caller(s.address, false)
	defer client.CloseIdleConnections()
	// The first round's requests keep the service awake for all others: they
	// follow each other, and nobody puts it to sleep while Polder is stopped.
	w := Warm{Requests: o.Warm}
	var with, alone []time.Duration
	for range warmRounds {
		status, err := s.client.Status(ctx)
		if err != nil {
			return err
		}
		took, err := s.spend(ctx, o.Warm, status.Envoy.PID, func() error { _, err := s.call(ctx, client, host(warmed)); return err })
		if err != nil {
			return fmt.Errorf("warm requests: %w", err)
		}
		with = append(with, took)
		if err := syscall.Kill(status.PID, syscall.SIGSTOP); err != nil {
			return fmt.Errorf("stopping Polder: %w", err)
		}
		took, err = s.spend(ctx, o.Warm, status.Envoy.PID, func() error { _, err := s.call(ctx, client, host(warmed)); return err })
		if err = errors.Join(err, syscall.Kill(status.PID, syscall.SIGCONT)); err != nil {
			return fmt.Errorf("warm requests past a stopped Polder: %w", err)
		}
		alone = append(alone, took)
	}
	w.With, w.Alone = spread(with).P50, spread(alone).P50
	if w.Alone > 0 {
		w.More = float64(w.With-w.Alone) / float64(w.Alone)
	}
	r.Warm = &w
	o.progress("warm requests are done")
	return nil
}

// warmRounds are the rounds of each kind; their medians are compared.
const warmRounds = 5

// spend returns the processor time that a process took for the calls.
func (s *site) spend(ctx context.Context, calls, pid int, call func() error) (time.Duration, error) {
	if err := call(); err != nil { // wakes the service, or opens the connection
		return 0, err
	}
	before, err := processorTime(pid)
	if err != nil {
		return 0, err
	}
	for range calls {
		if err := call(); err != nil {
			return 0, err
		}
	}
	after, err := processorTime(pid)
	return after - before, err
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
