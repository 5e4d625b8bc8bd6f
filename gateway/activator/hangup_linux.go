package activator

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// hangups learns from the kernel which connections their other end has closed,
// without reading from them: an epoll of its own that waits for nothing else,
// itself waited for by the runtime's poller.
type hangups struct {
	epoll *os.File
	raw   syscall.RawConn

	mu    sync.Mutex // guards all below
	last  uint64
	ids   map[net.Conn]uint64
	peers map[uint64]*peer // a number that is never used again, where a file descriptor would be
}

func newHangups() (*hangups, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("creating an epoll to see callers leave: %w", err)
	}
	// Non-blocking is what makes NewFile hand it to the runtime's poller.
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("creating an epoll to see callers leave: %w", err)
	}
	file := os.NewFile(uintptr(fd), "epoll")
	raw, err := file.SyscallConn()
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("creating an epoll to see callers leave: %w", err)
	}
	return &hangups{epoll: file, raw: raw, ids: make(map[net.Conn]uint64), peers: make(map[uint64]*peer)}, nil
}

// watch calls p.left when the connection's other end closes. A connection that
// is no socket is not watched.
func (h *hangups) watch(conn net.Conn, p *peer) error {
	socket, ok := conn.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return err
	}
	h.mu.Lock()
	h.last++
	id := h.last
	h.ids[conn], h.peers[id] = id, p
	h.mu.Unlock()
	// Edge-triggered: said once, and data that waits unread says nothing.
	event := unix.EpollEvent{Events: unix.EPOLLRDHUP | unix.EPOLLET, Fd: int32(id), Pad: int32(id >> 32)}
	var inner, failed error
	outer := h.raw.Control(func(epoll uintptr) {
		inner = raw.Control(func(fd uintptr) {
			failed = unix.EpollCtl(int(epoll), unix.EPOLL_CTL_ADD, int(fd), &event)
		})
	})
	if err := errors.Join(outer, inner, failed); err != nil {
		h.forget(conn)
		return err
	}
	return nil
}

// forget ends watching. What the kernel still says of the connection before it
// is closed finds nobody.
func (h *hangups) forget(conn net.Conn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.peers, h.ids[conn])
	delete(h.ids, conn)
}

// run delivers hangups until close.
func (h *hangups) run() {
	events := make([]unix.EpollEvent, 64)
	for {
		n := 0
		err := h.raw.Read(func(epoll uintptr) bool {
			n, _ = unix.EpollWait(int(epoll), events, 0)
			return n > 0 // or the runtime waits until there is something
		})
		if err != nil {
			return // closed
		}
		for _, event := range events[:n] {
			id := uint64(uint32(event.Fd)) | uint64(uint32(event.Pad))<<32
			h.mu.Lock()
			p := h.peers[id]
			h.mu.Unlock()
			if p != nil {
				p.left()
			}
		}
	}
}

func (h *hangups) close() error { return h.epoll.Close() }
