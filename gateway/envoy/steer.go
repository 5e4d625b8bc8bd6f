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
// their sockets: until then we hold them open, because an array that changes is
// not steered.
func steer(ctx context.Context, old []int, successor int) (release func(), err error) {
	var open []*os.File
	release = func() {
		for _, f := range open {
			f.Close()
		}
	}
	hold := func(pid, fd int) error {
		f, err := borrow(pid, fd)
		if err == nil {
			open = append(open, f)
		}
		return err
	}
	var notHeld error // steering without it leaves less than a millisecond
	for _, pid := range old {
		sockets, err := listening(pid)
		if err != nil {
			return release, err
		}
		for _, s := range own(sockets) {
			notHeld = cmp.Or(notHeld, hold(pid, s.fd))
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
		if err := hold(successor, s.fd); err != nil {
			return release, err
		}
		if err := pick(open[len(open)-1], all[s.address]-n, n); err != nil {
			return release, fmt.Errorf("steer connections: %w", err)
		}
	}
	return release, cmp.Or(untilAccepted(ctx, old), notHeld)
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
	filter := make([]unix.SockFilter, len(program))
	for i, in := range program {
		filter[i] = unix.SockFilter{Code: in.Op, Jt: in.Jt, Jf: in.Jf, K: in.K}
	}
	return control(f, func(fd int) error {
		return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_CBPF,
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
