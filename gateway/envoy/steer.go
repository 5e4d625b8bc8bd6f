package envoy

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

const (
	handshake  = time.Second // for handshakes that began before a hand-over, one repetition included
	queuedPoll = 10 * time.Millisecond
)

// socket is a listening TCP socket.
type socket struct {
	fd      int    // in the process that was asked about; -1 for a socket of others
	address string // as /proc shows it, with its family
	queued  uint64 // connections that are not accepted yet
}

// steer makes the kernel give every new connection to the successor, while it
// listens on the same addresses as the old processes, and returns when these
// have accepted all that they were given before. They can then close their
// sockets without a connection in them, which would be reset.
//
// Sockets that share an address (SO_REUSEPORT) are in one array in the order in
// which they came, and any of them can be given a program that picks an index.
// It needs to open the processes' sockets (pidfd_getfd), as a process may that
// could trace them. release ends the steering once the old ones have closed
// their sockets: until then we hold them open, because the array changes with
// every socket that leaves.
func steer(ctx context.Context, old []int, successor int) (release func(), err error) {
	var c crossing
	release = c.end
	for _, pid := range old {
		sockets, err := listening(pid)
		if err != nil {
			return release, err
		}
		for _, s := range own(sockets) {
			c.leave(pid, s)
		}
	}
	sockets, err := listening(successor)
	if err != nil {
		return release, err
	}
	mine, all := map[string]int{}, map[string]int{}
	for _, s := range sockets {
		all[s.address]++
	}
	for _, s := range own(sockets) {
		mine[s.address]++
	}
	for _, s := range own(sockets) {
		n := mine[s.address]
		delete(mine, s.address) // one of its sockets is enough
		if n == 0 || n == all[s.address] {
			continue // done, or nobody else is there
		}
		if err := c.turn(successor, s, all[s.address]-n, n); err != nil {
			return release, err
		}
	}
	err = untilAccepted(ctx, old)
	if err == nil {
		c.close()
	}
	return release, cmp.Or(err, c.notHeld)
}

// crossing is the way of new connections from old sockets to their successors.
type crossing struct {
	old     map[string][]*os.File // by address, held open
	groups  []group
	notHeld error // steering without holding leaves less than a millisecond
}

// group are the sockets that share an address: the old ones first.
type group struct {
	address  string
	socket   *os.File // one of the successor's
	old, new int
}

// leave holds an old socket open.
func (c *crossing) leave(pid int, s socket) {
	f, err := borrow(pid, s.fd)
	if err != nil {
		c.notHeld = cmp.Or(c.notHeld, err)
		return
	}
	if c.old == nil {
		c.old = map[string][]*os.File{}
	}
	c.old[s.address] = append(c.old[s.address], f)
}

// turn gives new connections to the last ones of the sockets with this address.
func (c *crossing) turn(successor int, s socket, old, new int) error {
	f, err := borrow(successor, s.fd)
	if err != nil {
		return err
	}
	c.groups = append(c.groups, group{s.address, f, old, new})
	if err := pick(f, old, new); err != nil {
		return fmt.Errorf("steer connections: %w", err)
	}
	return nil
}

// close makes the old sockets deaf. None is steered to them; one that found
// them all the same, because somebody died in the middle, must be lost on the
// way, so that the caller's kernel tries again, and not be reset.
func (c *crossing) close() {
	for _, g := range c.groups {
		for _, f := range c.old[g.address] {
			if err := deafen(f); err != nil {
				c.notHeld = cmp.Or(c.notHeld, err)
			}
		}
	}
}

// end lets go of the old sockets, and of the steering.
//
// The array closes the gap of a socket that leaves with its last one, and a
// program that picks an index beyond the end is not obeyed: then any socket may
// be chosen, one that is about to be closed as well. The first of the new ones
// keeps its index until the last old one leaves, if there are as many
// new ones as old ones. With fewer workers than before, a handshake that begins
// in this moment is lost on the way, see close, and repeated a second later.
func (c *crossing) end() {
	for _, g := range c.groups {
		if err := pick(g.socket, g.old, 1); err != nil {
			c.notHeld = cmp.Or(c.notHeld, err)
		}
	}
	for _, files := range c.old {
		for _, f := range files {
			f.Close()
		}
	}
	for _, g := range c.groups {
		if err := control(g.socket, unpick); err != nil {
			c.notHeld = cmp.Or(c.notHeld, err)
		}
		g.socket.Close()
	}
	c.old, c.groups = nil, nil
}

// own are the sockets of the process that was asked about.
func own(sockets []socket) []socket {
	return slices.DeleteFunc(slices.Clone(sockets), func(s socket) bool { return s.fd < 0 })
}

// pick attaches a program to the sockets that share an address: it skips the
// first ones, and chooses among the others by chance.
func pick(f *os.File, first, others int) error {
	program, err := bpf.Assemble([]bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtRand},
		bpf.ALUOpConstant{Op: bpf.ALUOpMod, Val: uint32(others)},
		bpf.ALUOpConstant{Op: bpf.ALUOpAdd, Val: uint32(first)},
		bpf.RetA{},
	})
	if err != nil {
		return err
	}
	return attach(f, unix.SO_ATTACH_REUSEPORT_CBPF, program)
}

// unpick removes the program again.
func unpick(fd int) error {
	return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DETACH_REUSEPORT_BPF, 0)
}

// deafen makes a socket ignore what arrives.
func deafen(f *os.File) error {
	program, err := bpf.Assemble([]bpf.Instruction{bpf.RetConstant{Val: 0}})
	if err != nil {
		return err
	}
	return attach(f, unix.SO_ATTACH_FILTER, program)
}

func attach(f *os.File, option int, program []bpf.RawInstruction) error {
	filter := make([]unix.SockFilter, len(program))
	for i, in := range program {
		filter[i] = unix.SockFilter{Code: in.Op, Jt: in.Jt, Jf: in.Jf, K: in.K}
	}
	return control(f, func(fd int) error {
		return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, option,
			&unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]})
	})
}

// untilAccepted waits until the processes have accepted every connection whose
// handshake began before now.
func untilAccepted(ctx context.Context, old []int) error {
	wait(ctx, handshake)
	ticker := time.NewTicker(queuedPoll)
	defer ticker.Stop()
	for {
		queued := uint64(0)
		for _, pid := range old {
			sockets, err := listening(pid)
			if err != nil {
				return err
			}
			for _, s := range own(sockets) {
				queued += s.queued
			}
		}
		if queued == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d connections are not accepted", queued)
		case <-ticker.C:
		}
	}
}

// listening lists the listening TCP sockets of the process's network.
func listening(pid int) ([]socket, error) {
	inodes, err := openSockets(pid)
	if err != nil {
		return nil, err
	}
	var sockets []socket
	for _, family := range []string{"tcp", "tcp6"} {
		table, err := os.Open(fmt.Sprintf("/proc/%d/net/%s", pid, family))
		if errors.Is(err, fs.ErrNotExist) && family == "tcp6" {
			continue // a kernel without IPv6
		}
		if err != nil {
			return nil, err
		}
		rows := bufio.NewScanner(table)
		rows.Scan() // the titles
		for rows.Scan() {
			// sl local_address rem_address st tx_queue:rx_queue tr:tm->when retrnsmt uid timeout inode …
			fields := strings.Fields(rows.Text())
			if len(fields) < 10 || fields[3] != "0A" {
				break // listening sockets come first
			}
			fd, ok := inodes[fields[9]]
			if !ok {
				fd = -1
			}
			_, queue, _ := strings.Cut(fields[4], ":")
			queued, err := strconv.ParseUint(queue, 16, 64)
			if err != nil {
				table.Close()
				return nil, fmt.Errorf("%s: %w", table.Name(), err)
			}
			sockets = append(sockets, socket{fd: fd, address: family + " " + fields[1], queued: queued})
		}
		err = rows.Err()
		table.Close()
		if err != nil {
			return nil, err
		}
	}
	return sockets, nil
}

// openSockets lists the process's sockets: inode → file descriptor.
func openSockets(pid int) (map[string]int, error) {
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	inodes := map[string]int{}
	for _, entry := range entries {
		link, err := os.Readlink(filepath.Join(dir, entry.Name()))
		if err != nil {
			continue // closed meanwhile
		}
		inode, ok := strings.CutPrefix(link, "socket:[")
		if fd, err := strconv.Atoi(entry.Name()); ok && err == nil {
			inodes[strings.TrimSuffix(inode, "]")] = fd
		}
	}
	return inodes, nil
}

// borrow opens another process's file once more.
func borrow(pid, fd int) (*os.File, error) {
	process, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil, fmt.Errorf("pidfd_open of pid %d: %w", pid, err)
	}
	defer unix.Close(process)
	copied, err := unix.PidfdGetfd(process, fd, 0) // close-on-exec
	if err != nil {
		return nil, fmt.Errorf("pidfd_getfd of pid %d (needs Linux 5.6 and the right to trace it): %w", pid, err)
	}
	return os.NewFile(uintptr(copied), fmt.Sprintf("socket %d of pid %d", fd, pid)), nil
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
