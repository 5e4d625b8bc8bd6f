package sockets

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// asKeeper makes the test binary a keeper.
const asKeeper = "SOCKETS_TEST_KEEPER"

func TestMain(m *testing.M) {
	if os.Getenv(asKeeper) != "" {
		if err := Keep(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

func options(t *testing.T) Options {
	t.Helper()
	t.Setenv(asKeeper, "yes")
	folder, err := os.MkdirTemp("", "keeper") // short, for the socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(folder) })
	return Options{Dir: folder, Socket: filepath.Join(folder, "keeper.sock"), Program: os.Args[0], Label: "keeper", Log: slog.New(slog.DiscardHandler)}
}

func open(t *testing.T, o Options) *Store {
	t.Helper()
	s := New(o)
	if err := s.Open(); err != nil {
		t.Fatal(err)
	}
	return s
}

// listener makes a listening socket, and returns it with its address.
func listener(t *testing.T) (*os.File, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	f, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	return f, l.Addr().String()
}

// answer takes one caller out of the socket's queue and says the word.
func answer(t *testing.T, s *Store, name, word string) {
	t.Helper()
	f, err := s.Get(name)
	if err != nil || f == nil {
		t.Fatalf("Get(%q) = %v, %v", name, f, err)
	}
	defer f.Close()
	l, err := net.FileListener(f)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte(word)); err != nil {
		t.Fatal(err)
	}
}

func dial(t *testing.T, address string) net.Conn {
	t.Helper()
	c, err := net.DialTimeout("tcp", address, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func hears(t *testing.T, c net.Conn, want string) {
	t.Helper()
	if got, err := io.ReadAll(c); err != nil || string(got) != want {
		t.Errorf("the caller heard %q, %v; want %q", got, err, want)
	}
}

// crash ends the Store as a kill -9 ends its process: nothing is said.
func (s *Store) crash() { s.Leave() }

// TestQueueOutlivesItsOwner: who connected to a socket while nobody was there
// is answered by the next one.
func TestQueueOutlivesItsOwner(t *testing.T) {
	o := options(t)
	first := open(t, o)
	f, address := listener(t)
	if err := first.Put("billing", f); err != nil {
		t.Fatal(err)
	}
	f.Close()
	keeper := first.keeper.PID()
	before := dial(t, address)
	first.crash()
	during := dial(t, address)

	second := open(t, o)
	if got := second.keeper.PID(); got != keeper {
		t.Errorf("the keeper is pid %d, was %d", got, keeper)
	}
	if names := second.Names(); !slices.Equal(names, []string{"billing"}) {
		t.Fatalf("kept: %v", names)
	}
	answer(t, second, "billing", "one")
	answer(t, second, "billing", "two")
	hears(t, before, "one")
	hears(t, during, "two")

	second.Drop("billing")
	if c, err := net.Dial("tcp", address); err == nil {
		c.Close()
		t.Error("a socket that was dropped still listens")
	}
	if err := second.End(); err != nil {
		t.Fatal(err)
	}
	left, err := filepath.Glob(filepath.Join(o.Dir, "keeper.[js]*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v (%v)", left, err)
	}
	if syscall.Kill(keeper, 0) == nil {
		t.Errorf("the keeper (pid %d) runs on", keeper)
	}
}

// TestKeeperKilled: another one is given everything at the next change.
func TestKeeperKilled(t *testing.T) {
	o := options(t)
	s := open(t, o)
	f, address := listener(t)
	defer f.Close()
	if err := s.Put("one", f); err != nil {
		t.Fatal(err)
	}
	caller := dial(t, address)
	killed := s.keeper
	if err := syscall.Kill(killed.PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-killed.Done()
	other, _ := listener(t)
	defer other.Close()
	if err := s.Put("two", other); err != nil {
		t.Fatal(err)
	}
	s.crash()
	s = open(t, o)
	names := s.Names()
	if slices.Sort(names); !slices.Equal(names, []string{"one", "two"}) {
		t.Errorf("kept: %v", names)
	}
	answer(t, s, "one", "still there")
	hears(t, caller, "still there")
	if err := s.End(); err != nil {
		t.Fatal(err)
	}
}

// TestWithoutKeeper: a Store works without one, and a keeper that speaks
// another language is replaced.
func TestWithoutKeeper(t *testing.T) {
	o := options(t)
	o.Program = ""
	s := open(t, o)
	f, address := listener(t)
	if err := s.Put("one", f); err != nil {
		t.Fatal(err)
	}
	f.Close()
	c := dial(t, address)
	answer(t, s, "one", "here")
	hears(t, c, "here")
	if none, err := s.Get("two"); none != nil || err != nil {
		t.Errorf("Get of nothing = %v, %v", none, err)
	}
	if err := s.End(); err != nil {
		t.Fatal(err)
	}
	if err := s.Put("one", os.Stdin); err == nil {
		t.Error("a Store that has ended takes a socket")
	}
}
