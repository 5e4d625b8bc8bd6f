package process

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// patience bounds every wait of these tests; none is expected to take long.
const patience = 30 * time.Second

// The test binary is also the programs that the tests start: see sample.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "sample" {
		sample(os.Args[2], os.Args[3:])
		return
	}
	goleak.VerifyTestMain(m)
}

// sample is what a started program does:
//
//	exit CODE     say hello on stdout and stderr and exit
//	serve         say "serving" and, on SIGTERM, "bye" and exit
//	stubborn      ignore SIGTERM, start a child that does too, say its PID
//	orphan        start such a child, say its PID, exit
//	cat           copy file descriptor 3 to stdout
//	hide          run "serve" with an empty environment in this process
//	eat           use 1 GiB of memory
//	fat           as serve, with 32 MiB of memory of its own
//	compute       use a processor
//	escape        start a "serve" in a session of its own, say its PID, wait
//	delegate DIR CONTROLLER
//	              say what delegate says
//	own SPEC WHEN start SPEC as its owner; die by SIGKILL between fork and
//	              record (WHEN is "forked"), or say "owning" and wait
func sample(what string, args []string) {
	stop := make(chan os.Signal, 1)
	switch what {
	case "exit":
		fmt.Println("hello out")
		fmt.Fprintln(os.Stderr, "hello err")
		os.Exit(int(args[0][0] - '0'))
	case "serve", "fat":
		if what == "fat" {
			ballast, err := unix.Mmap(-1, 0, 32<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
			must(err)
			for page := range slices.Chunk(ballast, os.Getpagesize()) {
				page[0] = 1
			}
		}
		signal.Notify(stop, syscall.SIGTERM)
		fmt.Println("serving")
		<-stop
		fmt.Println("bye")
	case "stubborn", "orphan":
		signal.Ignore(syscall.SIGTERM)
		if len(args) > 0 { // the child
			fmt.Println("child", os.Getpid())
			forever()
		}
		child := exec.Command(os.Args[0], "sample", "stubborn", "child")
		child.Stdout = os.Stdout
		must(child.Start())
		if what == "stubborn" {
			forever()
		}
		_ = TailUntil("/proc/self/fd/1", "child")
	case "cat":
		data := make([]byte, 100)
		n, err := os.NewFile(3, "three").Read(data)
		must(err)
		fmt.Printf("%s%s\n", data[:n], os.Getenv("GREETING"))
	case "hide":
		must(syscall.Exec("/proc/self/exe", []string{os.Args[0], "sample", "serve"}, nil))
	case "compute":
		for n := 0; ; n++ {
			if n < 0 {
				fmt.Println(n)
			}
		}
	case "eat":
		data := make([]byte, 1<<30)
		for i := 0; i < len(data); i += 4096 {
			data[i] = 1
		}
		fmt.Println("ate", data[len(data)/2])
	case "escape":
		child := exec.Command(os.Args[0], "sample", "serve")
		child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		must(child.Start())
		fmt.Println("child", child.Process.Pid)
		forever()
	case "delegate":
		dir, err := delegate(args[0], args[1])
		where, _ := ownCgroups()
		fmt.Printf("%s %v %s\n", dir, err, where.unified)
	case "own":
		var spec Spec
		must(json.Unmarshal([]byte(args[0]), &spec))
		_, err := start(spec, func(*Process) {
			if args[1] == "forked" {
				must(syscall.Kill(os.Getpid(), syscall.SIGKILL))
				forever()
			}
		})
		must(err)
		fmt.Println("owning")
		forever()
	}
}

func must(err error) {
	if err != nil {
		fmt.Println(err)
		os.Exit(99)
	}
}

// TailUntil waits until a line of the file begins with prefix.
func TailUntil(file, prefix string) string {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if target, err := os.Readlink(file); err == nil {
		file = target
	}
	var found string
	_ = Tail(ctx, file, func(line []byte) {
		if found == "" && strings.HasPrefix(string(line), prefix) {
			found = string(line)
			cancel()
		}
	})
	return found
}

// spec is a sample program in a folder of its own.
func spec(t *testing.T, what ...string) Spec {
	t.Helper()
	dir := t.TempDir()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return Spec{
		Path: exe, Args: append([]string{"sample"}, what...), Dir: dir,
		Env:     []string{"GORACE=atexit_sleep_ms=0"},
		LogFile: filepath.Join(dir, "log"), RecordFile: filepath.Join(dir, "record.json"), Label: t.Name(),
	}
}

func begin(t *testing.T, s Spec) *Process {
	t.Helper()
	p, err := Start(s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Stop(t.Context(), 0) })
	return p
}

// line waits for the process to write a line that begins with prefix.
func line(t *testing.T, s Spec, prefix string) string {
	t.Helper()
	found := TailUntil(s.LogFile, prefix)
	if found == "" {
		log, _ := os.ReadFile(s.LogFile)
		t.Fatalf("no line %q in the log:\n%s", prefix, log)
	}
	return found
}

func finished(t *testing.T, p *Process) {
	t.Helper()
	select {
	case <-p.Done():
	case <-time.After(patience):
		t.Fatalf("pid %d does not end", p.PID())
	}
}

// gone fails the test if the process runs, or is a zombie of ours.
func gone(t *testing.T, pid int) {
	t.Helper()
	st, err := readStat(pid)
	if err == nil && (!st.dead() || st.parent == os.Getpid()) {
		t.Fatalf("pid %d is still there: %+v", pid, st)
	}
}

// died waits for a process that is not our child to end.
func died(t *testing.T, pid int) {
	t.Helper()
	if fd, err := unix.PidfdOpen(pid, 0); err == nil {
		waitFor(fd, unix.POLLIN, patience)
		unix.Close(fd)
	}
	gone(t, pid)
}

func noRecord(t *testing.T, s Spec) {
	t.Helper()
	left, err := filepath.Glob(filepath.Join(filepath.Dir(s.RecordFile), "*record.json*"))
	if err != nil || len(left) > 0 {
		t.Fatalf("records left: %v, %v", left, err)
	}
}

// forever waits. A bare select would be a deadlock to Go's runtime, unless the race
// detector runs.
func forever() { <-time.After(math.MaxInt64) }
