package gateway

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"

	"github.com/polder/polder"
)

// Options of a Region.
type Options struct {
	Region       polder.RegionName
	Peer         string            // unique among all peers; "" means REGION-1
	Config       string            // file or folder
	State        string            // state folder
	Listen       polder.Listen     // what is not empty wins over the configuration
	Peers        int               // of the region at one time, at most; what the configuration says wins if it is more
	Join         []string          // gossip addresses of other peers, beside the configuration's
	Tools        string            // folder with Envoy, for when PATH has none
	Keeper       []string          // command that calls sockets.Keep; nil means that sockets end with this process
	ServerTiming bool              // tell callers what was cold
	Metrics      string            // loopback address to serve metrics on, beside the API's socket; "" means none
	Traces       string            // collector of spans, such as https://collector.example.net:4317; "" means none
	TracesRegion polder.RegionName // where the collector keeps them; "" means Region
	Version      string            // of this program, for status
	Tempo        Tempo             // of the predictor; the zero value in production
	Log          *slog.Logger
}

// defaultListen are the addresses of a region in production.
var defaultListen = polder.Listen{HTTPS: ":443", HTTP: ":80", Peer: ":7443", Gossip: ":7946"}

// listenOn joins flags, configuration and defaults, in this order.
func listenOn(flags, file polder.Listen) polder.Listen {
	l := polder.Listen{
		HTTPS:  cmp.Or(flags.HTTPS, file.HTTPS, defaultListen.HTTPS),
		HTTP:   cmp.Or(flags.HTTP, file.HTTP, defaultListen.HTTP),
		Peer:   cmp.Or(flags.Peer, file.Peer, defaultListen.Peer),
		Gossip: cmp.Or(flags.Gossip, file.Gossip, defaultListen.Gossip),
		DNS:    unlessOff(cmp.Or(flags.DNS, file.DNS)),
		XDS:    unlessOff(cmp.Or(flags.XDS, file.XDS)),
		HTTP3:  cmp.Or(flags.HTTP3, file.HTTP3),

		Clients: flags.Clients,
	}
	if l.Clients == "" && l.XDS != "" { // where clients without an Envoy have their control plane
		l.Clients = file.Clients
	}
	return l
}

// Off in the place of an address for DNS queries, or for Envoys on other machines,
// means that there is none, whatever the configuration says.
const Off = "off"

func unlessOff(address string) string {
	if address == Off {
		return ""
	}
	return address
}

// bindAddresses parses where Envoy shall listen. An empty host means all
// addresses of the machine.
func bindAddresses(l polder.Listen) (https, http, peer netip.AddrPort, err error) {
	var faults []error
	parse := func(what, address string) netip.AddrPort {
		a, err := bindAddress(address)
		if err != nil {
			faults = append(faults, fmt.Errorf("address of %s is %q: %w; write it like 192.0.2.1:443 or :443", what, address, err))
		}
		return a
	}
	https, http, peer = parse("HTTPS", l.HTTPS), parse("HTTP", l.HTTP), parse("peers", l.Peer)
	return https, http, peer, errors.Join(faults...)
}

func bindAddress(address string) (netip.AddrPort, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return netip.AddrPort{}, err
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return netip.AddrPort{}, err
	}
	ip := netip.IPv6Unspecified()
	if host != "" {
		if ip, err = netip.ParseAddr(host); err != nil {
			return netip.AddrPort{}, err
		}
	}
	return netip.AddrPortFrom(ip, uint16(number)), nil
}
