package examples

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// patience bounds every wait for something that is sure to happen.
const patience = 30 * time.Second

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// sample is one of the three programs and how to start it.
type sample struct {
	name    string
	command func(t *testing.T) []string
}

func samples(t *testing.T) []sample {
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	build := sync.OnceValues(func() (string, error) {
		program := filepath.Join(t.TempDir(), "billing")
		out, err := exec.Command("go", "build", "-o", program, "./billing").CombinedOutput()
		if err != nil {
			return "", fmt.Errorf("building billing: %w\n%s", err, out)
		}
		return program, nil
	})
	return []sample{
		{"billing", func(t *testing.T) []string {
			program, err := build()
			if err != nil {
				t.Fatal(err)
			}
			return []string{program}
		}},
		{"catalog", func(*testing.T) []string { return []string{"python3", filepath.Join(here, "catalog", "server.py")} }},
		{"reports", func(*testing.T) []string { return []string{"node", filepath.Join(here, "reports", "server.js")} }},
	}
}

// each runs the test against every sample.
func each(t *testing.T, test func(t *testing.T, command []string)) {
	for _, s := range samples(t) {
		t.Run(s.name, func(t *testing.T) { test(t, s.command(t)) })
	}
}

// process is a started sample.
type process struct {
	t       *testing.T
	command *exec.Cmd
	address string
	exited  chan error

	mu    sync.Mutex
	lines []string      // stdout so far
	more  chan struct{} // closed and replaced at each line
}

// start runs a sample until the end of the test and waits until it listens.
func start(t *testing.T, command []string, inherited *os.File, environment ...string) *process {
	t.Helper()
	p := &process{t: t, exited: make(chan error, 1), more: make(chan struct{})}
	p.command = exec.Command(command[0], command[1:]...)
	p.command.Env = append(os.Environ(), "POLDER_SERVICE=svc", "POLDER_REGION=fr", "POLDER_INSTANCE=svc-1")
	p.command.Env = append(p.command.Env, environment...)
	if inherited != nil {
		p.command.ExtraFiles = []*os.File{inherited}
	}
	p.command.Stderr = t.Output()
	stdout, err := p.command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.command.Start(); err != nil {
		t.Fatalf("%s: %v (the sample needs it on PATH)", command[0], err)
	}
	go p.read(stdout)
	t.Cleanup(func() {
		p.command.Process.Kill()
		p.wait()
	})
	p.address = p.line(regexp.MustCompile(`msg=listening address=(\S+)`))
	return p
}

func (p *process) read(stdout io.Reader) {
	scanner := bufio.NewScanner(stdout)
	for scanner.Scan() {
		p.mu.Lock()
		p.lines = append(p.lines, scanner.Text())
		close(p.more)
		p.more = make(chan struct{})
		p.mu.Unlock()
	}
	p.exited <- p.command.Wait()
}

// line waits for a line on stdout and returns the first group of its match.
func (p *process) line(want *regexp.Regexp) string {
	p.t.Helper()
	deadline := time.After(patience)
	for seen := 0; ; {
		p.mu.Lock()
		fresh, more := p.lines[seen:], p.more
		seen = len(p.lines)
		p.mu.Unlock()
		for _, line := range fresh {
			if match := want.FindStringSubmatch(line); match != nil {
				return match[len(match)-1]
			}
		}
		select {
		case <-more:
		case <-deadline:
			p.t.Fatalf("no line matched %s in %q", want, p.lines)
		}
	}
}

// wait returns the exit code.
func (p *process) wait() int {
	p.t.Helper()
	select {
	case err := <-p.exited:
		p.exited <- err
		return p.command.ProcessState.ExitCode()
	case <-time.After(patience):
		p.t.Error("the process does not end")
		return -1
	}
}

func (p *process) signal(s os.Signal) {
	p.t.Helper()
	if err := p.command.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// client keeps connections alive, so that stopping has idle ones to end.
func client(t *testing.T) *http.Client {
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: patience}
}

func do(t *testing.T, c *http.Client, method, url string, body io.Reader, headers ...string) (*http.Response, string) {
	t.Helper()
	request, err := http.NewRequest(method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		request.Header.Add(headers[i], headers[i+1])
	}
	response, err := c.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response, string(text)
}

func TestAnswersTellServiceRegionAndInstance(t *testing.T) {
	each(t, func(t *testing.T, command []string) {
		p, c := start(t, command, nil, "PORT=0"), client(t)
		for _, test := range []struct {
			path      string
			forwarded []string // header lines; a caller may have sent the first ones
			caller    string
		}{
			{"/", nil, "127.0.0.1"},
			{"/invoices/7?x=1", []string{"198.51.100.9, 203.0.113.4"}, "203.0.113.4"},
			{"/two/lines", []string{"198.51.100.66", "192.0.2.1"}, "192.0.2.1"},
			{"/v6", []string{"2001:db8::7"}, "2001:db8::7"},
		} {
			var headers []string
			for _, line := range test.forwarded {
				headers = append(headers, "X-Forwarded-For", line)
			}
			response, text := do(t, c, "GET", "http://"+p.address+test.path, nil, headers...)
			var got map[string]string
			if err := json.Unmarshal([]byte(text), &got); err != nil || response.StatusCode != 200 {
				t.Fatalf("GET %s: %s %q: %v", test.path, response.Status, text, err)
			}
			if _, err := time.Parse(time.RFC3339, got["started"]); err != nil {
				t.Errorf("started: %v", err)
			}
			delete(got, "started")
			path, _, _ := strings.Cut(test.path, "?")
			want := map[string]string{"service": "svc", "region": "fr", "instance": "svc-1", "caller": test.caller, "path": path}
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("GET %s: got %v, want %v", test.path, got, want)
			}
			p.line(regexp.MustCompile(`msg=request method=GET path=` + path + ` status=200 .*caller="?` + test.caller))
		}
	})
}

func TestSmallPaths(t *testing.T) {
	each(t, func(t *testing.T, command []string) {
		p, c := start(t, command, nil, "PORT=0"), client(t)
		for _, test := range []struct {
			method, path string
			status       int
			contains     string
		}{
			{"GET", "/healthz", 200, "ok\n"},
			{"HEAD", "/", 200, ""},
			{"GET", "/slow?ms=1", 200, `"svc"`},
			{"GET", "/slow?ms=-1", 400, "want a number"},
			{"GET", "/stream?n=x", 400, "want a number"},
			{"GET", "/echo", 405, "POST"},
			{"GET", "/die", 404, "POLDER_SAMPLE_DIE"},
			{"DELETE", "/thing", 200, `"/thing"`},
		} {
			response, text := do(t, c, test.method, "http://"+p.address+test.path, nil)
			if response.StatusCode != test.status || !strings.Contains(text, test.contains) {
				t.Errorf("%s %s: got %d %q, want %d with %q", test.method, test.path, response.StatusCode, text, test.status, test.contains)
			}
		}
	})
}

func TestStreamSendsEachEventAtOnce(t *testing.T) {
	each(t, func(t *testing.T, command []string) {
		p, c := start(t, command, nil, "PORT=0"), client(t)
		// The gap is longer than patience: the first event must not wait for the second.
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		request, _ := http.NewRequestWithContext(ctx, "GET", "http://"+p.address+"/stream?n=2&ms=60000", nil)
		response, err := c.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(response.Body).ReadString('\n')
		if err != nil || line != "id: 0\n" {
			t.Errorf("first line %q: %v", line, err)
		}
		cancel()
		response.Body.Close()

		response, text := do(t, c, "GET", "http://"+p.address+"/stream?n=3&ms=1", nil)
		if kind := response.Header.Get("Content-Type"); kind != "text/event-stream" {
			t.Errorf("content type %q", kind)
		}
		if want := "id: 0\ndata: 0\n\nid: 1\ndata: 1\n\nid: 2\ndata: 2\n\n"; text != want {
			t.Errorf("got %q, want %q", text, want)
		}
	})
}

func TestEchoStreamsBothWays(t *testing.T) {
	each(t, func(t *testing.T, command []string) {
		p, c := start(t, command, nil, "PORT=0"), client(t)
		large := bytes.Repeat([]byte("0123456789abcdef"), 128<<10) // 2 MiB, with a length
		response, text := do(t, c, "POST", "http://"+p.address+"/echo", bytes.NewReader(large), "Content-Type", "text/x-test")
		if text != string(large) || response.Header.Get("Content-Type") != "text/x-test" {
			t.Errorf("a large body came back as %d bytes of %s", len(text), response.Header.Get("Content-Type"))
		}

		reader, writer := io.Pipe() // chunked; each block comes back before the next one leaves
		request, _ := http.NewRequest("POST", "http://"+p.address+"/echo", reader)
		go io.WriteString(writer, "block 0\n")
		response, err := c.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		back := bufio.NewReader(response.Body)
		for i := range 3 {
			if line, err := back.ReadString('\n'); line != fmt.Sprintf("block %d\n", i) {
				t.Fatalf("got %q, %v", line, err)
			}
			if i < 2 {
				fmt.Fprintf(writer, "block %d\n", i+1)
			}
		}
		writer.Close()
		if rest, err := io.ReadAll(back); len(rest) > 0 || err != nil {
			t.Errorf("after the last block: %q, %v", rest, err)
		}
		if _, text := do(t, c, "POST", "http://"+p.address+"/echo", strings.NewReader("")); text != "" {
			t.Errorf("an empty body came back as %q", text)
		}
	})
}

func TestInheritedSocketHoldsTheRequestUntilTheProgramRuns(t *testing.T) {
	for _, variable := range []string{"POLDER_LISTEN_FD=3", "LISTEN_FDS=1"} {
		t.Run(variable, func(t *testing.T) {
			each(t, func(t *testing.T, command []string) {
				listener, err := net.Listen("tcp", "127.0.0.1:0")
				if err != nil {
					t.Fatal(err)
				}
				defer listener.Close()
				file, err := listener.(*net.TCPListener).File()
				if err != nil {
					t.Fatal(err)
				}
				defer file.Close()
				early, err := net.Dial("tcp", listener.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				defer early.Close()
				fmt.Fprint(early, "GET /early HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")

				p := start(t, command, file, variable)
				early.SetReadDeadline(time.Now().Add(patience))
				text, err := io.ReadAll(early)
				if err != nil || !bytes.HasPrefix(text, []byte("HTTP/1.1 200")) || !bytes.Contains(text, []byte(`"/early"`)) {
					t.Errorf("got %q, %v", text, err)
				}
				if p.address != listener.Addr().String() {
					t.Errorf("it says that it listens on %s, the socket is %s", p.address, listener.Addr())
				}
				p.signal(syscall.SIGTERM)
				if code := p.wait(); code != 0 {
					t.Errorf("exit code %d", code)
				}
				// The socket outlives the program: the kernel goes on accepting for the next one.
				late, err := net.Dial("tcp", listener.Addr().String())
				if err != nil {
					t.Fatalf("the inherited socket was shut: %v", err)
				}
				late.Close()
			})
		})
	}
}

func TestTerminationFinishesRequestsInProgress(t *testing.T) {
	each(t, func(t *testing.T, command []string) {
		p, c := start(t, command, nil, "PORT=0"), client(t)
		do(t, client(t), "GET", "http://"+p.address+"/idle", nil) // leaves an idle connection behind

		reader, writer := io.Pipe()
		request, _ := http.NewRequest("POST", "http://"+p.address+"/echo", reader)
		go io.WriteString(writer, "before")
		response, err := c.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		if _, err := io.ReadFull(response.Body, make([]byte, len("before"))); err != nil {
			t.Fatal(err)
		}
		p.signal(syscall.SIGTERM)
		p.line(regexp.MustCompile("(msg=stopping)"))
		io.WriteString(writer, "after")
		writer.Close()
		if text, err := io.ReadAll(response.Body); string(text) != "after" || err != nil {
			t.Errorf("the request in progress ended with %q, %v", text, err)
		}
		if code := p.wait(); code != 0 {
			t.Errorf("exit code %d, want 0", code)
		}
	})
}

func TestDieOnlyIfAllowed(t *testing.T) {
	each(t, func(t *testing.T, command []string) {
		p := start(t, command, nil, "PORT=0", "POLDER_SAMPLE_DIE=1")
		if response, err := client(t).Get("http://" + p.address + "/die"); err == nil {
			response.Body.Close()
			t.Errorf("it answered %s", response.Status)
		}
		if code := p.wait(); code != 3 {
			t.Errorf("exit code %d, want 3", code)
		}
	})
}

func TestWithoutAPlaceToListenItSaysWhatToSet(t *testing.T) {
	each(t, func(t *testing.T, command []string) {
		c := exec.Command(command[0], command[1:]...)
		c.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}
		out, err := c.CombinedOutput()
		if err == nil || !strings.Contains(string(out), "PORT=") {
			t.Errorf("%v: %q", err, out)
		}
	})
}

func TestBillingSpeaksHTTP2InClear(t *testing.T) {
	p := start(t, samples(t)[0].command(t), nil, "PORT=0")
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: protocols}
	defer transport.CloseIdleConnections()
	response, text := do(t, &http.Client{Transport: transport, Timeout: patience}, "POST",
		"http://"+p.address+"/echo", strings.NewReader("over h2c"))
	if response.ProtoMajor != 2 || text != "over h2c" {
		t.Errorf("got %s %q", response.Proto, text)
	}
}
