package loadtest

import (
	"context"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// fdWaiter waits with a timer of the kernel behind a file descriptor. The
// runtime's poller is woken by it to within some ten microseconds, which a
// latency of one millisecond deserves.
type fdWaiter struct {
	ctx     context.Context // a waiter lives within one call of dispatch
	fd      int
	file    *os.File // owns fd
	release func() bool
	instead waiter // takes over if the kernel's timer fails
}

// newWaiter makes the most exact waiter that the system has.
func newWaiter(ctx context.Context) waiter {
	instead := newTimerWaiter(ctx)
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return instead
	}
	w := &fdWaiter{ctx: ctx, fd: fd, file: os.NewFile(uintptr(fd), "timerfd"), instead: instead}
	w.release = context.AfterFunc(ctx, func() {
		w.file.SetReadDeadline(time.Unix(1, 0)) // ends a wait under way
	})
	return w
}

func (w *fdWaiter) wait(until time.Time) bool {
	left := time.Until(until)
	if left <= 0 {
		return w.ctx.Err() == nil
	}
	value := unix.ItimerSpec{Value: unix.NsecToTimespec(left.Nanoseconds())}
	if err := unix.TimerfdSettime(w.fd, 0, &value, nil); err != nil {
		return w.instead.wait(until)
	}
	var expirations [8]byte
	if _, err := w.file.Read(expirations[:]); err != nil && w.ctx.Err() == nil {
		return w.instead.wait(until)
	}
	return w.ctx.Err() == nil
}

func (w *fdWaiter) stop() {
	w.release()
	w.file.Close()
	w.instead.stop()
}
