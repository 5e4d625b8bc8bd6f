package local

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/polder/polder"
	"github.com/polder/polder/prewarm/instance/sockets"
)

// Berths are the listening sockets of services whose programs inherit one. A
// berth exists before its service's first instance and outlives each: who
// connects while none runs waits in the kernel's queue, and the bell rings.
//
// One instance at a time stands at a berth; others of the service have sockets
// of their own, so that each can be taken out of service by itself. A socket is
// in blocking mode whenever a program has it.
type Berths struct {
	store *sockets.Store
	ring  func(polder.ServiceName)
	epoll *os.File
	taken chan net.Conn // by Take, for Accept
	done  chan struct{} // closed when nothing is taken any more
	once  sync.Once

	mu     sync.Mutex // guards all below
	berths map[polder.ServiceName]*berth
	names  map[int32]polder.ServiceName // by descriptor, for the epoll
}

type berth struct {
	address netip.AddrPort
	socket  *os.File
	fd      int
	stands  bool    // an instance stands at it
	taking  *taking // nil unless Take
}

// taking is the acceptance of those who wait at a berth without a program.
type taking struct {
	listener net.Listener
	ended    chan struct{}
}

// NewBerths makes no berth yet. Berths that an earlier Polder left are in the
// store. ring is called by Run when somebody waits at a berth that is watched.
func NewBerths(store *sockets.Store, ring func(polder.ServiceName)) (*Berths, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("berths of services: %w", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil { // lets the runtime wait for it
		unix.Close(fd)
		return nil, fmt.Errorf("berths of services: %w", err)
	}
	return &Berths{
		store: store, ring: ring, epoll: os.NewFile(uintptr(fd), "berths"),
		taken: make(chan net.Conn), done: make(chan struct{}),
		berths: map[polder.ServiceName]*berth{}, names: map[int32]polder.ServiceName{},
	}, nil
}

// Run rings until ctx ends, and then closes our descriptors of all berths.
func (d *Berths) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { d.epoll.Close() })
	defer stop()
	defer d.leave()
	raw, err := d.epoll.SyscallConn()
	if err != nil {
		return fmt.Errorf("berths of services: %w", err)
	}
	events := make([]unix.EpollEvent, 64)
	for {
		n := 0
		err := raw.Read(func(fd uintptr) bool {
			n, err = unix.EpollWait(int(fd), events, 0)
			return n > 0 || err != nil && !errors.Is(err, unix.EINTR)
		})
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("berths of services: %w", err)
		}
		for _, e := range events[:max(n, 0)] {
			d.mu.Lock()
			name, ok := d.names[e.Fd]
			d.mu.Unlock()
			if ok {
				d.ring(name)
			}
		}
	}
}

func (d *Berths) leave() {
	d.once.Do(func() { close(d.done) })
	d.mu.Lock()
	defer d.mu.Unlock()
	for name, berth := range d.berths {
		d.stopTaking(berth)
		berth.socket.Close()
		delete(d.berths, name)
	}
}

func storeName(name polder.ServiceName) string { return "berth " + string(name) }

// Open returns the address of a service's berth, and makes it if there is none.
func (d *Berths) Open(name polder.ServiceName) (netip.AddrPort, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if known := d.berths[name]; known != nil {
		return known.address, nil
	}
	socket, err := d.store.Get(storeName(name))
	var address netip.AddrPort
	if err == nil && socket != nil {
		address, err = boundTo(socket)
	}
	if err == nil && socket == nil {
		var p *place
		if p, err = listen(); err == nil {
			address, socket = p.address, p.socket
			err = d.store.Put(storeName(name), socket)
		}
	}
	made := &berth{address: address, socket: socket}
	if err == nil {
		err = control(socket, func(fd int) error {
			made.fd = fd
			return d.change(unix.EPOLL_CTL_ADD, fd, 0)
		})
	}
	if err != nil {
		if socket != nil {
			socket.Close()
		}
		return netip.AddrPort{}, fmt.Errorf("berth of service %s: %w", name, err)
	}
	d.berths[name], d.names[int32(made.fd)] = made, name
	return address, nil
}

func boundTo(socket *os.File) (address netip.AddrPort, err error) {
	err = control(socket, func(fd int) error {
		name, err := unix.Getsockname(fd)
		if err != nil {
			return err
		}
		four, ok := name.(*unix.SockaddrInet4)
		if !ok {
			return fmt.Errorf("a kept socket is bound to %T", name)
		}
		address = netip.AddrPortFrom(netip.AddrFrom4(four.Addr), uint16(four.Port))
		return nil
	})
	return address, err
}

// Close gives up a service's berth. Whoever waits there without an instance is
// reset. An instance that stands there keeps the socket until it ends.
func (d *Berths) Close(name polder.ServiceName) {
	d.mu.Lock()
	defer d.mu.Unlock()
	berth := d.berths[name]
	if berth == nil {
		return
	}
	d.stopTaking(berth)
	delete(d.berths, name)
	delete(d.names, int32(berth.fd))
	berth.socket.Close()
	d.store.Drop(storeName(name))
}

// Watch rings once as soon as somebody waits at a berth, at once if somebody does.
func (d *Berths) Watch(name polder.ServiceName) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	berth := d.berths[name]
	if berth == nil {
		return nil
	}
	if err := d.change(unix.EPOLL_CTL_MOD, berth.fd, unix.EPOLLIN|unix.EPOLLONESHOT); err != nil {
		return fmt.Errorf("watch the berth of service %s: %w", name, err)
	}
	return nil
}

func (d *Berths) change(what, fd int, events uint32) error {
	return control(d.epoll, func(epoll int) error {
		return unix.EpollCtl(epoll, what, fd, &unix.EpollEvent{Events: events, Fd: int32(fd)})
	})
}

// Waiting counts the connections in a berth's queue.
func (d *Berths) Waiting(name polder.ServiceName) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	berth := d.berths[name]
	if berth == nil {
		return 0
	}
	n, err := queued(berth.socket)
	if err != nil {
		return 0 // the bell still rings
	}
	return int(n)
}

// Take accepts whoever waits at a berth where no instance stands, until one
// does: see Callers. It does nothing at a berth where one stands.
func (d *Berths) Take(name polder.ServiceName) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	berth := d.berths[name]
	if berth == nil || berth.stands || berth.taking != nil {
		return nil
	}
	listener, err := net.FileListener(berth.socket) // sets the socket's mode
	if err != nil {
		return fmt.Errorf("take callers in at the berth of service %s: %w", name, err)
	}
	t := &taking{listener: listener, ended: make(chan struct{})}
	berth.taking = t
	go func() {
		defer close(t.ended)
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			select {
			case d.taken <- c:
			case <-d.done:
				c.Close()
				return
			}
		}
	}()
	return nil
}

// stopTaking gives the berth back to programs. The caller holds mu.
func (d *Berths) stopTaking(berth *berth) {
	if berth.taking == nil {
		return
	}
	berth.taking.listener.Close()
	<-berth.taking.ended
	berth.taking = nil
	_ = control(berth.socket, func(fd int) error { return unix.SetNonblock(fd, false) })
}

// Callers is a listener that accepts whom Take has taken in, at any berth.
// Closing it ends Take for good.
func (d *Berths) Callers() net.Listener { return callers{d} }

type callers struct{ berths *Berths }

func (c callers) Accept() (net.Conn, error) {
	select {
	case conn := <-c.berths.taken:
		return conn, nil
	case <-c.berths.done:
		return nil, net.ErrClosed
	}
}

func (c callers) Close() error {
	c.berths.once.Do(func() { close(c.berths.done) })
	return nil
}

func (c callers) Addr() net.Addr { return &net.TCPAddr{IP: loopback.AsSlice()} }

// step places an instance at its service's berth, if there is one and nobody
// stands there. The socket is the caller's to close.
func (d *Berths) step(name polder.ServiceName) (*place, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	berth := d.berths[name]
	if berth == nil || berth.stands {
		return nil, nil
	}
	d.stopTaking(berth)
	var copied int
	err := control(berth.socket, func(fd int) (err error) {
		copied, err = unix.FcntlInt(uintptr(fd), syscall.F_DUPFD_CLOEXEC, 0)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("berth of service %s: %w", name, err)
	}
	berth.stands = true
	return &place{address: berth.address, socket: os.NewFile(uintptr(copied), "listening socket")}, nil
}

// stand notes an adopted instance, if it stands at its service's berth.
func (d *Berths) stand(name polder.ServiceName, address netip.AddrPort) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if berth := d.berths[name]; berth != nil && berth.address == address {
		berth.stands = true
	}
}

// away notes the end of an instance that may have stood at the berth.
func (d *Berths) away(name polder.ServiceName, address netip.AddrPort) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if berth := d.berths[name]; berth != nil && berth.address == address {
		berth.stands = false
	}
}

func control(f *os.File, use func(fd int) error) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	err = raw.Control(func(fd uintptr) { inner = use(int(fd)) })
	return errors.Join(err, inner)
}
