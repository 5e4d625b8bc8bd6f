package local

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/polder/polder"
)

// loopback is where all instances listen.
var loopback = netip.AddrFrom4([4]byte{127, 0, 0, 1})

// place is where an instance listens, and what we hold of it meanwhile.
type place struct {
	address netip.AddrPort
	socket  *os.File // inherited: the listening socket

	once        sync.Once
	reservation net.Listener // of a port that is yet to be listened on
}

// takePlace finds a port of its own for an instance.
func takePlace(how polder.RunListen) (*place, error) {
	switch how {
	case polder.ListenInherit:
		return listen()
	case polder.ListenPort, "":
		return reserve()
	default:
		return nil, fmt.Errorf("run.listen %q is neither %q nor %q", how, polder.ListenPort, polder.ListenInherit)
	}
}

func (p *place) files() []*os.File {
	if p.socket == nil {
		return nil
	}
	return []*os.File{p.socket}
}

// leave gives up what is the instance's alone from now on.
func (p *place) leave() {
	p.once.Do(func() {
		if p.socket != nil {
			p.socket.Close()
		}
		if p.reservation != nil {
			p.reservation.Close()
		}
	})
}

// backlog is how many connections an inherited socket holds for its program;
// the kernel lowers it to net.core.somaxconn.
const backlog = 4096

// listen makes the socket that an instance inherits.
func listen() (_ *place, err error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("listening socket: %w", err)
	}
	defer func() {
		if err != nil {
			unix.Close(fd)
		}
	}()
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: loopback.As4()}); err != nil {
		return nil, fmt.Errorf("listening socket: %w", err)
	}
	if err := unix.Listen(fd, backlog); err != nil {
		return nil, fmt.Errorf("listening socket: %w", err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		return nil, fmt.Errorf("listening socket: %w", err)
	}
	port := uint16(name.(*unix.SockaddrInet4).Port)
	return &place{address: netip.AddrPortFrom(loopback, port), socket: os.NewFile(uintptr(fd), "listening socket")}, nil
}

// firstPort is the lowest that we choose; those below are often spoken for.
const firstPort = 20000

// reserve chooses a port on which nobody listens and which no other Polder is
// giving away.
func reserve() (*place, error) {
	low, high := portsToChoose()
	for range 1000 {
		port := low + rand.IntN(high-low)
		reservation, err := claim(port)
		if errors.Is(err, syscall.EADDRINUSE) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("reserve port %d: %w", port, err)
		}
		return &place{address: netip.AddrPortFrom(loopback, uint16(port)), reservation: reservation}, nil
	}
	return nil, fmt.Errorf("no free port found between %d and %d on %s", low, high, loopback)
}

// claim reserves the port among all Polders, by an abstract Unix socket, which
// goes away with its owner whatever happens, and checks that it is free.
func claim(port int) (net.Listener, error) {
	reservation, err := net.Listen("unix", fmt.Sprintf("@polder/port/%d", port))
	if err != nil {
		return nil, err
	}
	if err := tryBind(port); err != nil {
		reservation.Close()
		return nil, err
	}
	return reservation, nil
}

// tryBind binds without SO_REUSEADDR, as the strictest program will: it fails
// also while closed connections linger on the port.
func tryBind(port int) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Bind(fd, &unix.SockaddrInet4{Port: port, Addr: loopback.As4()})
}

// portsToChoose is the longer of the two ranges that the kernel does not use
// for outgoing connections, or all if it uses nearly everything.
func portsToChoose() (low, high int) {
	const enough = 1000
	low, high = 32768, 61000 // Linux's own default, for when /proc does not tell
	if data, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range"); err == nil {
		_, _ = fmt.Sscan(string(data), &low, &high)
	}
	below, above := low-firstPort, 1<<16-(high+1)
	switch {
	case below >= enough && below >= above:
		return firstPort, low
	case above >= enough:
		return high + 1, 1 << 16
	default:
		return firstPort, 1 << 16
	}
}
