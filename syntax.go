package polder

import (
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"

	"golang.org/x/net/idna"
)

var (
	labelSyntax        = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	jurisdictionSyntax = regexp.MustCompile(`^[A-Z][A-Z0-9-]{1,30}$`)
	currencySyntax     = regexp.MustCompile(`^[A-Z]{3}$`)
	variableSyntax     = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
)

// checkName reports a name (of a region, tenant, service) that is no DNS label.
func (c *checker) checkName(path, what, name string) {
	if labelSyntax.MatchString(name) {
		return
	}
	fix := "write 1 to 63 of a-z, 0-9 and -, with a letter or digit at both ends"
	if better := labelOf(name); labelSyntax.MatchString(better) {
		fix = "write " + better
	}
	message := fmt.Sprintf("%s is not a name for a %s", quote(name), what)
	if what == "region" && jurisdictionSyntax.MatchString(name) {
		message = fmt.Sprintf("the region %s is named like a jurisdiction; names of regions are in lower case", quote(name))
	}
	c.wrongKey(path, message, fix)
}

// labelOf makes a DNS label of a name, if letters' case and separators are all
// that is wrong with it.
func labelOf(name string) string {
	return strings.Trim(strings.NewReplacer("_", "-", " ", "-", ".", "-").Replace(strings.ToLower(name)), "-")
}

// checkHost says what is wrong with a host, and what to write instead. Both
// are empty for a good one.
func checkHost(s string) (message, fix string) {
	wrong := hostFault(s)
	if wrong == "" {
		return "", ""
	}
	if better := repairHost(s); hostFault(better) == "" {
		return quote(s) + " " + wrong, "write " + better
	}
	return quote(s) + " " + wrong, "write a DNS name in lower case, such as billing.example.com"
}

func hostFault(s string) string {
	name := strings.TrimPrefix(s, "*.")
	switch {
	case s == "":
		return "is no name"
	case strings.Contains(s, "://"):
		return "is a URL; a host is a name alone"
	case strings.Contains(s, "/"):
		return "has a path; a host is a name alone"
	case isAddress(s):
		return "is an IP address; callers are told apart by name (SNI), which an address cannot be"
	case strings.Contains(s, ":"):
		return "has a port; a host is a name alone"
	case strings.HasSuffix(s, "."):
		return "ends in a dot; hosts are written without it"
	case strings.ToLower(s) != s:
		return "has capital letters; hosts are written in lower case"
	case strings.Contains(name, "*"):
		return "has a * that is not the whole first label"
	case strings.ContainsFunc(s, func(r rune) bool { return r > '~' }):
		return "has letters that DNS carries only in another form"
	case len(s) > 253:
		return "is longer than the 253 characters of a DNS name"
	case name != s && !strings.Contains(name, "."):
		return "would stand for a whole top-level domain"
	}
	for label := range strings.SplitSeq(name, ".") {
		if !labelSyntax.MatchString(label) {
			return "is not a DNS name"
		}
	}
	return ""
}

// repairHost is the host that was probably meant. It may still be wrong.
func repairHost(s string) string {
	if _, rest, ok := strings.Cut(s, "://"); ok {
		s = rest
	}
	s, _, _ = strings.Cut(s, "/")
	s, _, _ = strings.Cut(s, ":")
	s = strings.ToLower(strings.Trim(s, ". "))
	name := strings.TrimPrefix(s, "*.")
	wildcard := name != s
	if strings.HasPrefix(name, "*") {
		wildcard, name = true, strings.TrimLeft(name, "*-.")
	}
	name = strings.ReplaceAll(name, "_", "-")
	if ascii, err := idna.Lookup.ToASCII(name); err == nil {
		name = ascii
	}
	if wildcard {
		return "*." + name
	}
	return name
}

func isAddress(s string) bool {
	if _, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil {
		return true
	}
	_, err := netip.ParseAddrPort(s)
	return err == nil
}

// splitPort takes an address apart and checks its port.
func splitPort(s, example string) (host, message, fix string) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return "", quote(s) + " has no port", "write " + example
	}
	port, err := strconv.ParseUint(s[i+1:], 10, 32)
	if err != nil || port == 0 || port > 65535 {
		return "", fmt.Sprintf("%s has the port %s; ports are 1 to 65535", quote(s), quote(s[i+1:])), "write " + example
	}
	host = s[:i]
	if strings.Contains(host, ":") && !(strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]")) {
		return "", quote(s) + " has an IPv6 address without brackets", fmt.Sprintf("write \"[%s]:%s\"", host, s[i+1:])
	}
	return host, "", ""
}

// checkListen checks where to listen: IP and port, or a port alone.
func checkListen(s string) (message, fix string) {
	const example = `":443" or "10.0.0.1:443"`
	host, message, fix := splitPort(s, example)
	if message != "" || host == "" {
		return message, fix
	}
	if _, err := netip.ParseAddr(strings.Trim(host, "[]")); err != nil {
		return quote(s) + " has no IP address of this machine before its port", "write " + example
	}
	return "", ""
}

// checkPeerAddress checks where a peer can be reached: name or IP, and port.
func checkPeerAddress(s string) (message, fix string) {
	const example = `"nl-1.example.net:7946"`
	if strings.Contains(s, "/") {
		return quote(s) + " is no host and port", "write " + example
	}
	host, message, fix := splitPort(s, example)
	if message != "" {
		return message, fix
	}
	if _, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return "", ""
	}
	if m, _ := checkHost(host); m != "" || strings.HasPrefix(host, "*") {
		return quote(s) + " has no host name or IP address before its port", "write " + example
	}
	return "", ""
}

// parseEndpoint reads IP:port.
func parseEndpoint(s string) (addr netip.AddrPort, message, fix string) {
	const example = `"10.0.0.5:8080"`
	host, message, fix := splitPort(s, example)
	if message != "" {
		return addr, message, fix
	}
	addr, err := netip.ParseAddrPort(s)
	switch {
	case err != nil && host == "":
		return addr, quote(s) + " has no IP address", "write " + example
	case err != nil:
		return addr, quote(host) + " is not an IP address; where a name points to may change, and with it the region", "write " + example
	case addr.Addr().IsUnspecified() || addr.Addr().IsMulticast():
		return addr, quote(host) + " is not the address of one machine", "write " + example
	case addr.Addr().Zone() != "":
		return addr, quote(s) + " has an IPv6 zone, which means nothing on another machine", "write the address without its zone"
	}
	return addr, "", ""
}
