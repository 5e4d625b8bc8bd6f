package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway"
	"github.com/polder/polder/prewarm/instance/process"
)

// bePolder makes the test binary be the command, so that the tests run the
// very program, with the race detector, and its children are it as well.
const bePolder = "POLDER_TEST_IS_POLDER"

// beInstance makes it be an instance that listens only after the duration in it.
const beInstance = "TEST_IS_INSTANCE"

// patience bounds every wait of the tests. Machines are slow at times; nothing
// here asserts how long anything takes.
const patience = 90 * time.Second

func TestMain(m *testing.M) {
	if after, is := os.LookupEnv(beInstance); is {
		os.Exit(runInstance(after))
	}
	if after, is := os.LookupEnv(beRPC); is {
		os.Exit(runRPC(after))
	}
	if name, is := os.LookupEnv(beGRPC); is {
		os.Exit(runGRPC(name))
	}
	if os.Getenv(bePolder) != "" {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		context.AfterFunc(ctx, stop)
		os.Exit(execute(ctx, os.Args[1:]))
	}
	flag.Parse()
	if *update { // make golden starts no fleet
		must(flag.Set("test.run", "Golden"))
	}
	os.Exit(m.Run())
}

// command prepares a run of polder.
func command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(program, args...)
	// The race detector would wait a second at each exit for stragglers' reports.
	c.Env = append(os.Environ(), bePolder+"=1", "GORACE=atexit_sleep_ms=0")
	return c
}

// run runs polder to its end and returns its exit code and what it printed.
func run(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	c := command(t, args...)
	var out, errs strings.Builder
	c.Stdout, c.Stderr = &out, &errs
	err := c.Run()
	if _, exited := err.(*exec.ExitError); err != nil && !exited {
		t.Fatal(err)
	}
	return c.ProcessState.ExitCode(), out.String(), errs.String()
}

// fleetUnderTest is a running polder up.
type fleetUnderTest struct {
	tools  string // folder with Envoy
	t      *testing.T
	cmd    *exec.Cmd
	ended  chan struct{} // closed when up has ended
	state  string
	config string
	listen map[polder.RegionName]polder.Listen
	roots  *x509.CertPool
	http   *http.Client
}

// startUp starts polder up with a copy of a configuration, and waits until all
// its regions are ready.
func startUp(t *testing.T, config string, more ...string) *fleetUnderTest {
	t.Helper()
	u := newFleet(t, config)
	u.start(more...)
	return u
}

// newFleet makes a folder with a copy of a configuration, and stops at the end
// of the test what was started with it.
func newFleet(t *testing.T, config string) *fleetUnderTest {
	t.Helper()
	samples, err := filepath.Abs("../../examples")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(samples, "billing/bin/billing")); err != nil {
		t.Fatalf("the sample services are not built: %v; run make samples", err)
	}
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "polder-up-") // short enough for sockets
	if err != nil {
		t.Fatal(err)
	}
	u := &fleetUnderTest{t: t, tools: "../../.tools", state: filepath.Join(dir, "state"), config: filepath.Join(dir, "polder.yaml")}
	u.write(strings.NewReplacer("SAMPLES", samples, "TESTPROGRAM", testProgram(t)).Replace(string(text)))
	t.Cleanup(func() {
		if u.cmd != nil {
			u.stop()
		}
		if t.Failed() {
			u.dumpLogs()
		}
		os.RemoveAll(dir)
	})
	return u
}

// command is polder up with the fleet's files.
func (u *fleetUnderTest) command(more ...string) *exec.Cmd {
	u.t.Helper()
	return command(u.t, append([]string{"up", "--config", u.config, "--state", u.state, "--port", "0", "--tools", u.tools}, more...)...)
}

// start starts polder up and waits until all its regions are ready.
func (u *fleetUnderTest) start(more ...string) {
	t := u.t
	t.Helper()
	u.ended, u.listen, u.roots = make(chan struct{}), map[polder.RegionName]polder.Listen{}, x509.NewCertPool()
	u.cmd = u.command(append([]string{"--output", "json"}, more...)...)
	stdout, err := u.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	u.cmd.Stderr = u.cmd.Stdout
	if err := u.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ready := make(chan error, 1)
	go u.follow(stdout, ready)
	select {
	case err := <-ready:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(patience):
		t.Fatal("polder up is not ready")
	}
	u.http = &http.Client{Timeout: patience, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: u.roots}, ForceAttemptHTTP2: true,
		DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", "127.0.0.1:"+address[strings.LastIndexByte(address, ':')+1:])
		},
	}}
	t.Cleanup(u.http.CloseIdleConnections)
}

// follow reads what up prints until it ends, and reports once it is ready.
func (u *fleetUnderTest) follow(stdout io.Reader, ready chan<- error) {
	defer close(u.ended)
	scanner := bufio.NewScanner(stdout)
	scanner.Buffer(nil, 1<<20)
	told := false
	for scanner.Scan() {
		var e upEvent
		if json.Unmarshal(scanner.Bytes(), &e) != nil {
			continue
		}
		switch {
		case e.Event == "ready":
			u.listen[polder.RegionName(e.Region)] = *e.Listen
		case e.Event == "curl" && !told:
			told = true
			pem, err := os.ReadFile(e.Root)
			if err == nil && !u.roots.AppendCertsFromPEM(pem) {
				err = fmt.Errorf("%s holds no certificate", e.Root)
			}
			ready <- err
		}
	}
	u.cmd.Wait()
	if !told {
		ready <- fmt.Errorf("polder up has ended: %s", u.cmd.ProcessState)
	}
}

func (u *fleetUnderTest) write(config string) {
	u.t.Helper()
	u.writeTo(u.config, config)
}

func (u *fleetUnderTest) writeTo(path, config string) {
	u.t.Helper()
	temporary := path + ".new"
	if err := os.WriteFile(temporary, []byte(config), 0o600); err != nil {
		u.t.Fatal(err)
	}
	if err := os.Rename(temporary, path); err != nil {
		u.t.Fatal(err)
	}
}

// stop ends up as Ctrl-C does and waits for it.
func (u *fleetUnderTest) stop() {
	u.cmd.Process.Signal(os.Interrupt) // an error means that it has ended
	select {
	case <-u.ended:
	case <-time.After(patience):
		u.t.Error("polder up does not stop")
		u.cmd.Process.Kill()
	}
}

func (u *fleetUnderTest) dumpLogs() {
	logs, _ := filepath.Glob(filepath.Join(u.state, "regions/*/polder.log"))
	further, _ := filepath.Glob(filepath.Join(u.state, "regions/*/peers/*/polder.log"))
	for _, file := range append(append(logs, further...), filepath.Join(u.state, "guard.log")) {
		lines, err := process.ReadLast(file, 60)
		if err == nil {
			u.t.Logf("%s:\n%s", file, strings.Join(lines, "\n"))
		}
	}
}

// answer is what a sample service says.
type answer struct {
	Service  string `json:"service"`
	Region   string `json:"region"`
	Instance string `json:"instance"`
	Caller   string `json:"caller"`
}

// call calls a host through a region's entrypoint, on a connection of its own.
func (u *fleetUnderTest) call(entry polder.RegionName, host string) (int, answer, http.Header, error) {
	_, port, _ := net.SplitHostPort(u.listen[entry].HTTPS)
	request, err := http.NewRequest(http.MethodGet, "https://"+host+":"+port+"/", nil)
	if err != nil {
		return 0, answer{}, nil, err
	}
	request.Close = true
	response, err := u.http.Do(request)
	if err != nil {
		return 0, answer{}, nil, err
	}
	defer response.Body.Close()
	var a answer
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode == http.StatusOK {
		err = json.Unmarshal(body, &a)
	}
	return response.StatusCode, a, response.Header, err
}

// want calls and fails the test unless the answer is 200 from that region.
func (u *fleetUnderTest) want(entry polder.RegionName, host, region string) answer {
	u.t.Helper()
	code, a, _, err := u.call(entry, host)
	if err != nil || code != http.StatusOK || a.Region != region {
		u.t.Fatalf("%s through %s: got %d from %q, %v; want 200 from %s", host, entry, code, a.Region, err, region)
	}
	return a
}

// layout finds a region's first peer, or another by its own name: "fr", "fr-2".
func (u *fleetUnderTest) layout(name polder.RegionName) gateway.Layout {
	u.t.Helper()
	region, number, further := strings.Cut(string(name), "-")
	layout, err := gateway.NewLayout(u.state, polder.RegionName(region))
	if err != nil {
		u.t.Fatal(err)
	}
	if further {
		layout = layout.Of(region + "-" + number)
	}
	return layout
}

func (u *fleetUnderTest) status(region polder.RegionName) (gateway.Status, error) {
	client := gateway.NewClient(u.layout(region))
	defer client.Close()
	return client.Status(context.Background())
}

// service returns a service's status in a region.
func (u *fleetUnderTest) service(region polder.RegionName, name polder.ServiceName) gateway.ServiceStatus {
	u.t.Helper()
	status, err := u.status(region)
	if err != nil {
		u.t.Fatal(err)
	}
	service, _ := find(status, name)
	return service
}

// pids lists every process that the fleet has started: regions, guard, Envoys,
// instances, by their records.
func (u *fleetUnderTest) pids() map[int]string {
	u.t.Helper()
	pids := map[int]string{}
	err := filepath.WalkDir(u.state, func(path string, entry os.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() || !strings.HasSuffix(path, ".json") {
			return nil
		}
		if r, err := process.ReadRecord(path); err == nil && r.PID > 0 && r.Key != "" {
			pids[r.PID] = r.Label
		}
		return nil
	})
	if err != nil {
		u.t.Fatal(err)
	}
	return pids
}

// alive tells whether a process runs; one that ended and was not waited for does not.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(rest, "Z") && !strings.HasPrefix(rest, "X")
}

// eventually asks until the answer is yes.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for !ok() {
		select {
		case <-again.C:
		case <-deadline.C:
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}
