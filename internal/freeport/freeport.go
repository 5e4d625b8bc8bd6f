package freeport

import (
	"math/rand/v2"
	"net"
	"net/netip"
)

const (
	first, ports = 10000, 10000
	tries        = 100
)

var loopback = netip.AddrFrom4([4]byte{127, 0, 0, 1})

// Choose returns an address of loopback whose port is free now, for UDP as well
// if packets says so. It fails with the last reason after a hundred tries.
func Choose(packets bool) (address netip.AddrPort, err error) {
	for range tries {
		address = netip.AddrPortFrom(loopback, uint16(first+rand.IntN(ports)))
		if err = Check(address, packets); err == nil {
			return address, nil
		}
	}
	return netip.AddrPort{}, err
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
