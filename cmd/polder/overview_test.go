package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	tea "github.com/charmbracelet/bubbletea"
	"github.com/charmbracelet/lipgloss"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway"
	"github.com/polder/polder/gateway/fleet"
	"github.com/polder/polder/regions/law"
	"github.com/polder/polder/xds/server"
)

var noon = time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)

// scene is an overview under test: messages go in, text comes out.
type scene struct {
	t *testing.T
	o overview
}

// newScene has three regions that do not answer yet.
func newScene(t *testing.T) *scene {
	var members []fleet.Member
	for i, name := range []polder.RegionName{"fr", "nl", "pl"} {
		members = append(members, fleet.Member{
			Region: polder.Region{Name: name}, Layout: gateway.Layout{Region: name},
			Listen: polder.Listen{HTTPS: fmt.Sprintf("127.0.0.1:%d", 8443+i)},
		})
	}
	return &scene{t, newOverview(members, "/srv/state/root.pem")}
}

// tell hands messages over and returns what the last one asks bubbletea to do.
func (s *scene) tell(messages ...tea.Msg) (then tea.Cmd) {
	for _, m := range messages {
		var model tea.Model
		model, then = s.o.Update(m)
		s.o = model.(overview)
	}
	return then
}

func (s *scene) press(keys ...string) (then tea.Cmd) {
	special := map[string]tea.KeyType{"up": tea.KeyUp, "down": tea.KeyDown, "end": tea.KeyEnd, "home": tea.KeyHome,
		"pgup": tea.KeyPgUp, "pgdown": tea.KeyPgDown, "esc": tea.KeyEsc, "ctrl+c": tea.KeyCtrlC}
	for _, k := range keys {
		if kind, ok := special[k]; ok {
			then = s.tell(tea.KeyMsg{Type: kind})
		} else {
			then = s.tell(tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune(k)})
		}
	}
	return then
}

// view draws, and holds every picture to what no picture may break.
func (s *scene) view() string {
	s.t.Helper()
	text := s.o.View()
	lines := strings.Split(text, "\n")
	if len(lines) > s.o.height {
		s.t.Errorf("%d lines on a terminal of %d", len(lines), s.o.height)
	}
	for _, line := range lines {
		if lipgloss.Width(line) > s.o.width {
			s.t.Errorf("%d cells on a terminal of %d: %q", lipgloss.Width(line), s.o.width, line)
		}
	}
	return text
}

// answers is a round in which every region serves these services.
func answers(at time.Duration, services ...[]gateway.ServiceStatus) polled {
	round := polled{at: noon.Add(at)}
	for i, list := range services {
		region := []polder.RegionName{"fr", "nl", "pl"}[i]
		round.statuses = append(round.statuses, gateway.Status{
			Region: region, PID: 100 + i, Services: list,
			Envoy: gateway.EnvoyStatus{State: "running"},
			Nodes: []server.NodeStatus{{Node: string(region) + "-1", Types: []server.TypeStatus{{Type: "x.Listener", Accepted: 4}}}},
			Peers: []gateway.PeerStatus{{Healthy: true}, {Healthy: true}, {Healthy: i < 2}},
		})
	}
	return round
}

func served(name polder.ServiceName, requests uint64, states ...polder.InstanceState) gateway.ServiceStatus {
	s := gateway.ServiceStatus{
		Service: name, Hosts: []polder.Host{polder.Host(name + ".example.com")}, Verdict: law.Serve,
		Decision: "keep: somebody may call", Totals: gateway.Totals{Requests: requests, Cold: min(requests, 1), Starts: uint64(len(states))},
	}
	for _, state := range states {
		s.Instances = append(s.Instances, gateway.InstanceStatus{State: state})
	}
	return s
}

func passed(name polder.ServiceName, to polder.RegionName) gateway.ServiceStatus {
	s := served(name, 0)
	s.Verdict, s.Targets, s.Decision = law.Pass, []polder.RegionName{to}, ""
	return s
}

func verdict(name polder.ServiceName, v law.Verdict) gateway.ServiceStatus {
	s := served(name, 0)
	s.Verdict, s.Decision, s.Reason = v, "", "no region that may serve is alive"
	return s
}

// busy is a fleet in which everything that a cell can show is there.
func busy(at time.Duration, requests uint64) polled {
	waiting, failing, broken := served("waiting", 0, polder.Starting), served("failing", 3), served("many", 7)
	waiting.Waiting = 12
	failing.Failure, failing.Totals.Failed = "instance failing-1 exited with code 3\nsecond line", 3
	for range 20 {
		broken.Instances = append(broken.Instances, gateway.InstanceStatus{State: polder.Ready})
	}
	routed := served("routed", 0)
	routed.Decision = ""
	return answers(at,
		[]gateway.ServiceStatus{served("billing", requests, polder.Ready, polder.Ready, polder.Starting), failing, broken, routed, waiting},
		[]gateway.ServiceStatus{passed("billing", "fr"), verdict("failing", law.Forbidden), verdict("many", law.Unavailable), served("routed", 0), passed("waiting", "fr")},
		[]gateway.ServiceStatus{passed("billing", "fr"), verdict("failing", law.Forbidden)})
}

// TestGoldenOverview holds whole pictures against testdata/overview.
func TestGoldenOverview(t *testing.T) {
	for name, act := range map[string]func(s *scene){
		"starting": func(s *scene) {},
		"busy": func(s *scene) {
			s.tell(tea.WindowSizeMsg{Width: 120, Height: 30}, busy(0, 100), busy(time.Second, 200))
			s.tell(upEvent{Event: "log", Region: "fr", Line: `time=2026-05-04T12:00:01.5Z level=WARN msg="no instance was started" region=fr service=failing reason="exit\tcode"`})
			s.tell(upEvent{Event: "log", Line: "something \x1b[31mthat slog did not write"})
		},
		"busy-narrow": func(s *scene) { s.tell(busy(0, 100), tea.WindowSizeMsg{Width: 60, Height: 16}) },
		"curl": func(s *scene) {
			s.tell(tea.WindowSizeMsg{Width: 90, Height: 24}, busy(0, 100))
			s.press("c", "down")
		},
		"region-lost": func(s *scene) {
			lost := busy(time.Second, 100)
			lost.statuses[1] = gateway.Status{}
			s.tell(busy(0, 100), lost)
		},
		"trouble": func(s *scene) {
			round := busy(0, 100)
			for i := range round.statuses {
				round.statuses[i].Degraded = []string{"not root"}
			}
			round.statuses[0].Config.Faults = []polder.Fault{{At: polder.Position{File: "polder.yaml", Line: 9, Column: 26}, Path: "services.a", Message: `there is no region "fe"`, Fix: "write fr"}}
			round.statuses[0].Config.Kept = []polder.ServiceName{"a"}
			round.statuses[2].Nodes[0].Rejections = []server.Rejection{{Node: "pl-1", Type: "x.Cluster", Name: "service/a", Reason: "bad\nlines"}}
			round.statuses[2].Refused = []string{"an endpoint of another region"}
			s.tell(tea.WindowSizeMsg{Width: 100, Height: 28}, round)
		},
		"many-services": func(s *scene) {
			var list []gateway.ServiceStatus
			for i := range 40 {
				list = append(list, served(polder.ServiceName(fmt.Sprintf("service-%02d", i)), uint64(i)))
			}
			s.tell(answers(0, list, list, list), tea.WindowSizeMsg{Width: 100, Height: 24})
			s.press("pgdown", "pgdown", "up")
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			act(s)
			got := s.view() + "\n"
			file := filepath.Join("testdata/overview", name+".txt")
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got\n%swant\n%s", got, want)
			}
		})
	}
}

// TestOverviewFitsEveryTerminal draws everything in every size.
func TestOverviewFitsEveryTerminal(t *testing.T) {
	s := newScene(t)
	s.tell(busy(0, 1))
	for i := range keptLines + 10 {
		s.tell(upEvent{Event: "log", Region: "fr", Line: strings.Repeat(fmt.Sprintf("日本 %d ", i), 30)})
	}
	for width := 1; width < 160; width += 7 {
		for height := 1; height < 60; height += 3 {
			for range 2 {
				s.press("c")
				s.tell(tea.WindowSizeMsg{Width: width, Height: height})
				s.view()
			}
		}
	}
	if len(s.o.lines) != keptLines {
		t.Errorf("%d lines of log are kept, want %d", len(s.o.lines), keptLines)
	}
}

func TestOverviewKeys(t *testing.T) {
	s := newScene(t)
	s.press("down", "end", "up") // before anything is known
	s.tell(busy(0, 1))
	for _, c := range []struct {
		keys string
		want polder.ServiceName
	}{{"up", "billing"}, {"down", "failing"}, {"j", "many"}, {"k", "failing"}, {"end", "waiting"}, {"down", "waiting"}, {"home", "billing"}, {"pgdown", "waiting"}, {"pgup", "billing"}} {
		s.press(c.keys)
		if got := s.o.services[s.o.chosen]; got != c.want {
			t.Errorf("after %s %s is chosen, want %s", c.keys, got, c.want)
		}
	}
	s.press("c")
	if !strings.Contains(s.view(), "curl --cacert") {
		t.Error("c shows no curl lines")
	}
	s.press("esc")
	if strings.Contains(s.view(), "curl --cacert") {
		t.Error("esc leaves the curl lines")
	}
	for _, key := range []string{"q", "ctrl+c"} {
		if then := s.press(key); then == nil || then() != tea.Quit() {
			t.Errorf("%s does not quit", key)
		}
	}
	if s.press("x") != nil {
		t.Error("an unknown key does something")
	}
}

// TestOverviewChoiceStaysOnItsService lets services come and go around it.
func TestOverviewChoiceStaysOnItsService(t *testing.T) {
	s := newScene(t)
	s.tell(answers(0, []gateway.ServiceStatus{served("b", 0), served("d", 0)}, nil, nil))
	s.press("down")
	s.tell(answers(time.Second, []gateway.ServiceStatus{served("a", 0), served("b", 0), served("d", 0)}, nil, nil))
	if got := s.o.services[s.o.chosen]; got != "d" {
		t.Errorf("%s is chosen, want d", got)
	}
	s.tell(answers(2*time.Second, []gateway.ServiceStatus{served("a", 0)}, nil, nil))
	if got := s.o.services[s.o.chosen]; got != "a" {
		t.Errorf("%s is chosen after d has gone, want a", got)
	}
	s.tell(answers(3*time.Second, nil, nil, nil))
	s.view()
}

// TestOverviewRates counts requests a second, and is not fooled by a region
// that starts anew.
func TestOverviewRates(t *testing.T) {
	s := newScene(t)
	for i := range 30 {
		s.tell(answers(time.Duration(i)*time.Second, []gateway.ServiceStatus{served("a", 50*uint64(i))}, nil, nil))
	}
	if rate := s.o.rates[0]; rate < 49 || rate > 51 {
		t.Errorf("%.1f requests a second, want 50", rate)
	}
	again := answers(30*time.Second, []gateway.ServiceStatus{served("a", 9000)}, nil, nil)
	again.statuses[0].PID = 4711
	s.tell(again)
	if rate := s.o.rates[0]; rate != 0 {
		t.Errorf("%.1f requests a second in a new process, want 0 until there are two answers", rate)
	}
}

func TestCurlLinesCanBePastedFromANarrowTerminal(t *testing.T) {
	command := "curl --cacert root.pem --resolve billing.example.com:8443:127.0.0.1 https://billing.example.com:8443/"
	for width := 10; width < 120; width++ {
		lines := broken(command, width)
		if got := strings.Join(strings.Fields(strings.ReplaceAll(strings.Join(lines, "\n"), "\\\n", "")), " "); got != command {
			t.Fatalf("at width %d a shell reads %q", width, got)
		}
		for i, line := range lines[:len(lines)-1] {
			if !strings.HasSuffix(line, " \\") {
				t.Errorf("at width %d line %d goes not on: %q", width, i, line)
			}
		}
	}
}
