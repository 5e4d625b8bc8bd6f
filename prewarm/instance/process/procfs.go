package process

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// stat is the part of /proc/PID/stat that identifies a process.
type stat struct {
	pid, parent, group, session int
	state                       byte
	start                       uint64 // clock ticks after boot
	environ                     bool   // has got as far as to have an environment
}

// dead tells whether only the process's exit status is left.
func (s stat) dead() bool { return s.state == 'Z' || s.state == 'X' || s.state == 'x' }

func readStat(pid int) (stat, error) {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return stat{}, err
	}
	return parseStat(string(data))
}

// parseStat reads proc(5)'s fields 1, 3-6, 22 and 50. The second, the name,
// may itself contain blanks and parentheses.
func parseStat(line string) (stat, error) {
	end := strings.LastIndexByte(line, ')')
	open := strings.IndexByte(line, '(')
	if open < 0 || end < open {
		return stat{}, fmt.Errorf("unexpected /proc/PID/stat %q", line)
	}
	field := strings.Fields(line[end+1:]) // field[0] is number 3
	if len(field) < 20 || len(field[0]) != 1 {
		return stat{}, fmt.Errorf("unexpected /proc/PID/stat %q", line)
	}
	s := stat{state: field[0][0], environ: len(field) <= 47 || field[47] != "0"}
	for i, to := range []*int{&s.pid, &s.parent, &s.group, &s.session} {
		text := strings.TrimSpace(line[:open])
		if i > 0 {
			text = field[i]
		}
		n, err := strconv.Atoi(text)
		if err != nil {
			return stat{}, fmt.Errorf("unexpected /proc/PID/stat %q: %w", line, err)
		}
		*to = n
	}
	var err error
	if s.start, err = strconv.ParseUint(field[19], 10, 64); err != nil {
		return stat{}, fmt.Errorf("unexpected /proc/PID/stat %q: %w", line, err)
	}
	return s, nil
}

// processes reads the stat of every process that keep wants.
func processes(keep func(stat) bool) ([]stat, error) {
	proc, err := os.Open("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	defer proc.Close()
	names, err := proc.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var found []stat
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		s, err := readStat(pid)
		if err != nil {
			continue // ended meanwhile
		}
		if keep(s) {
			found = append(found, s)
		}
	}
	return found, nil
}

// carries tells whether the process bears the mark of record r: its key in
// the environment or, as programs may overwrite that, its log file as output.
func carries(pid int, r Record) bool {
	dir := "/proc/" + strconv.Itoa(pid)
	environ, err := os.ReadFile(dir + "/environ")
	if err == nil {
		for entry := range bytes.SplitSeq(environ, []byte{0}) {
			if string(entry) == EnvKey+"="+r.Key {
				return true
			}
		}
	}
	log, err := os.Stat(r.LogFile)
	if err != nil {
		return false
	}
	for _, fd := range []string{"1", "2"} {
		if out, err := os.Stat(dir + "/fd/" + fd); err == nil && os.SameFile(out, log) {
			return true
		}
	}
	return false
}

// machine names this boot and this PID namespace; a PID means something only
// together with both.
func machine() (boot, namespace string, err error) {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", "", fmt.Errorf("identify this boot (is /proc mounted?): %w", err)
	}
	namespace, err = os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return "", "", fmt.Errorf("identify the PID namespace (is /proc mounted?): %w", err)
	}
	return strings.TrimSpace(string(id)), namespace, nil
}

// ticks is the present instant in the unit and on the scale of stat.start
// (proc(5): USER_HZ, which is 100 on every Linux architecture we build for).
func ticks() (uint64, error) {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		return 0, fmt.Errorf("read the boot clock: %w", err)
	}
	return uint64(now.Nano()) / 10_000_000, nil
}

func isGone(err error) bool {
	return errors.Is(err, syscall.ESRCH) || errors.Is(err, fs.ErrNotExist)
}
