package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
)

// inspect looks at what the faults left behind, while all runs: ledgers that are
// whole, Envoys as they were published, and no process that nobody knows.
func (s *stage) inspect(ctx context.Context, o options) []string {
	var faults []string
	known := map[int]bool{}
	for _, p := range s.site.Peers {
		for _, args := range [][]string{{"audit", "ledger", "verify"}, {"audit"}} {
			c := exec.CommandContext(ctx, o.polder, append(args, "--state", p.Layout.State)...)
			if said, err := c.CombinedOutput(); err != nil {
				faults = append(faults, fmt.Sprintf("%s: polder %s: %v: %s", p.Name, strings.Join(args, " "), err, said))
			}
		}
		for pid := range p.Processes() {
			known[pid] = true
		}
	}
	faults = append(faults, s.crashes()...)
	for pid, command := range s.running() {
		if !known[pid] {
			faults = append(faults, fmt.Sprintf("process %d has stayed behind: %s", pid, command))
		}
	}
	return faults
}

// alarm is what no log may have: a crash of Polder, one that it survived, or one of
// its Envoy.
var alarm = regexp.MustCompile(`panic: |panic serving|fatal error: |segmentation fault|signal: aborted`)

// crashes tells which peers' processes ended in a way that no fault of the campaign
// explains: it kills, and nothing else.
func (s *stage) crashes() []string {
	var faults []string
	for _, p := range s.site.Peers {
		for _, how := range p.Ends() {
			if how != "signal: killed" {
				faults = append(faults, fmt.Sprintf("%s: its polder ended by itself, with %s; see %s", p.Name, how, p.LogFile()))
			}
		}
		text, err := os.ReadFile(p.LogFile())
		if err != nil {
			faults = append(faults, fmt.Sprintf("%s: %v", p.Name, err))
		}
		for line := range strings.Lines(string(text)) {
			if alarm.MatchString(line) {
				faults = append(faults, fmt.Sprintf("%s: its log says %q", p.Name, strings.TrimSpace(line)))
			}
		}
	}
	return faults
}

// leftOver tells which processes outlived their peers.
func (s *stage) leftOver() []string {
	var faults []string
	for pid, command := range s.running() {
		faults = append(faults, fmt.Sprintf("process %d has outlived its peer: %s", pid, command))
		_ = syscall.Kill(pid, syscall.SIGKILL) // so that it does not trouble the next seed
	}
	return faults
}

// running lists the Envoys and instances in this process namespace, by what they
// were started with.
func (s *stage) running() map[int]string {
	found := map[int]string{}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return found
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		line, err := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		command := strings.TrimSpace(strings.ReplaceAll(string(line), "\x00", " "))
		program, _, _ := strings.Cut(command, " ")
		cwd, _ := os.Readlink(filepath.Join("/proc", e.Name(), "cwd")) // of moody, whatever it became
		if err == nil && (strings.HasSuffix(program, "/envoy") || strings.HasSuffix(program, "bin/billing") || cwd == s.moods) {
			found[pid] = command
		}
	}
	return found
}

// clear removes what the site wrote.
func (s *stage) clear(dir string) error {
	for _, p := range s.site.Peers {
		_ = syscall.Unmount(p.Layout.State, syscall.MNT_DETACH) // it may have no disk of its own
	}
	return os.RemoveAll(dir)
}
