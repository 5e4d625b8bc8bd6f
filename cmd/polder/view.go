package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/mattn/go-isatty"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway"
	"github.com/polder/polder/gateway/fleet"
	"github.com/polder/polder/regions/law"
)

// pollEvery is how often polder up asks its regions how they are.
const pollEvery = 500 * time.Millisecond

// view shows a fleet: a living overview on a terminal, plain lines or JSON
// lines otherwise. It is safe for concurrent use.
type view struct {
	out, errs io.Writer
	format    format
	living    bool

	mu     sync.Mutex
	screen *screen // nil unless living and shown
}

func newView(out, errs io.Writer, f format, plain bool) *view {
	file, ok := out.(*os.File)
	living := ok && !plain && f == formatText && os.Getenv("TERM") != "dumb" &&
		isatty.IsTerminal(file.Fd()) && isatty.IsTerminal(os.Stdin.Fd()) // keys come from there
	return &view{out: out, errs: errs, format: f, living: living}
}

// upEvent is a line of polder up --output json.
type upEvent struct {
	Event  string         `json:"event"`            // "ready", "log" or "curl"
	Region string         `json:"region,omitempty"` // of a region's further peers the peer's name
	Listen *polder.Listen `json:"listen,omitempty"`
	Root   string         `json:"root,omitempty"` // file with the authority's certificate
	Line   string         `json:"line,omitempty"`
}

// Write takes a line of the fleet's own log.
func (v *view) Write(line []byte) (int, error) {
	v.emit(upEvent{Event: "log", Line: strings.TrimSuffix(string(line), "\n")})
	return len(line), nil
}

// line takes a line of a region's log.
func (v *view) line(name string, line []byte) {
	v.emit(upEvent{Event: "log", Region: name, Line: string(line)})
}

func (v *view) emit(e upEvent) {
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case v.screen != nil:
		v.screen.event(e)
	case v.format == formatJSON:
		_ = jsonLine(v.out, e) // nobody is left to tell when stdout is gone
	case e.Event == "log" && e.Region != "":
		fmt.Fprintf(v.errs, "%s | %s\n", e.Region, e.Line)
	default:
		fmt.Fprintln(v.errs, e.Line)
	}
}

// setScreen tells where log lines go: to the screen, or on as they are for nil.
func (v *view) setScreen(s *screen) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.screen = s
}

// show follows the fleet until ctx ends.
func (v *view) show(ctx context.Context, members []fleet.Member, root string) error {
	clients := make([]*gateway.Client, len(members))
	for i, m := range members {
		clients[i] = gateway.NewClient(m.Layout)
		defer clients[i].Close()
	}
	if v.living {
		return v.showLiving(ctx, members, clients, root)
	}
	statuses, err := v.awaitReady(ctx, members, clients)
	if err != nil {
		return err
	}
	v.announce(members, statuses, root)
	<-ctx.Done()
	return nil
}

// awaitReady reports each region once its Envoy serves.
func (v *view) awaitReady(ctx context.Context, members []fleet.Member, clients []*gateway.Client) ([]gateway.Status, error) {
	statuses := make([]gateway.Status, len(members))
	ready := 0
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	for ready < len(members) {
		for i, m := range members {
			if statuses[i].PID != 0 {
				continue
			}
			status, err := clients[i].Status(ctx)
			if err != nil || !status.Serving() || !together(status, len(members)) {
				continue
			}
			statuses[i] = status
			ready++
			v.say(upEvent{Event: "ready", Region: m.Layout.Name(), Listen: &m.Listen},
				fmt.Sprintf("region %s is ready on https://%s", m.Layout.Name(), m.Listen.HTTPS))
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil, nil
		}
	}
	return statuses, nil
}

// together tells whether the peer sees all others in good health.
func together(s gateway.Status, members int) bool {
	healthy := 0
	for _, p := range s.Peers {
		if p.Healthy {
			healthy++
		}
	}
	return healthy == members
}

func (v *view) say(e upEvent, text string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.format == formatJSON {
		_ = jsonLine(v.out, e)
		return
	}
	fmt.Fprintln(v.out, text)
}

// announce prints lines to paste into a second terminal.
func (v *view) announce(members []fleet.Member, statuses []gateway.Status, root string) {
	if len(statuses) == 0 {
		return
	}
	if v.format == formatText {
		fmt.Fprintf(v.out, "\nAll regions are ready. The local authority's root is %s\nTry, in a second terminal:\n\n", root)
	}
	for _, line := range curlLines(members, statuses, root) {
		v.say(upEvent{Event: "curl", Line: line, Root: root}, "  "+line)
	}
	if v.format == formatText {
		fmt.Fprintf(v.out, "\nCtrl-C stops everything.\n\n")
	}
}

// curlLines gives a line per service and entrypoint, with what to expect.
func curlLines(members []fleet.Member, statuses []gateway.Status, root string) []string {
	var lines []string
	for _, service := range statuses[0].Services {
		if len(service.Hosts) == 0 {
			continue
		}
		for i, m := range members {
			lines = append(lines, fmt.Sprintf("%s   # %s", m.Curl(shortest(root), callable(service.Hosts[0])), expectation(statuses[i], service.Service)))
		}
	}
	return lines
}

// callable is a host that a caller can name: one below a wildcard.
func callable(h polder.Host) string { return strings.Replace(string(h), "*", "any", 1) }

func expectation(s gateway.Status, name polder.ServiceName) string {
	for _, service := range s.Services {
		if service.Service != name {
			continue
		}
		switch service.Verdict {
		case law.Serve:
			if service.Home != "" {
				return fmt.Sprintf("%s may serve it; while it is called rarely its home, %s, does", s.Region, service.Home)
			}
			return fmt.Sprintf("%s serves it", s.Region)
		case law.Pass:
			return fmt.Sprintf("%s passes it on, unopened, to %s", s.Region, service.Targets[0])
		case law.Forbidden:
			return fmt.Sprintf("%s refuses: TLS alert access denied", s.Region)
		case law.Unavailable:
			return fmt.Sprintf("%s: %s", s.Region, service.Reason)
		}
	}
	return "unknown in " + string(s.Region)
}

// shortest writes a path relative to the working folder where that is shorter.
func shortest(path string) string {
	wd, err := os.Getwd()
	if err != nil {
		return path
	}
	if relative, ok := strings.CutPrefix(path, wd+"/"); ok {
		return relative
	}
	return path
}
