package main

import (
	"errors"
	"slices"
	"testing"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway"
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

// TestLoadRoots trusts the authority that is named, and else the state folder's.
func TestLoadRoots(t *testing.T) {
	state := t.TempDir()
	for _, root := range []string{"", "testdata/three.yaml"} {
		if _, err := (loadFlags{state: &state, root: root}).roots(gateway.Status{Region: "fr"}); err == nil {
			t.Errorf("root %q: no error, though there is no certificate", root)
		}
	}
}
