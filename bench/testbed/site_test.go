//go:build linux

package testbed

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

func TestMain(m *testing.M) {
	inside, err := Enter()
	if end := (Ended{}); errors.As(err, &end) {
		os.Exit(end.Code)
	} else if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if !inside {
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// TestNetwork sends through two rooms and the router between them, over TCP:
// bytes arrive whole, no sooner than the distance allows, and not through a cut.
func TestNetwork(t *testing.T) {
	s := &Site{options: DefaultOptions(), weather: newWeather(Europe(), 1)}
	s.router = newRouter(s.weather)
	if err := s.settle(); err != nil {
		t.Fatal(err)
	}
	at := addressOf(3, 1)
	r, err := newRoom(false, at)
	if err != nil {
		t.Fatal(err)
	}
	s.rooms = append(s.rooms, r)
	s.router.attach(at, end{name: "pl-1", region: "pl"}, r.wan)
	ctx, stop := context.WithCancel(t.Context())
	var group errgroup.Group
	group.Go(func() error { return s.router.run(ctx) })
	defer func() {
		stop()
		if err := s.close(); err != nil {
			t.Error(err)
		}
		if err := group.Wait(); err != nil {
			t.Error(err)
		}
	}()
	var listener net.Listener
	if err := r.do(func() (err error) {
		listener, err = net.Listen("tcp", netip.AddrPortFrom(at, 7000).String())
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	group.Go(func() error {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return nil
			}
			go func() { defer conn.Close(); io.Copy(conn, conn) }()
		}
	})

	const size = 1 << 20
	began := time.Now()
	conn, err := s.Dial("fr")(t.Context(), "tcp", netip.AddrPortFrom(at, 7000).String())
	if err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took < 30*time.Millisecond {
		t.Errorf("the connection took %v, less than the way there and back", took)
	}
	defer conn.Close()
	group.Go(func() error { _, err := conn.Write(make([]byte, size)); return err })
	if n, err := io.Copy(io.Discard, io.LimitReader(conn, size)); err != nil || n != size {
		t.Errorf("%d bytes of %d came back: %v", n, size, err)
	}

	clear := s.Shape(Link{"pl-1", "*", 1})
	cut, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if conn, err := s.Dial("fr")(cut, "tcp", netip.AddrPortFrom(at, 7000).String()); err == nil {
		conn.Close()
		t.Error("a connection came about over a cut")
	}
	clear()
	again, err := s.Dial("nl")(t.Context(), "tcp", netip.AddrPortFrom(at, 7000).String())
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
}
