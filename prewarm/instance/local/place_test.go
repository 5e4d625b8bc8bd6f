package local

import (
	"errors"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/polder/polder"
)

func TestPortsAreGivenOnce(t *testing.T) {
	var mu sync.Mutex
	given := map[string]bool{}
	var all sync.WaitGroup
	low, high := portsToChoose()
	for range 200 {
		all.Go(func() {
			p, err := takePlace(polder.ListenPort)
			if err != nil {
				t.Error(err)
				return
			}
			t.Cleanup(p.leave)
			mu.Lock()
			defer mu.Unlock()
			if given[p.address.String()] {
				t.Errorf("%s was given twice", p.address)
			}
			given[p.address.String()] = true
			if port := int(p.address.Port()); port < low || port >= high || !p.address.Addr().IsLoopback() {
				t.Errorf("%s is not on loopback between %d and %d", p.address, low, high)
			}
		})
	}
	all.Wait()
}

func TestPortsAreOutsideTheRangeOfOutgoingConnections(t *testing.T) {
	data, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		t.Fatal(err)
	}
	field := strings.Fields(string(data))
	first, _ := strconv.Atoi(field[0])
	last, _ := strconv.Atoi(field[1])
	low, high := portsToChoose()
	wide := first < firstPort+1000 && last > 1<<16-1000
	if !wide && low <= last && high > first {
		t.Errorf("we choose from %d to %d, the kernel from %d to %d", low, high-1, first, last)
	}
	if low < 1024 || high > 1<<16 || low >= high {
		t.Errorf("we choose from %d to %d", low, high-1)
	}
}

func TestReservedPortIsFreeForTheProgramAlone(t *testing.T) {
	p, err := reserve()
	if err != nil {
		t.Fatal(err)
	}
	port := int(p.address.Port())
	if again, err := claim(port); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("claimed twice: %v, %v", again, err)
	}
	if err := tryBind(port); err != nil {
		t.Errorf("a program cannot bind: %v", err)
	}
	p.leave()
	p.leave()
	again, err := claim(port)
	if err != nil {
		t.Fatalf("not free after leaving: %v", err)
	}
	again.Close()

	busy, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	taken := busy.Addr().(*net.TCPAddr).Port
	if _, err := claim(taken); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("claim of a busy port: %v", err)
	}
	free, err := net.Listen("unix", "@polder/port/"+strconv.Itoa(taken))
	if err != nil {
		t.Fatalf("the reservation of a busy port was kept: %v", err)
	}
	free.Close()
}

func TestInheritedSocketListensAndBlocks(t *testing.T) {
	p, err := takePlace(polder.ListenInherit)
	if err != nil {
		t.Fatal(err)
	}
	defer p.leave()
	conn, err := net.Dial("tcp", p.address.String())
	if err != nil {
		t.Fatalf("nobody listens: %v", err)
	}
	defer conn.Close()
	raw, err := p.socket.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	_ = raw.Control(func(fd uintptr) {
		flags, err := unix.FcntlInt(fd, unix.F_GETFL, 0)
		if err != nil || flags&unix.O_NONBLOCK != 0 {
			t.Errorf("flags %x, %v: programs expect a blocking socket", flags, err)
		}
	})
	if n, err := queued(p.socket); n != 1 || err != nil {
		t.Errorf("%d connections in the queue, %v", n, err)
	}
}

func TestUnknownWayToListen(t *testing.T) {
	if _, err := takePlace("pigeon"); err == nil || !strings.Contains(err.Error(), "pigeon") {
		t.Errorf("error = %v", err)
	}
}
