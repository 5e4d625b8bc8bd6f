//go:build linux

package testbed

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// onTheWire bounds the packets that are under way between two ends.
const onTheWire = 4096

// router carries packets between the rooms.
type router struct {
	weather *weather
	ends    map[netip.Addr]end
	ports   map[netip.Addr]*os.File // by the address of who is behind it

	mu    sync.Mutex
	links map[[2]netip.Addr]chan packet
}

type packet struct {
	due  time.Time
	data []byte
}

func newRouter(w *weather) *router {
	return &router{weather: w, ends: map[netip.Addr]end{}, ports: map[netip.Addr]*os.File{}, links: map[[2]netip.Addr]chan packet{}}
}

func (r *router) attach(at netip.Addr, e end, port *os.File) { r.ends[at], r.ports[at] = e, port }

// run carries until ctx ends; the rooms' devices must be closed then.
func (r *router) run(ctx context.Context) error {
	group, inner := errgroup.WithContext(ctx)
	read := map[*os.File]bool{}
	for _, port := range r.ports {
		if !read[port] {
			read[port] = true
			group.Go(func() error { return r.read(inner, group, port) })
		}
	}
	return group.Wait()
}

func (r *router) read(ctx context.Context, group *errgroup.Group, port *os.File) error {
	buffer := make([]byte, mtu+100)
	for {
		n, err := port.Read(buffer)
		if ctx.Err() != nil || err != nil && isClosed(err) {
			return nil
		}
		if err != nil {
			return err
		}
		r.send(ctx, group, buffer[:n])
	}
}

// send puts a packet on its link.
func (r *router) send(ctx context.Context, group *errgroup.Group, data []byte) {
	if len(data) < 20 || data[0]>>4 != 4 {
		return // neighbour discovery of IPv6, which is not there
	}
	from, _ := netip.AddrFromSlice(data[12:16])
	to, _ := netip.AddrFromSlice(data[16:20])
	a, known := r.ends[from]
	b, there := r.ends[to]
	if !known || !there {
		return
	}
	delay, comes := r.weather.carry(a, b)
	if !comes {
		return
	}
	p := packet{time.Now().Add(delay), append([]byte(nil), data...)}
	select {
	case r.link(ctx, group, from, to) <- p:
	default: // as a router does whose queue is full
	}
}

// link is the queue between two ends, in which nothing overtakes.
func (r *router) link(ctx context.Context, group *errgroup.Group, from, to netip.Addr) chan<- packet {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := [2]netip.Addr{from, to}
	queue, ok := r.links[key]
	if !ok {
		queue = make(chan packet, onTheWire)
		r.links[key] = queue
		group.Go(func() error { deliver(ctx, queue, r.ports[to]); return nil })
	}
	return queue
}

// deliver writes packets when they are due, until ctx ends.
func deliver(ctx context.Context, queue <-chan packet, port *os.File) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case p := <-queue:
			timer.Reset(time.Until(p.due))
			select {
			case <-timer.C:
			case <-ctx.Done():
				return
			}
			_, _ = port.Write(p.data) // a full or closed device loses it
		case <-ctx.Done():
			return
		}
	}
}

func isClosed(err error) bool { return errors.Is(err, os.ErrClosed) }
