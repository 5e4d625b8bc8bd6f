//go:build linux

package testbed

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// mtu is that of every link: what a tunnel over the internet carries.
const mtu = 1400

// room is a network namespace, and the thread that is in it. What do runs is in
// the namespace, and so is a process that it starts.
type room struct {
	orders chan func()
	wan    *os.File // its end of the network: IP packets
}

// newRoom makes a namespace with an address on the network. One that is home is
// that of this process.
func newRoom(home bool, addresses ...netip.Addr) (*room, error) {
	r := &room{orders: make(chan func())}
	ready := make(chan error)
	go func() {
		runtime.LockOSThread() // and never leaves: the thread ends with the goroutine
		var err error
		if !home {
			err = unix.Unshare(unix.CLONE_NEWNET)
		}
		if err == nil {
			r.wan, err = furnish(addresses)
		}
		ready <- err
		for order := range r.orders {
			order()
		}
	}()
	if err := <-ready; err != nil {
		close(r.orders)
		return nil, fmt.Errorf("network namespace for %v: %w", addresses, err)
	}
	return r, nil
}

// do runs f in the namespace.
func (r *room) do(f func() error) error {
	done := make(chan error)
	r.orders <- func() { done <- f() }
	return <-done
}

// close ends the thread; the namespace goes with its last process.
func (r *room) close() error {
	close(r.orders)
	return r.wan.Close()
}

// furnish brings loopback up and makes a TUN device with the addresses.
func furnish(addresses []netip.Addr) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("TUN device: %w", err)
	}
	tun, err := unix.NewIfreq("wan0")
	if err == nil {
		tun.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, tun)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("TUN device: %w", err), unix.Close(fd))
	}
	file := os.NewFile(uintptr(fd), "wan0")
	if err := configure(addresses); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// configure gives the devices their addresses. Everything is reached over the
// TUN device, whose network is that of all peers.
func configure(addresses []netip.Addr) error {
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(socket)
	set := func(device string, request uint, value func(*unix.Ifreq) error) error {
		r, err := unix.NewIfreq(device)
		if err == nil {
			err = value(r)
		}
		if err == nil {
			err = unix.IoctlIfreq(socket, request, r)
		}
		if err != nil {
			return fmt.Errorf("device %s: %w", device, err)
		}
		return nil
	}
	up := func(r *unix.Ifreq) error { r.SetUint16(unix.IFF_UP | unix.IFF_RUNNING); return nil }
	if err := set("lo", unix.SIOCSIFFLAGS, up); err != nil {
		return err
	}
	for i, a := range addresses {
		device := "wan0"
		if i > 0 {
			device = fmt.Sprintf("wan0:%d", i)
		}
		if err := set(device, unix.SIOCSIFADDR, func(r *unix.Ifreq) error { return r.SetInet4Addr(a.AsSlice()) }); err != nil {
			return err
		}
		mask := []byte{255, 255, 0, 0}
		if err := set(device, unix.SIOCSIFNETMASK, func(r *unix.Ifreq) error { return r.SetInet4Addr(mask) }); err != nil {
			return err
		}
	}
	if err := set("wan0", unix.SIOCSIFMTU, func(r *unix.Ifreq) error { r.SetUint32(mtu); return nil }); err != nil {
		return err
	}
	return set("wan0", unix.SIOCSIFFLAGS, up)
}
