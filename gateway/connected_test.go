package gateway

import (
	"net"
	"net/netip"
	"strings"
	"testing"
)

// TestConnectedTo counts a listener's connections while there are none, two, and one
// that its caller has closed, over both kinds of addresses.
func TestConnectedTo(t *testing.T) {
	for _, at := range []string{"127.0.0.1:0", "[::]:0"} {
		listener, err := net.Listen("tcp", at)
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		port := netip.MustParseAddrPort(listener.Addr().String()).Port()
		address := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port)
		want := func(n int) {
			t.Helper()
			if got, err := connectedTo([]netip.AddrPort{address}); err != nil || got != n {
				t.Errorf("%s: %d connections, %v; want %d", at, got, err, n)
			}
		}
		want(0)
		var callers []net.Conn
		for range 2 {
			conn, err := net.Dial("tcp", address.String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			inside, err := listener.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer inside.Close()
			callers = append(callers, conn)
		}
		want(2)
		callers[0].Close() // on loopback, the other end hears it before this returns
		want(1)
	}
}

// TestConnectionsTable holds what is taken for a fault of the table: never for nobody.
func TestConnectionsTable(t *testing.T) {
	for _, line := range []string{"0: 0100007F:1F90", "0: 0100007F 0100007F:1 01 0", "0: 7F:1F90 0100007F:1 01 0", "0: 0100007F:1F901 0100007F:1 01 0"} {
		if n, err := countConnections(strings.NewReader("heading\n"+line+"\n"), nil); err == nil {
			t.Errorf("%q: %d and no error", line, n)
		}
	}
}
