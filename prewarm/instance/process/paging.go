package process

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Occupied is the RAM in bytes that would be free without the leader and its group:
// their own memory (anonymous and shared), and the room that what was paged out takes
// in compressed swap. Pages of files do not count, since the kernel drops them when it
// needs room, whoever maps them.
func (p *Process) Occupied() (bytes int64) {
	members, _ := p.members()
	var own, swapped int64
	for _, pid := range append(members, p.record.PID) {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			continue // it has ended
		}
		own += statusBytes(status, "RssAnon") + statusBytes(status, "RssShmem")
		swapped += statusBytes(status, "VmSwap")
	}
	if swapped > 0 {
		own += int64(float64(swapped) * roomInSwap("/proc/swaps", "/sys/block"))
	}
	return own
}

// statusBytes reads one amount from /proc/PID/status; 0 when it is not there.
func statusBytes(status []byte, name string) int64 {
	for line := range strings.Lines(string(status)) {
		if amount, ok := strings.CutPrefix(line, name+":"); ok {
			kib, _ := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(amount), "kB")), 10, 64)
			return kib << 10
		}
	}
	return 0
}

// roomInSwap is the share of what was paged out that is still in RAM, compressed: by
// what the machine's zram devices hold and take (the first and third number of their
// mm_stat, Documentation/admin-guide/blockdev/zram.rst), as a mean over all swap in
// use. Swap on a disk takes none. The folder block has the devices' folders.
func roomInSwap(swaps, block string) float64 {
	table, err := os.ReadFile(swaps)
	if err != nil {
		return 0
	}
	var used, takes int64
	for line := range strings.Lines(string(table)) {
		words := strings.Fields(line) // device, type, size, used, priority
		if len(words) < 5 {
			continue
		}
		kib, err := strconv.ParseInt(words[3], 10, 64)
		if err != nil {
			continue // the title
		}
		used += kib << 10
		if stat, err := readWords(filepath.Join(block, filepath.Base(words[0])), "mm_stat"); err == nil && len(stat) > 2 {
			n, _ := strconv.ParseInt(stat[2], 10, 64)
			takes += n
		}
	}
	if used == 0 {
		return 0
	}
	return min(float64(takes)/float64(used), 1)
}

// PageOut asks the kernel to take the memory of a paused group out of RAM: what
// comes from files at once, the rest where there is swap. It does so for the cgroup
// of v2 that limits the group's memory, if there is one, else for each process. It
// returns what the group occupied before and occupies now. Without the right to do so
// (to the cgroup, or CAP_SYS_NICE) it is an error, and nothing has changed.
func (p *Process) PageOut() (before, after int64, err error) {
	before = p.Occupied()
	if slices.ContainsFunc(p.cgroups(), reclaim) {
		return before, p.Occupied(), nil
	}
	members, err := p.members()
	for _, pid := range append(members, p.record.PID) {
		err = errors.Join(err, pageOut(pid))
	}
	if err != nil {
		err = fmt.Errorf("page out %s (pid %d): %w", p.record.Label, p.record.PID, err)
	}
	return before, p.Occupied(), err
}

// reclaim asks the kernel to take all of a cgroup's memory out of RAM, with page
// cache and what the kernel keeps for it, which needs no right beyond that to the
// cgroup (memory.reclaim, since Linux 5.19). It takes what it can, and says so when
// that is not all. False means that there is no such cgroup, or no such file.
func reclaim(dir string) bool {
	current, err := readWords(dir, "memory.current")
	if err != nil || len(current) != 1 {
		return false
	}
	err = writeFile(dir, "memory.reclaim", current[0])
	return err == nil || errors.Is(err, unix.EAGAIN)
}

func pageOut(pid int) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	maps, err := os.Open(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return err
	}
	defer maps.Close()
	rows := bufio.NewScanner(maps)
	for rows.Scan() {
		// START-END permissions offset device inode path
		span, rest, _ := strings.Cut(rows.Text(), " ")
		low, high, ok := strings.Cut(span, "-")
		from, err1 := strconv.ParseUint(low, 16, 64)
		to, err2 := strconv.ParseUint(high, 16, 64)
		if !ok || err1 != nil || err2 != nil || strings.HasPrefix(rest, "---p") || strings.HasSuffix(rest, "[vsyscall]") {
			continue // nothing, or the kernel's own
		}
		one := unix.RemoteIovec{Base: uintptr(from), Len: int(to - from)}
		_, _, errno := unix.Syscall6(unix.SYS_PROCESS_MADVISE, uintptr(fd), uintptr(unsafe.Pointer(&one)), 1, unix.MADV_PAGEOUT, 0, 0)
		if errno != 0 && errno != unix.EINVAL && errno != unix.ENOMEM { // what the kernel keeps there itself, or what is locked
			return fmt.Errorf("process_madvise: %w", errno)
		}
	}
	return rows.Err()
}
