package testbed

import (
	"testing"
	"time"
)

func TestWeather(t *testing.T) {
	paris, lyon, amsterdam := end{name: "fr-1", region: "fr"}, end{name: "fr-2", region: "fr"}, end{name: "nl-1", region: "nl"}
	caller := end{name: "callers-fr", region: "fr", caller: true}
	for _, c := range []struct {
		why      string
		links    []Link
		from, to end
		delay    time.Duration // 0 means that it never comes
	}{
		{"a fine day", nil, paris, amsterdam, 5 * time.Millisecond},
		{"and back", nil, amsterdam, paris, 5 * time.Millisecond},
		{"within a region", nil, paris, lyon, nearby},
		{"a caller in the region", nil, caller, paris, nearby + lastMile},
		{"a caller far away", nil, caller, amsterdam, 5*time.Millisecond + lastMile},
		{"a cut between regions", []Link{{"fr", "nl", 1}}, paris, amsterdam, 0},
		{"… is in one direction", []Link{{"fr", "nl", 1}}, amsterdam, paris, 5 * time.Millisecond},
		{"… and not for callers", []Link{{"fr", "nl", 1}}, caller, amsterdam, 5*time.Millisecond + lastMile},
		{"… nor within the region", []Link{{"fr", "nl", 1}}, paris, lyon, nearby},
		{"a machine off the network", []Link{{"fr-1", "*", 1}, {"*", "fr-1", 1}}, caller, paris, 0},
		{"… and nothing comes from it", []Link{{"fr-1", "*", 1}, {"*", "fr-1", 1}}, paris, lyon, 0},
		{"… while its neighbour is on it", []Link{{"fr-1", "*", 1}, {"*", "fr-1", 1}}, amsterdam, lyon, 5 * time.Millisecond},
		{"loss of nothing", []Link{{"*", "*", 0}}, paris, amsterdam, 5 * time.Millisecond},
	} {
		w := newWeather(Europe(), 1)
		clear := w.set(c.links)
		delay, comes := w.carry(c.from, c.to)
		if comes != (c.delay > 0) || comes && delay != c.delay {
			t.Errorf("%s: %v, %v; want %v", c.why, delay, comes, c.delay)
		}
		clear()
		clear() // a second time changes nothing
		if _, comes := w.carry(c.from, c.to); !comes || len(w.links) > 0 {
			t.Errorf("%s: it stays after it was cleared", c.why)
		}
	}
}

func TestLossFollowsTheSeed(t *testing.T) {
	lost := func(seed uint64) (n int, pattern string) {
		w := newWeather(Europe(), seed)
		w.set([]Link{{"fr", "nl", 0.2}})
		for range 10_000 {
			if _, comes := w.carry(end{name: "fr-1", region: "fr"}, end{name: "nl-1", region: "nl"}); comes {
				pattern += "."
			} else {
				pattern += "x"
				n++
			}
		}
		return n, pattern
	}
	n, first := lost(7)
	_, again := lost(7)
	if first != again {
		t.Error("one seed loses different packets")
	}
	if n < 1800 || n > 2200 { // five standard deviations
		t.Errorf("of 10000 packets %d were lost, at 20 %%", n)
	}
}

func TestOptionsAreChecked(t *testing.T) {
	o := DefaultOptions()
	o.Polder, o.Tools, o.Dir, o.Peers, o.RestartAfter = "polder", "/tools", "/dir", 10, -1
	if err := o.Validate(); err == nil || len(err.Error()) < 100 {
		t.Errorf("got %v, want three faults", err)
	}
}
