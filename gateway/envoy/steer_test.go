package envoy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync/atomic"
	"testing"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// ear is a listening socket that shares its port, as a worker of Envoy has one.
type ear struct {
	*net.TCPListener
	fd int
}

func listen(t *testing.T, port int) ear {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	errs := []error{
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1),
		unix.Bind(fd, &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}),
		unix.Listen(fd, 1024),
	}
	f := os.NewFile(uintptr(fd), "listener")
	defer f.Close()
	listener, err := net.FileListener(f)
	if err := errors.Join(append(errs, err)...); err != nil {
		t.Fatal(err)
	}
	ear := ear{TCPListener: listener.(*net.TCPListener)}
	raw, err := ear.SyscallConn()
	if err == nil {
		err = raw.Control(func(fd uintptr) { ear.fd = int(fd) })
	}
	if err != nil {
		t.Fatal(err)
	}
	return ear
}

// answer accepts and answers until the socket is closed.
func (e ear) answer() error {
	for {
		c, err := e.AcceptTCP()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		if _, err := c.Write([]byte("!")); err != nil {
			return err
		}
		c.Close()
	}
}

// TestCrossing: sockets that share a port are replaced again and again while
// callers connect all the time. No connection is refused or reset, however
// many the old and the new ones are.
func TestCrossing(t *testing.T) {
	for _, c := range []struct{ old, new, rounds int }{{1, 1, 20}, {4, 4, 40}, {2, 4, 20}, {4, 1, 4}} {
		t.Run(fmt.Sprintf("%d to %d", c.old, c.new), func(t *testing.T) { cross(t, c.old, c.new, c.rounds) })
	}
}

func cross(t *testing.T, olds, news, rounds int) {
	port := reservePort(t)
	address := fmt.Sprintf("127.0.0.1:%d", port)
	var servers, callers errgroup.Group
	serve := func(n int) (ears []ear) {
		for range n {
			e := listen(t, port)
			ears = append(ears, e)
			servers.Go(e.answer)
		}
		return ears
	}
	stop := func(ears []ear) {
		for _, e := range ears {
			e.Close()
		}
	}
	old := serve(olds)
	ctx, cancel := context.WithCancel(t.Context())
	var calls atomic.Int64
	for range 4 {
		callers.Go(func() error {
			for ctx.Err() == nil {
				if err := call(address); err != nil {
					return fmt.Errorf("after %d calls: %w", calls.Load(), err)
				}
				calls.Add(1)
			}
			return nil
		})
	}
	pid := unix.Getpid()
	for n := range rounds {
		size := news
		if n%2 == 1 {
			size = olds
		}
		next := serve(size)
		var c crossing
		for _, e := range old {
			c.leave(pid, socket{fd: e.fd, address: address})
		}
		if err := c.turn(pid, socket{fd: next[0].fd, address: address}, len(old), len(next)); err != nil {
			t.Fatal(err)
		}
		seen := calls.Load() // handshakes that began before end while we look
		until(t, "callers come", func() bool { return calls.Load() > seen+8 || ctx.Err() != nil })
		until(t, "what the old ones were given is accepted", func() bool { return queued(t, port) == 0 })
		c.close()
		stop(old)
		c.end()
		if c.notHeld != nil {
			t.Fatal(c.notHeld)
		}
		old = next
	}
	cancel()
	if err := callers.Wait(); err != nil {
		t.Error(err)
	}
	stop(old)
	if err := servers.Wait(); err != nil {
		t.Error(err)
	}
}

func call(address string) error {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer c.Close()
	if answer, err := io.ReadAll(c); err != nil || string(answer) != "!" {
		return fmt.Errorf("answer %q: %w", answer, err)
	}
	return nil
}

// queued counts the connections to the port that nobody has accepted.
func queued(t *testing.T, port int) (sum uint64) {
	t.Helper()
	sockets, err := listening(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range sockets {
		if s.address == fmt.Sprintf("tcp 0100007F:%04X", port) {
			sum += s.queued
		}
	}
	return sum
}
