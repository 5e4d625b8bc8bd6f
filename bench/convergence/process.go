package convergence

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process is one running Envoy.
type process struct {
	command *exec.Cmd
	started time.Time
	admin   *http.Client
	log     string
}

// startEnvoy starts an Envoy that has nothing. stop ends it.
func startEnvoy(binary, dir string, bootstrap []byte, adminSocket string, workers int) (*process, error) {
	file := filepath.Join(dir, "bootstrap.json")
	if err := os.WriteFile(file, bootstrap, 0o600); err != nil {
		return nil, err
	}
	p := &process{log: filepath.Join(dir, "envoy.log"), admin: &http.Client{Timeout: time.Minute, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", adminSocket)
		}}}}
	p.command = exec.Command(binary, "-c", file, "--disable-hot-restart", "--concurrency", strconv.Itoa(workers),
		"-l", "warning", "--log-path", p.log)
	// It ends with us, however we end.
	p.command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	p.started = time.Now()
	if err := p.command.Start(); err != nil {
		return nil, fmt.Errorf("start Envoy: %w", err)
	}
	return p, nil
}

func (p *process) stop() {
	p.admin.CloseIdleConnections()
	p.command.Process.Kill() //nolint:errcheck // it may have ended
	p.command.Wait()         //nolint:errcheck // killed
}

// said is the end of what Envoy logged.
func (p *process) said() string {
	const enough = 2_000
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-enough):])
}

// mainCPU is what Envoy's main thread used so far; allCPU what all of it did.
func (p *process) mainCPU() (time.Duration, error) {
	return threadCPU(p.command.Process.Pid, p.command.Process.Pid)
}

func (p *process) allCPU() (time.Duration, error) {
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", p.command.Process.Pid))
	if err != nil {
		return 0, err
	}
	var sum time.Duration
	for _, e := range entries {
		thread, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		used, err := threadCPU(p.command.Process.Pid, thread)
		if err != nil {
			return 0, err
		}
		sum += used
	}
	return sum, nil
}

// threadCPU reads the first number of schedstat: nanoseconds on a processor.
func threadCPU(pid, thread int) (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/schedstat", pid, thread))
	if err != nil {
		return 0, fmt.Errorf("CPU of Envoy: %w", err)
	}
	first, _, _ := strings.Cut(string(text), " ")
	used, err := strconv.ParseInt(first, 10, 64)
	return time.Duration(used), err
}

// ownCPU is what this process used so far.
func ownCPU() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// resident is Envoy's resident memory in bytes.
func (p *process) resident() (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", p.command.Process.Pid))
	if err != nil {
		return 0, fmt.Errorf("memory of Envoy: %w", err)
	}
	fields := strings.Fields(string(text))
	if len(fields) < 2 {
		return 0, fmt.Errorf("memory of Envoy: %q has no second field", text)
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	return pages * int64(os.Getpagesize()), err
}

// allocated is what Envoy says that it has allocated, in bytes.
func (p *process) allocated(ctx context.Context) (int64, error) {
	text, err := p.ask(ctx, "/memory")
	if err != nil {
		return 0, err
	}
	var memory struct {
		Allocated string `json:"allocated"`
	}
	if err := json.Unmarshal(text, &memory); err != nil {
		return 0, fmt.Errorf("memory of Envoy: %w", err)
	}
	return strconv.ParseInt(memory.Allocated, 10, 64)
}

// connections counts, for each worker, the connections from callers.
func (p *process) connections(ctx context.Context, workers int, port uint16) ([]int, error) {
	text, err := p.ask(ctx, fmt.Sprintf(`/stats?filter=^listener\..*_%d\.worker_.*downstream_cx_active`, port))
	if err != nil {
		return nil, err
	}
	counts := make([]int, workers)
	for line := range strings.Lines(string(text)) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), ": ")
		_, rest, found := strings.Cut(name, ".worker_")
		number, _, _ := strings.Cut(rest, ".")
		worker, err := strconv.Atoi(number)
		if !ok || !found || err != nil || worker >= workers {
			continue
		}
		if counts[worker], err = strconv.Atoi(value); err != nil {
			return nil, fmt.Errorf("connections of Envoy: %q: %w", line, err)
		}
	}
	return counts, nil
}

func (p *process) ask(ctx context.Context, path string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://envoy"+path, nil)
	if err != nil {
		return nil, err
	}
	response, err := p.admin.Do(request)
	if err != nil {
		return nil, fmt.Errorf("ask Envoy for %s: %w", path, err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("ask Envoy for %s: status %d", path, response.StatusCode)
	}
	return io.ReadAll(io.LimitReader(response.Body, 64<<20))
}
