package cold

import (
	"bytes"
	"context"
	"errors"
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

const (
	// dialPause is how long a bare start waits after a refused connection.
	dialPause = 200 * time.Microsecond
	// bareLimit bounds a bare start, and bareStop its end.
	bareLimit = 30 * time.Second
	bareStop  = 10 * time.Second
)

// program is something that can sleep.
type program struct {
	name    string
	command []string
	dir     string
	startUp time.Duration // of the artificial one
	inherit bool          // takes a listening socket that exists before it
}

// Programs names all programs, in the order in which they are measured.
func Programs() []string {
	var names []string
	for _, p := range programs(Options{}) {
		names = append(names, p.name)
	}
	return names
}

func programs(o Options) []program {
	sample := func(name string) string { return filepath.Join(o.Samples, name) }
	return []program{
		{name: "sleeper-0", command: []string{o.Sleeper}, dir: filepath.Dir(o.Sleeper)},
		{name: "sleeper-0-inherit", command: []string{o.Sleeper}, dir: filepath.Dir(o.Sleeper), inherit: true},
		{name: "sleeper-50", command: []string{o.Sleeper, "50ms"}, dir: filepath.Dir(o.Sleeper), startUp: 50 * time.Millisecond},
		{name: "sleeper-1000", command: []string{o.Sleeper, "1s"}, dir: filepath.Dir(o.Sleeper), startUp: time.Second},
		{name: "go", command: []string{"./bin/billing"}, dir: sample("billing")},
		{name: "go-inherit", command: []string{"./bin/billing"}, dir: sample("billing"), inherit: true},
		{name: "python", command: []string{"python3", "server.py"}, dir: sample("catalog")},
		{name: "node", command: []string{"node", "server.js"}, dir: sample("reports")},
	}
}

// program is one of them by its name.
func (o Options) program(name string) program {
	for _, p := range programs(o) {
		if p.name == name {
			return p
		}
	}
	panic("cold: there is no program " + name) // the names are ours, or Validate saw them
}

// passedOn is what an instance gets of Polder's environment. A bare start gets no
// more: Node alone takes half as long again with a file of certificates to read.
var passedOn = []string{"PATH", "HOME", "LANG", "TZ"}

// bare starts the program by itself and measures until it first answers 200.
func (p program) bare(ctx context.Context) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, bareLimit)
	defer cancel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer listener.Close()
	address := listener.Addr().(*net.TCPAddr)
	path := p.command[0]
	if strings.HasPrefix(path, "./") {
		path = filepath.Join(p.dir, path)
	}
	c := exec.Command(path, p.command[1:]...)
	c.Dir = p.dir
	c.Env = []string{"POLDER_SERVICE=" + p.name, "POLDER_REGION=fr", "POLDER_INSTANCE=bare"}
	for _, name := range passedOn {
		if value, ok := os.LookupEnv(name); ok {
			c.Env = append(c.Env, name+"="+value)
		}
	}
	if p.inherit {
		file, err := listener.(*net.TCPListener).File()
		if err != nil {
			return 0, err
		}
		defer file.Close()
		c.ExtraFiles = []*os.File{file}
		c.Env = append(c.Env, "POLDER_LISTEN_FD=3")
	} else {
		listener.Close()
		c.Env = append(c.Env, "PORT="+strconv.Itoa(address.Port))
	}
	var said bytes.Buffer
	c.Stdout, c.Stderr = &said, &said
	began := time.Now()
	if err := c.Start(); err != nil {
		return 0, fmt.Errorf("bare start of %s: %w", p.name, err)
	}
	err = firstAnswer(ctx, address.String())
	took := time.Since(began)
	if stopped := stop(c); err == nil {
		err = stopped
	}
	if err != nil {
		return 0, fmt.Errorf("bare start of %s: %w\n%s", p.name, err, said.Bytes())
	}
	return took, nil
}

// firstAnswer returns when a GET was answered with 200.
func firstAnswer(ctx context.Context, address string) error {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: bareLimit}
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/", nil)
		if err != nil {
			return err
		}
		response, err := client.Do(request)
		if err == nil {
			_, err = io.Copy(io.Discard, response.Body)
			response.Body.Close()
			if err == nil && response.StatusCode == http.StatusOK {
				return nil
			}
		}
		if ctx.Err() != nil {
			return errors.Join(ctx.Err(), err)
		}
		time.Sleep(dialPause)
	}
}

// stop ends a process as Polder would, and waits for it.
func stop(c *exec.Cmd) error {
	if err := c.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	force := time.AfterFunc(bareStop, func() { c.Process.Kill() })
	defer force.Stop()
	var exit *exec.ExitError
	if err := c.Wait(); err != nil && !errors.As(err, &exit) {
		return err
	}
	return nil
}
