package gateway

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
)

// established is a TCP connection's state in the kernel's table in which both ends
// may still send.
const established = "01"

// connectedTo counts the connections that listeners at these addresses of this machine
// have, whoever is at the other end. It reads the kernel's tables, and returns what is
// wrong with them.
func connectedTo(addresses []netip.AddrPort) (n int, err error) {
	for _, path := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		table, err := os.Open(path)
		if errors.Is(err, fs.ErrNotExist) && strings.HasSuffix(path, "6") {
			continue // a kernel without IPv6
		}
		if err != nil {
			return 0, fmt.Errorf("the kernel's connections: %w", err)
		}
		here, err := countConnections(table, addresses)
		table.Close()
		if err != nil {
			return 0, fmt.Errorf("the kernel's connections in %s: %w", path, err)
		}
		n += here
	}
	return n, nil
}

// countConnections counts the established connections in one such table whose local
// end is one of the addresses.
func countConnections(table io.Reader, addresses []netip.AddrPort) (n int, err error) {
	lines := bufio.NewScanner(table)
	lines.Scan() // the heading
	for lines.Scan() {
		// The number, the local end, the remote end, the state, and more.
		fields := bytes.Fields(lines.Bytes())
		if len(fields) < 4 {
			return 0, fmt.Errorf("%q is no connection", lines.Text())
		}
		if string(fields[3]) != established {
			continue
		}
		local, err := parseKernelAddress(string(fields[1]))
		if err != nil {
			return 0, err
		}
		if slices.Contains(addresses, local) {
			n++
		}
	}
	return n, lines.Err()
}

// parseKernelAddress reads an address as the kernel writes it: in hexadecimal, by
// words of 32 bits in the machine's own order, and the port after a colon.
func parseKernelAddress(text string) (netip.AddrPort, error) {
	words, number, _ := strings.Cut(text, ":")
	raw, err := hex.DecodeString(words)
	port, errPort := strconv.ParseUint(number, 16, 16)
	if err != nil || errPort != nil || len(raw) != 4 && len(raw) != 16 {
		return netip.AddrPort{}, fmt.Errorf("%q is no address", text)
	}
	for at := 0; at < len(raw); at += 4 {
		binary.NativeEndian.PutUint32(raw[at:], binary.BigEndian.Uint32(raw[at:]))
	}
	address, _ := netip.AddrFromSlice(raw)
	return netip.AddrPortFrom(address.Unmap(), uint16(port)), nil
}
