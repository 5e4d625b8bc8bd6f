package envoy

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sync/errgroup"
)

// TestAdoption: Envoy survives the kill -9 of its owner, serves on, and the next
// owner takes over the same process.
func TestAdoption(t *testing.T) {
	p := newPlace(t)
	bootstrap := p.answering("hello")
	first := p.owner(bootstrap)
	pid := first.await(t, Running)
	first.kill(t)
	p.wants("hello")

	var log journal
	o := p.options(append([]byte("  "), bootstrap...)) // the same JSON in other bytes
	o.Log = log.logger()
	r := p.run(o)
	if adopted := r.await(Adopted); adopted.PID != pid {
		t.Errorf("adopted pid %d, want %d", adopted.PID, pid)
	}
	r.await(Running)
	p.wants("hello")
	if strings.Contains(log.String(), "starting workers") {
		t.Errorf("lines that the first owner had are merged again:\n%s", &log)
	}

	// An adopted one is restarted like one of our own.
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	r.await(Exited)
	running := r.await(Running)
	p.wants("hello")
	r.stop(nil)
	p.nothingLeft(pid, running.PID)
}

func TestHandOver(t *testing.T) {
	p := newPlace(t)
	bootstrap := p.answering("hello")
	r := p.run(p.options(bootstrap))
	pid := r.await(Running).PID
	r.stop(ErrHandOver)
	r.await(Left)
	p.wants("hello")

	r = p.run(p.options(bootstrap))
	if adopted := r.await(Adopted); adopted.PID != pid {
		t.Errorf("adopted pid %d, want %d", adopted.PID, pid)
	}
	r.stop(nil)
	p.nothingLeft(pid)
}

// TestReplacement: with another bootstrap the inherited Envoy serves until its
// successor does, finishes what it has, and no caller notices.
func TestReplacement(t *testing.T) {
	p := newPlace(t)
	up := newUpstream(t)
	r := p.run(p.options(p.forwarding(up.Addr())))
	old := r.await(Running).PID
	r.stop(ErrHandOver)

	slow := p.hold(up)
	r = p.run(p.options(p.answering("two")))
	started := r.await(Starting)
	if started.PID == old {
		t.Fatal("the old Envoy was kept")
	}
	// Callers come all the time. Until the old one stops accepting, either may
	// answer; then it is the new one for good.
	until(t, "only the new Envoy accepts", func() bool {
		body, err := p.ask(up, "one")
		if err != nil {
			t.Fatal(err)
		}
		sockets, err := listening(old)
		return body == "two" && (err != nil || len(own(sockets)) == 0)
	})
	r.await(Running)
	slow.release <- "finished by the old one"
	if body, err := slow.result(); err != nil || body != "finished by the old one" {
		t.Errorf("the request in progress: %q, %v", body, err)
	}
	until(t, "the old Envoy ends", func() bool { return gone(t, old) })
	p.wants("two")
	r.stop(nil)
	p.nothingLeft(old, started.PID)
}

// TestReplacementUnderLoad: callers come from all sides while Envoy is replaced
// again and again, each with a connection of its own. None gets an error.
func TestReplacementUnderLoad(t *testing.T) {
	p := newPlace(t)
	o := p.options(p.answering("0"))
	o.Concurrency = 2
	r := p.run(o)
	pid := r.await(Running).PID
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	var callers errgroup.Group
	var calls atomic.Int64
	for range 8 {
		callers.Go(func() error {
			for ctx.Err() == nil {
				if _, err := get(p.url()); err != nil {
					return err
				}
				calls.Add(1)
			}
			return nil
		})
	}
	for n := range 3 {
		r.stop(ErrHandOver)
		o.Bootstrap = p.answering(fmt.Sprint(n + 1))
		r = p.run(o)
		next := r.await(Running).PID
		until(t, "the old Envoy ends", func() bool { return gone(t, pid) })
		pid = next
		p.wants(fmt.Sprint(n + 1))
	}
	stop()
	if err := callers.Wait(); err != nil {
		t.Errorf("after %d calls: %v", calls.Load(), err)
	}
	r.stop(nil)
	p.nothingLeft(pid)
}

// TestReplacementRejected: a successor that does not come up changes nothing.
func TestReplacementRejected(t *testing.T) {
	p := newPlace(t)
	bootstrap := p.answering("one")
	r := p.run(p.options(bootstrap))
	old := r.await(Running).PID
	r.stop(ErrHandOver)

	r = p.run(p.options(encode(t, object{"admin": p.admin(), "static_resources": object{"listenerz": []object{}}})))
	var rejected *RejectedError
	if err := r.end(); !errors.As(err, &rejected) || !strings.Contains(rejected.Words, "listenerz") {
		t.Errorf("Run = %v, want Envoy's words about listenerz", err)
	}
	p.wants("one")

	r = p.run(p.options(bootstrap))
	if adopted := r.await(Adopted); adopted.PID != old {
		t.Errorf("adopted pid %d, want %d", adopted.PID, old)
	}
	r.await(Running)
	r.stop(nil)
	p.nothingLeft(old)
}
