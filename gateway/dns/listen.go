package dns

import (
	"net"
	"net/netip"
	"sync"
	"time"
)

const (
	// mostStreams bounds the connections, and mostOfOne those of one network.
	mostStreams, mostOfOne = 512, 32
	// streamIdle is how long a connection may wait for its next query, and
	// mostQueries how many it may bring.
	streamIdle  = 5 * time.Second
	streamIO    = 3 * time.Second
	mostQueries = 1000
)

// doorman accepts only as many connections as may be open, and closes others at once.
type doorman struct {
	net.Listener
	refused func()

	mu   sync.Mutex
	open map[netip.Prefix]int // no zero counts
	all  int
}

func newDoorman(l net.Listener, refused func()) *doorman {
	return &doorman{Listener: l, refused: refused, open: map[netip.Prefix]int{}}
}

func (d *doorman) Accept() (net.Conn, error) {
	for {
		conn, err := d.Listener.Accept()
		if err != nil {
			return nil, err
		}
		from := network(sourceOf(conn.RemoteAddr()))
		if d.enter(from) {
			return &guest{Conn: conn, leave: sync.OnceFunc(func() { d.exit(from) })}, nil
		}
		conn.Close()
		d.refused()
	}
}

func (d *doorman) enter(from netip.Prefix) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.all >= mostStreams || d.open[from] >= mostOfOne {
		return false
	}
	d.all++
	d.open[from]++
	return true
}

func (d *doorman) exit(from netip.Prefix) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.all--
	if d.open[from]--; d.open[from] == 0 {
		delete(d.open, from)
	}
}

// guest is a connection that is counted while it is open.
type guest struct {
	net.Conn
	leave func()
}

func (g *guest) Close() error {
	defer g.leave()
	return g.Conn.Close()
}
