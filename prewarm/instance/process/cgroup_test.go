package process

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestLocateCgroups(t *testing.T) {
	for name, c := range map[string]struct {
		mounts, own string
		unified     string
		memory      string
	}{
		"v2": {
			mounts:  "30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n",
			own:     "0::/system.slice/polder.service\n",
			unified: "/sys/fs/cgroup/system.slice/polder.service",
		},
		"both, memory in v1": {
			mounts: "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n" +
				"36 31 0:33 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n" +
				"41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
			own:     "4:memory:/jobs/7\n1:cpu,cpuacct:/\n9:name=systemd:/\n0::/\n",
			unified: "/sys/fs/cgroup/unified",
			memory:  "/sys/fs/cgroup/memory/jobs/7",
		},
		"container that sees its own part only": {
			mounts: "35 31 0:32 /docker/ab /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n",
			own:    "4:memory:/docker/ab\n",
			memory: "/sys/fs/cgroup/memory",
		},
		"container whose cgroup is out of sight": {
			mounts: "35 31 0:32 /docker/ab /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n" +
				"41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
			own: "4:memory:/docker/abc\n0::/../outside\n",
		},
		"blank in the mount point": {
			mounts:  `30 24 0:26 / /my\040cgroups rw - cgroup2 cgroup2 rw` + "\n",
			own:     "0::/\n",
			unified: "/my cgroups",
		},
		"none": {mounts: "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n", own: "0::/\n"},
	} {
		w := locate(c.mounts, c.own)
		if w.unified != c.unified || w.v1["memory"] != c.memory {
			t.Errorf("%s: %+v", name, w)
		}
	}
}

// limited starts s with limits. Where the machine does not let us, it checks
// that the process says so, and returns false.
func limited(t *testing.T, s Spec) (*Process, bool) {
	t.Helper()
	p := begin(t, s)
	r := p.Record()
	if r.Unlimited == "" && len(r.Cgroups) > 0 {
		return p, true
	}
	t.Logf("cgroups are not ours to write here: %s", r.Unlimited)
	if r.Unlimited == "" {
		t.Error("neither limited nor a reason")
	}
	return p, false
}

func noCgroups(t *testing.T, p *Process) {
	t.Helper()
	for _, dir := range p.Record().Cgroups {
		if _, err := os.Stat(dir); !os.IsNotExist(err) {
			t.Errorf("cgroup left: %s (%v)", dir, err)
		}
	}
}

func TestMemoryLimit(t *testing.T) {
	s := spec(t, "eat")
	s.Limits.Memory = 256 << 20
	p, ok := limited(t, s)
	finished(t, p)
	if got := p.Exit(); ok && (got.Signal != syscall.SIGKILL || !got.Memory || !strings.Contains(got.String(), "memory limit")) {
		t.Errorf("exit = %v", got)
	}
	noCgroups(t, p)
}

func TestPIDLimitHoldsFromTheFirstInstruction(t *testing.T) {
	s := spec(t)
	s.Path, s.Args = "/bin/sh", []string{"-c", "for i in 1 2 3 4 5 6 7 8 9; do sleep 1000 & done; echo started"}
	s.Limits.PIDs = 5
	p, ok := limited(t, s)
	finished(t, p)
	log, _ := os.ReadFile(s.LogFile)
	if ok && !strings.Contains(strings.ToLower(string(log)), "fork") {
		t.Errorf("no failed fork: %v\n%s", p.Exit(), log)
	}
	noCgroups(t, p)
}

func TestNobodyEscapesTheCgroup(t *testing.T) {
	s := spec(t, "escape")
	s.Limits.PIDs = 1000
	p, ok := limited(t, s)
	child := childOf(t, s)
	if err := p.Stop(t.Context(), time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if !ok {
		_ = syscall.Kill(child, syscall.SIGKILL)
	}
	died(t, child)
	noCgroups(t, p)
}

func TestAdoptedProcessKeepsItsCgroup(t *testing.T) {
	s := spec(t, "serve")
	s.Limits = Limits{Memory: 1 << 30, PIDs: 1000}
	p, ok := limited(t, s)
	line(t, s, "serving")
	p.Release()
	again, err := Adopt(s.RecordFile)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(again.Record().Cgroups, p.Record().Cgroups) || (ok && len(p.Record().Cgroups) == 0) {
		t.Errorf("cgroups %v, then %v", p.Record().Cgroups, again.Record().Cgroups)
	}
	if err := again.Stop(t.Context(), patience); err != nil {
		t.Fatal(err)
	}
	noCgroups(t, again)
}

func TestLimitsThatCannotBeSet(t *testing.T) {
	empty := t.TempDir()
	for name, w := range map[string]whereabouts{
		"no controller":           {},
		"v1 folder without files": {v1: map[string]string{"memory": empty, "pids": empty}},
		"v2 folder without files": {unified: empty},
	} {
		made, unlimited := w.makeCgroups("key", Limits{Memory: 1, PIDs: 1})
		if len(made) > 0 || !strings.Contains(unlimited, "no limit of memory") || !strings.Contains(unlimited, "no limit of pids") {
			t.Errorf("%s: %v, %q", name, made, unlimited)
		}
	}
	if left, err := os.ReadDir(empty); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if made, unlimited := makeCgroups("key", Limits{}); len(made) > 0 || unlimited != "" {
		t.Errorf("no limits: %v, %q", made, unlimited)
	}
}

// In a v2 cgroup that is delegated to us alone we step aside into a leaf; in
// one that has other processes too we leave everything as it was.
func TestDelegatedCgroup(t *testing.T) {
	where, err := ownCgroups()
	if err != nil {
		t.Fatal(err)
	}
	own := filepath.Join(where.unified, "polder-test-"+t.Name())
	controllers, _ := readWords(where.unified, "cgroup.controllers")
	if where.unified == "" || len(controllers) == 0 || !isRoot(where.unified) || os.Mkdir(own, 0o755) != nil {
		dir, err := delegate(where.unified, "no-such-controller")
		t.Logf("no v2 cgroup of ours to test in: %q, %v", dir, err)
		if err == nil {
			t.Error("delegated what does not exist")
		}
		return
	}
	given, _ := readWords(where.unified, "cgroup.subtree_control")
	controller := controllers[0]
	if err := writeFile(where.unified, "cgroup.subtree_control", "+"+controller); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := removeCgroups([]string{filepath.Join(own, selfLeaf), own}); err != nil {
			t.Error(err)
		}
		if !slices.Contains(given, controller) {
			_ = writeFile(where.unified, "cgroup.subtree_control", "-"+controller)
		}
	})
	ask := func(from string) []string {
		t.Helper()
		dir, err := os.Open(from)
		if err != nil {
			t.Fatal(err)
		}
		defer dir.Close()
		helper := exec.Command(os.Args[0], "sample", "delegate", from, controller)
		helper.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
		out, err := helper.Output()
		if err != nil {
			t.Fatal(err)
		}
		return strings.SplitN(strings.TrimSpace(string(out)), " ", 3)
	}

	other := spec(t, "serve")
	dirFD, err := os.Open(own)
	if err != nil {
		t.Fatal(err)
	}
	stranger := exec.Command(other.Path, other.Args...)
	stranger.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dirFD.Fd())}
	if err := stranger.Start(); err != nil {
		t.Fatal(err)
	}
	dirFD.Close()
	t.Logf("shared: %v", ask(own))
	if words, _ := readWords(own, "cgroup.subtree_control"); len(words) > 0 {
		t.Errorf("controllers %v although others are in the cgroup", words)
	}
	if _, err := os.Stat(filepath.Join(own, selfLeaf)); !os.IsNotExist(err) {
		t.Errorf("leaf left: %v", err)
	}
	_ = stranger.Process.Kill()
	_ = stranger.Wait()

	leaf := filepath.Join(own, selfLeaf)
	want := []string{own, "<nil>", leaf}
	if got := ask(own); !slices.Equal(got, want) {
		t.Errorf("alone: %q, want %q", got, want)
	}
	if words, _ := readWords(own, "cgroup.subtree_control"); !slices.Contains(words, controller) {
		t.Errorf("controllers %v", words)
	}
	if got := ask(leaf); !slices.Equal(got, want) { // a later start, put there by systemd (DelegateSubgroup=)
		t.Errorf("from the leaf: %q, want %q", got, want)
	}
}
