package freeport

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
)

const (
	first, ports = 10000, 10000
	tries        = 100
	kept         = 256 // reservations of a process: its latest, so that its descriptors do not run out
)

var loopback = netip.AddrFrom4([4]byte{127, 0, 0, 1})

// given are the reservations of the ports that this process gave away last.
var given struct {
	sync.Mutex
	reservations []net.Listener
}

// Choose returns an address of loopback whose port is free now, for UDP as well
// if packets says so, and reserves it for as long as this process lives, or until
// it has chosen 256 others. It fails with the last reason after a hundred tries.
func Choose(packets bool) (address netip.AddrPort, err error) {
	for range tries {
		address = netip.AddrPortFrom(loopback, uint16(first+rand.IntN(ports)))
		if err = reserve(address, packets); err == nil {
			return address, nil
		}
	}
	return netip.AddrPort{}, err
}

// reserve takes the port if it is free. What holds it is an abstract Unix socket,
// as for the ports of instances: it goes away with its owner whatever happens.
func reserve(address netip.AddrPort, packets bool) error {
	reservation, err := net.Listen("unix", fmt.Sprintf("@polder/port/%d", address.Port()))
	if err != nil {
		return err
	}
	if err := Check(address, packets); err != nil {
		reservation.Close()
		return err
	}
	given.Lock()
	defer given.Unlock()
	if given.reservations = append(given.reservations, reservation); len(given.reservations) > kept {
		given.reservations[0].Close()
		given.reservations = given.reservations[1:]
	}
	return nil
}

// Check tells whether an address can be listened on now, and why not.
func Check(address netip.AddrPort, packets bool) error {
	listener, err := net.Listen("tcp", address.String())
	if err != nil {
		return err
	}
	defer listener.Close()
	if !packets {
		return nil
	}
	conn, err := net.ListenPacket("udp", address.String())
	if err != nil {
		return err
	}
	return conn.Close()
}
