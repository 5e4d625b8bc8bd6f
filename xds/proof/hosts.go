package proof

import (
	"net"
	"net/netip"
	"slices"
	"strings"
)

// match finds which of some names, exact or "*.x" or "*", a host falls to: the
// most specific one, as Envoy chooses. A host that is a wildcard itself stands
// for the names below it that have no entry of their own.
func match(has func(name string) bool, host string) (string, bool) {
	if has(host) {
		return host, true
	}
	for rest, found := strings.TrimPrefix(host, "*."), true; found; {
		if _, rest, found = strings.Cut(rest, "."); found && has("*."+rest) {
			return "*." + rest, true
		}
	}
	return "*", has("*")
}

// parents lists the wildcards that a host lies below.
func parents(host string) []string {
	var list []string
	for rest, found := strings.TrimPrefix(host, "*."), true; found; {
		if _, rest, found = strings.Cut(rest, "."); found {
			list = append(list, "*."+rest)
		}
	}
	return list
}

// reverse turns the order of labels round, so that what lies below a wildcard
// lies together: "a.example.com" becomes "com.example.a".
func reverse(host string) string {
	labels := strings.Split(host, ".")
	slices.Reverse(labels)
	return strings.Join(labels, ".")
}

// below lists the hosts of the book that lie below a wildcard, without itself.
func (b *Book) below(wildcard string) []string {
	prefix := reverse(strings.TrimPrefix(wildcard, "*.")) + "."
	var list []string
	for r := range b.reversed.from(prefix) {
		if !strings.HasPrefix(r, prefix) {
			break
		}
		if host := reverse(r); host != wildcard {
			list = append(list, host)
		}
	}
	return list
}

// canonical writes an address so that equal addresses are equal strings.
func canonical(a netip.AddrPort) string {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()).String()
}

// canonicalText does the same for host:port, where host may be a name.
func canonicalText(address string) string {
	if a, err := netip.ParseAddrPort(address); err == nil {
		return canonical(a)
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	return net.JoinHostPort(strings.TrimSuffix(strings.ToLower(host), "."), port)
}
