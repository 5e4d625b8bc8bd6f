package freeport

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
)

// TestChosenPortsAreApart chooses as many ports as stay reserved: no two are the
// same, somebody else cannot have one, and one more gives the first back.
func TestChosenPortsAreApart(t *testing.T) {
	taken := func(a netip.AddrPort) bool { // as another process would find it
		socket, err := net.Listen("unix", fmt.Sprintf("@polder/port/%d", a.Port()))
		if err == nil {
			socket.Close()
		}
		return err != nil
	}
	var chosen []netip.AddrPort
	seen := map[netip.AddrPort]bool{}
	for range kept {
		a, err := Choose(len(chosen)%2 == 0)
		if err != nil {
			t.Fatal(err)
		}
		if seen[a] {
			t.Errorf("%s was chosen twice", a)
		}
		seen[a] = true
		chosen = append(chosen, a)
	}
	for _, a := range chosen {
		if !taken(a) {
			t.Errorf("somebody else can have %s", a)
		}
	}
	if _, err := Choose(true); err != nil {
		t.Fatal(err)
	}
	if taken(chosen[0]) || !taken(chosen[1]) {
		t.Errorf("after one more than is kept: the first taken %t, the second %t", taken(chosen[0]), taken(chosen[1]))
	}
}

// TestBusyPortIsPassedOver: what listens is in nobody's way, whoever reserved it.
func TestBusyPortIsPassedOver(t *testing.T) {
	a, err := Choose(true)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", a.String())
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	if err := Check(a, false); err == nil {
		t.Errorf("%s is said to be free, and is listened on", a)
	}
	if err := reserve(a, false); err == nil {
		t.Errorf("%s was reserved again", a)
	}
}
