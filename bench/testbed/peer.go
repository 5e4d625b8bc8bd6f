//go:build linux

package testbed

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway"
	"github.com/polder/polder/prewarm/instance/process"
)

// stopGrace is how long a peer may take to stop before it is killed.
const stopGrace = 45 * time.Second

// Peer is one machine of a site.
type Peer struct {
	// Fixed after construction.
	Name    string
	Region  polder.RegionName
	Address netip.Addr // of everything that it serves
	Layout  gateway.Layout

	dir    string
	config string // its own copy
	args   []string
	room   *room
	log    func(format string, values ...any)

	mu       sync.Mutex    // guards what follows, up to held
	command  *exec.Cmd     // nil while it does not run
	ends     []string      // how processes of its polder ended before the site did
	held     bool          // it is not started again
	released chan struct{} // capacity 1
}

// Command is the process of the peer's polder, 0 while it does not run.
func (p *Peer) Command() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.command == nil {
		return 0
	}
	return p.command.Process.Pid
}

// Ends tells how the processes of its polder ended, those that have, in the words of
// os.ProcessState: "signal: killed" for one that somebody killed.
func (p *Peer) Ends() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.ends)
}

// Hold lets the peer's polder not be started again once it ends, until the
// returned function is called.
func (p *Peer) Hold() (release func()) {
	set := func(held bool) {
		p.mu.Lock()
		p.held = held
		p.mu.Unlock()
		select {
		case p.released <- struct{}{}:
		default:
		}
	}
	set(true)
	return sync.OnceFunc(func() { set(false) })
}

// Processes lists what the peer runs besides its polder, by their records: its
// Envoy and its instances, with their labels. Some may have ended.
func (p *Peer) Processes() map[int]string {
	pids := map[int]string{}
	_ = filepath.WalkDir(p.Layout.Dir(), func(path string, entry fs.DirEntry, err error) error { // what vanishes is not there
		if err != nil || !entry.Type().IsRegular() || !strings.HasSuffix(path, ".json") {
			return nil
		}
		if r, err := process.ReadRecord(path); err == nil && r.PID > 0 {
			pids[r.PID] = r.Label
		}
		return nil
	})
	return pids
}

// Envoy is the process of the peer's Envoy, 0 while there is none.
func (p *Peer) Envoy() int {
	for pid, label := range p.Processes() {
		if strings.HasPrefix(label, "Envoy ") {
			return pid
		}
	}
	return 0
}

// Signal sends a signal to all processes of the peer, its polder included.
func (p *Peer) Signal(s syscall.Signal) {
	pids := p.Processes()
	if own := p.Command(); own > 0 {
		pids[own] = "polder"
	}
	for pid := range pids {
		_ = syscall.Kill(pid, s) // it may have ended
	}
}

// Status asks the peer how it is.
func (p *Peer) Status(ctx context.Context) (gateway.Status, error) {
	client := gateway.NewClient(p.Layout)
	defer client.Close()
	return client.Status(ctx)
}

// WriteConfig replaces the peer's own copy of the configuration.
func (p *Peer) WriteConfig(text string) error {
	if err := os.WriteFile(p.config+".new", []byte(text), 0o600); err != nil {
		return err
	}
	return os.Rename(p.config+".new", p.config)
}

// LogFile is where the peer's polder writes its log.
func (p *Peer) LogFile() string { return filepath.Join(p.dir, "polder.log") }

// keep runs the peer's polder until ctx ends, again and again.
func (p *Peer) keep(ctx context.Context, program string, again time.Duration) error {
	for ctx.Err() == nil {
		if !p.mayStart() {
			select {
			case <-p.released:
			case <-ctx.Done():
			}
			continue
		}
		ended, err := p.start(program)
		if err != nil {
			return fmt.Errorf("peer %s: %w", p.Name, err)
		}
		select {
		case <-ended:
			how := p.gone()
			p.log("%s: polder has ended: %s", p.Name, how)
			p.mu.Lock()
			p.ends = append(p.ends, how)
			p.mu.Unlock()
			select {
			case <-time.After(again):
			case <-ctx.Done():
			}
		case <-ctx.Done():
			return p.stop(ended)
		}
	}
	return nil
}

func (p *Peer) mayStart() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.held
}

func (p *Peer) start(program string) (<-chan struct{}, error) {
	log, err := os.OpenFile(p.LogFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	c := exec.Command(program, p.args...)
	c.Stdout, c.Stderr, c.Dir = log, log, p.dir
	if err := p.room.do(c.Start); err != nil {
		return nil, err
	}
	p.mu.Lock()
	p.command = c
	p.mu.Unlock()
	ended := make(chan struct{})
	go func() { defer close(ended); _ = c.Wait() }() // how it ended is in ProcessState
	return ended, nil
}

// gone notes that the process has ended, and tells how.
func (p *Peer) gone() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	how := p.command.ProcessState.String()
	p.command = nil
	return how
}

// stop ends the peer in order: thawed, so that it can.
func (p *Peer) stop(ended <-chan struct{}) error {
	p.Signal(syscall.SIGCONT)
	p.mu.Lock()
	command := p.command
	p.mu.Unlock()
	_ = command.Process.Signal(syscall.SIGTERM) // it may have ended
	timer := time.NewTimer(stopGrace)
	defer timer.Stop()
	select {
	case <-ended:
		if how := p.gone(); how != "exit status 0" {
			return fmt.Errorf("peer %s: polder stopped with %s; see %s", p.Name, how, p.LogFile())
		}
		return nil
	case <-timer.C:
		_ = command.Process.Signal(syscall.SIGQUIT) // so that it says where it hangs
		<-ended
		return errors.New("peer " + p.Name + ": polder did not stop within " + stopGrace.String() + "; see " + p.LogFile())
	}
}
