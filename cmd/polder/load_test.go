package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway"
	"github.com/polder/polder/loadtest/trace"
	"github.com/polder/polder/regions/law"
)

// TestLoadTargets chooses services and entrypoints as the flags say.
func TestLoadTargets(t *testing.T) {
	round := busy(0, 1)
	for i := range round.statuses {
		round.statuses[i].Listen.HTTPS = "127.0.0.1:844" + string(rune('3'+i))
		round.statuses[i].Services = slices.Clone(round.statuses[i].Services)
	}
	wild := served("wild", 0)
	wild.Hosts = []polder.Host{"*.shop.example.com"}
	hidden := verdict("hidden", law.Unavailable)
	for i := range round.statuses {
		round.statuses[i].Services = append(round.statuses[i].Services, wild, hidden)
	}
	for name, c := range map[string]struct {
		flags loadFlags
		want  []string // service@address
		code  int
	}{
		"all, in turn":      {want: []string{"billing@127.0.0.1:8443", "failing@127.0.0.1:8443", "many@127.0.0.1:8443", "routed@127.0.0.1:8443", "waiting@127.0.0.1:8444", "wild@127.0.0.1:8445"}},
		"one service":       {flags: loadFlags{services: []string{"billing"}}, want: []string{"billing@127.0.0.1:8443"}},
		"two services":      {flags: loadFlags{services: []string{"wild", "billing"}}, want: []string{"billing@127.0.0.1:8443", "wild@127.0.0.1:8445"}},
		"one entrypoint":    {flags: loadFlags{entry: "nl"}, want: []string{"billing@127.0.0.1:8444", "routed@127.0.0.1:8444", "waiting@127.0.0.1:8444", "wild@127.0.0.1:8444"}},
		"both":              {flags: loadFlags{entry: "pl", services: []string{"billing"}}, want: []string{"billing@127.0.0.1:8445"}},
		"no such service":   {flags: loadFlags{services: []string{"billing", "bilbing"}}, code: exitNotThere},
		"no such region":    {flags: loadFlags{entry: "xx"}, code: exitNotThere},
		"refused there":     {flags: loadFlags{entry: "nl", services: []string{"failing"}}, code: exitNotThere},
		"cannot be reached": {flags: loadFlags{services: []string{"hidden"}}, code: exitNotThere},
	} {
		targets, err := c.flags.targets(round.statuses)
		var exit *exitError
		if errors.As(err, &exit) != (c.code != 0) || exit != nil && exit.code != c.code {
			t.Errorf("%s: %v, want exit code %d", name, err, c.code)
		}
		var got []string
		for _, target := range targets {
			got = append(got, target.name+"@"+target.connect)
			if target.name == "wild" && target.host != "any.shop.example.com" {
				t.Errorf("%s: host %q of a wildcard", name, target.host)
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: got %v, want %v", name, got, c.want)
		}
	}
}

// TestLoadReplaysBothFormats: what is sent is what the trace has in the window, and
// single calls keep their times.
func TestLoadReplaysBothFormats(t *testing.T) {
	made := trace.Synthetic{Functions: 30, Minutes: 90, Seed: 3}
	var counted, single bytes.Buffer
	if err := errors.Join(trace.Write(&counted, made.Minutes, made.All()), trace.WriteInvocations(&single, made.Invocations())); err != nil {
		t.Fatal(err)
	}
	flags := loadFlags{functions: 1000, from: 30, minutes: 60, speed: 60, seed: 1}
	var want uint64
	for f := range made.All() {
		want += f.Window(flags.from, flags.minutes).Total()
	}
	var starts []time.Duration
	for c := range made.Invocations() {
		if at := c.Start() - 30*time.Minute; at >= 0 {
			starts = append(starts, at/60)
		}
	}
	slices.Sort(starts)
	for name, text := range map[string][]byte{"counted": counted.Bytes(), "single": single.Bytes()} {
		flags.trace = filepath.Join(t.TempDir(), name+".csv")
		if err := os.WriteFile(flags.trace, text, 0o600); err != nil {
			t.Fatal(err)
		}
		schedules, description, err := flags.arrivals(3)
		if err != nil {
			t.Fatal(name, err)
		}
		var sent []time.Duration
		for _, s := range schedules {
			sent = slices.AppendSeq(sent, s.Times())
		}
		slices.Sort(sent)
		if uint64(len(sent)) != want || sent[len(sent)-1] >= time.Minute || !strings.Contains(description, "functions that are called in "+flags.trace+", from minute 30 to 90, at 60 times") {
			t.Errorf("%s: %d calls are sent of %d: %s", name, len(sent), want, description)
		}
		if name == "single" && !slices.Equal(sent, starts) {
			t.Errorf("single calls are sent at other times than the trace has")
		}
	}
	flags.trace, flags.from = "testdata/three.yaml", 0
	if _, _, err := flags.arrivals(3); err == nil || !strings.Contains(err.Error(), "a trace begins with") {
		t.Errorf("a file that is no trace: %v", err)
	}
}

// TestLoadRoots trusts the authority that is named, and else the state folder's.
func TestLoadRoots(t *testing.T) {
	state := t.TempDir()
	for _, root := range []string{"", "testdata/three.yaml"} {
		if _, err := (loadFlags{state: &state, root: root}).roots(gateway.Status{Region: "fr"}); err == nil {
			t.Errorf("root %q: no error, though there is no certificate", root)
		}
	}
}
