package fleet

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/polder/polder"
	"github.com/polder/polder/internal/freeport"
)

// Ports of the first region when HTTPS is on defaultPort; the others follow.
// They move along with the port of HTTPS.
const (
	httpOffset = -363 // 8443 → 8080
	peerOffset = -1000
	gossipBase = -500 // 8443 → 7943
)

// CheckPort tells whether so many peers can have their ports when the HTTPS
// entrypoint of the first one is on port.
func CheckPort(port, peers int) error {
	const highest = 1<<16 - 1
	least, most := 1-peerOffset, highest+1-peers
	if port != 0 && (port < least || port > most) {
		return fmt.Errorf("%d leaves no room for the ports of %d peers: want 0, or %d to %d", port, peers, least, most)
	}
	return nil
}

const loopback = "127.0.0.1"

// plan gives each of n peers its addresses on loopback. The port is that of
// the first peer's HTTPS entrypoint; 0 takes ports that are free now.
func plan(port, n int) ([]polder.Listen, error) {
	if err := CheckPort(port, n); err != nil {
		return nil, fmt.Errorf("HTTPS port: %w", err)
	}
	listens := make([]polder.Listen, n)
	chosen := map[string]bool{}
	var faults []error
	for i := range listens {
		l := &listens[i]
		for _, a := range []struct {
			what    string
			address *string
			offset  int
			packets bool // both TCP and UDP
		}{
			{"HTTPS", &l.HTTPS, 0, false}, {"HTTP", &l.HTTP, httpOffset, false},
			{"peer", &l.Peer, peerOffset, false}, {"gossip", &l.Gossip, gossipBase, true},
		} {
			wanted := 0
			if port != 0 {
				wanted = port + a.offset + i
			}
			address, err := choose(wanted, a.packets)
			for port == 0 && err == nil && chosen[address] { // free, but not for two of us
				address, err = choose(wanted, a.packets)
			}
			chosen[address] = true
			if err != nil {
				faults = append(faults, fmt.Errorf("%s port of peer %d: %w", a.what, i+1, err))
			}
			*a.address = address
		}
	}
	if len(faults) > 0 {
		return nil, fmt.Errorf("%s; stop what uses these ports, or choose others with --port (0 takes free ones)",
			strings.ReplaceAll(errors.Join(faults...).Error(), "\n", "; "))
	}
	return listens, nil
}

// choose returns the address of the port if it is free now, or of a free one for 0.
func choose(port int, packets bool) (string, error) {
	if port == 0 {
		address, err := freeport.Choose(packets)
		return address.String(), err
	}
	address := netip.AddrPortFrom(netip.MustParseAddr(loopback), uint16(port))
	return address.String(), freeport.Check(address, packets)
}
