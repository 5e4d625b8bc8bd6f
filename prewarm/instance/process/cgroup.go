package process

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Limits bounds what a process and all its descendants may use together. They
// need cgroups (v2, or v1 where a controller is not in v2) that we may write;
// where that is not given the process runs unlimited and Record.Unlimited says
// why.
type Limits struct {
	Memory int64 // bytes; 0 means none
	PIDs   int   // processes and threads; 0 means none
}

// limit is one controller's part of Limits.
type limit struct {
	controller    string
	unified, v1   string // file that takes the value
	value         string
	unifiedExtras [][2]string // more files and values, set where they exist
}

func (l Limits) list() []limit {
	var all []limit
	if l.Memory > 0 {
		all = append(all, limit{
			controller: "memory", unified: "memory.max", v1: "memory.limit_in_bytes",
			value:         strconv.FormatInt(l.Memory, 10),
			unifiedExtras: [][2]string{{"memory.oom.group", "1"}}, // half an instance is none
		})
	}
	if l.PIDs > 0 {
		all = append(all, limit{controller: "pids", unified: "pids.max", v1: "pids.max", value: strconv.Itoa(l.PIDs)})
	}
	return all
}

// cgroup is a directory made for one process. In v2 there is one for all
// controllers, in v1 one in each controller's hierarchy.
type cgroup struct {
	dir  string
	home string // v1: our own cgroup in that hierarchy; "" in v2
}

// makeCgroups makes what the limits need. What cannot be had is told in
// unlimited; it is no error.
func makeCgroups(key string, limits Limits) (made []cgroup, unlimited string) {
	if limits == (Limits{}) {
		return nil, ""
	}
	where, err := ownCgroups()
	if err != nil {
		return nil, err.Error()
	}
	return where.makeCgroups(key, limits)
}

// Unlimited tells why a process that is started now would run without these
// limits; "" when it would not. It tries, and leaves nothing behind.
func Unlimited(l Limits) string {
	key := rand.Text()
	made, why := makeCgroups(key, l)
	if err := removeCgroups(dirs(made)); err != nil {
		why = strings.Join(append(strings.Fields(why), err.Error()), " ")
	}
	return strings.ReplaceAll(why, key, "…")
}

func (w whereabouts) makeCgroups(key string, limits Limits) (made []cgroup, unlimited string) {
	var reasons []string
	for _, l := range limits.list() {
		g, file, err := w.forLimit(l, "polder-"+key)
		if err == nil {
			if err = writeFile(g.dir, file, l.value); err != nil && !slices.Contains(made, g) {
				_ = os.Remove(g.dir)
			}
		}
		if err != nil {
			reasons = append(reasons, fmt.Sprintf("no limit of %s: %v", l.controller, err))
			continue
		}
		if g.home == "" {
			for _, extra := range l.unifiedExtras {
				_ = writeFile(g.dir, extra[0], extra[1])
			}
		}
		if !slices.Contains(made, g) {
			made = append(made, g)
		}
	}
	return made, strings.Join(reasons, "; ")
}

func (w whereabouts) forLimit(l limit, name string) (g cgroup, file string, err error) {
	if w.unified != "" {
		if have, _ := readWords(w.unified, "cgroup.controllers"); slices.Contains(have, l.controller) {
			dir, err := delegate(w.unified, l.controller)
			if err != nil {
				return cgroup{}, "", err
			}
			g = cgroup{dir: filepath.Join(dir, name)}
			return g, l.unified, makeDir(g.dir)
		}
	}
	home, ok := w.v1[l.controller]
	if !ok {
		return cgroup{}, "", errors.New("this machine has no such cgroup controller for us")
	}
	g = cgroup{dir: filepath.Join(home, name), home: home}
	return g, l.v1, makeDir(g.dir)
}

// selfLeaf is the cgroup that we ourselves move to, because in v2 a cgroup
// with processes cannot hand controllers to its children.
const selfLeaf = "polder.self"

// delegate returns the cgroup below which ours may be limited by the
// controller. own is the one we are in; the manager of the machine must have
// delegated it to us alone. For systemd that is Delegate=yes and, so that a
// restart finds its place beside running instances, DelegateSubgroup=polder.self
// and KillMode=process.
func delegate(own, controller string) (string, error) {
	dir := own
	if filepath.Base(own) == selfLeaf {
		dir = filepath.Dir(own)
	}
	if given, err := readWords(dir, "cgroup.subtree_control"); err != nil || slices.Contains(given, controller) {
		return dir, err
	}
	if dir == own && !isRoot(own) {
		leaf := filepath.Join(own, selfLeaf)
		if err := makeDir(leaf); err != nil {
			return "", err
		}
		if err := writeFile(leaf, "cgroup.procs", strconv.Itoa(os.Getpid())); err != nil {
			_ = os.Remove(leaf)
			return "", err
		}
		own = leaf
	}
	err := writeFile(dir, "cgroup.subtree_control", "+"+controller)
	if err == nil {
		return dir, nil
	}
	if own != dir && writeFile(dir, "cgroup.procs", strconv.Itoa(os.Getpid())) == nil {
		_ = os.Remove(own)
	}
	return "", fmt.Errorf("cgroup %s is not ours alone (systemd: Delegate=yes): %w", dir, err)
}

// isRoot tells whether dir is the root of the v2 hierarchy, which alone has no
// cgroup.type and may keep its processes.
func isRoot(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "cgroup.type"))
	return errors.Is(err, fs.ErrNotExist)
}

// startIn calls fork so that the child is born in the cgroups: none of its
// descendants can escape them. In v2 the kernel does it (CLONE_INTO_CGROUP);
// in v1 the forking thread goes there and back, which may take 10 ms.
func startIn(groups []cgroup, attr *syscall.SysProcAttr, fork func() error) error {
	var v1 []cgroup
	for _, g := range groups {
		if g.home != "" {
			v1 = append(v1, g)
			continue
		}
		dir, err := os.Open(g.dir)
		if err != nil {
			return err
		}
		defer dir.Close()
		attr.UseCgroupFD, attr.CgroupFD = true, int(dir.Fd())
	}
	if len(v1) == 0 {
		return fork()
	}
	result := make(chan error, 1)
	go func() { // a thread of its own, which ends with the goroutine if it cannot go back
		runtime.LockOSThread()
		self := strconv.Itoa(unix.Gettid())
		var err error
		for _, g := range v1 {
			err = errors.Join(err, writeFile(g.dir, "tasks", self))
		}
		if err == nil {
			err = fork()
		}
		back := true
		for _, g := range v1 {
			back = writeFile(g.home, "tasks", self) == nil && back
		}
		if back {
			runtime.UnlockOSThread()
		}
		result <- err
	}()
	return <-result
}

func dirs(groups []cgroup) []string {
	var all []string
	for _, g := range groups {
		all = append(all, g.dir)
	}
	return all
}

// outOfMemory tells whether the kernel killed anything there for want of memory.
func outOfMemory(dirs []string) bool {
	for _, dir := range dirs {
		for _, file := range []string{"memory.events", "memory.oom_control"} {
			words, _ := readWords(dir, file)
			if i := slices.Index(words, "oom_kill"); i >= 0 && i+1 < len(words) && words[i+1] != "0" {
				return true
			}
		}
	}
	return false
}

// removeCgroups kills who is left in the cgroups (daemons that went to a
// session of their own) and removes them.
func removeCgroups(dirs []string) error {
	deadline := time.Now().Add(settle)
	tick := time.NewTicker(time.Millisecond) // the kernel has no event for an empty v1 cgroup
	defer tick.Stop()
	var failed error
	for _, dir := range dirs {
		for {
			left, err := readWords(dir, "cgroup.procs")
			if errors.Is(err, fs.ErrNotExist) {
				break
			}
			for _, word := range left {
				if pid, err := strconv.Atoi(word); err == nil {
					killMember(dir, pid)
				}
			}
			err = os.Remove(dir)
			if err == nil || isGone(err) {
				break
			}
			if time.Now().After(deadline) {
				failed = errors.Join(failed, fmt.Errorf("remove cgroup: %w", err))
				break
			}
			<-tick.C
		}
	}
	return failed
}

// killMember kills pid if it is still in the cgroup once it is held by a pidfd.
func killMember(dir string, pid int) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	if now, err := readWords(dir, "cgroup.procs"); err == nil && slices.Contains(now, strconv.Itoa(pid)) {
		_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
	}
}

func makeDir(dir string) error {
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

func writeFile(dir, file, value string) error {
	f, err := os.OpenFile(filepath.Join(dir, file), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}

func readWords(dir, file string) ([]string, error) {
	data, err := os.ReadFile(filepath.Join(dir, file))
	return strings.Fields(string(data)), err
}
