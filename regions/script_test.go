package regions

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/polder/polder"
)

var update = flag.Bool("update", false, "rewrite the expectations in testdata/*.txt; read the diff before you commit it")

// TestScripts runs the conversations of testdata: each is a sequence of
// commands with the output that is expected of each, between "----" and an empty
// line. The commands are listed at (*conversation).run.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts in testdata: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			raw, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := play(t, string(raw))
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if want := string(raw); got != want {
				t.Errorf("%s differs; -update rewrites it. First difference:\n%s", file, firstDifference(got, want))
			}
		})
	}
}

func firstDifference(got, want string) string {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range max(len(g), len(w)) {
		if i >= len(g) || i >= len(w) || g[i] != w[i] {
			return fmt.Sprintf("line %d\n got %q\nwant %q", i+1, slices.Concat(g[i:min(i+1, len(g))]), slices.Concat(w[i:min(i+1, len(w))]))
		}
	}
	return "none"
}

// play runs a script and returns it with the outputs as they really are.
func play(t *testing.T, script string) string {
	c := &conversation{tables: map[string]*Table{}, heard: map[string][]polder.PeerRow{}, now: start}
	var out strings.Builder
	lines := strings.Split(strings.TrimRight(script, "\n"), "\n")
	for i := 0; i < len(lines); i++ {
		line := lines[i]
		fmt.Fprintln(&out, line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		output := c.run(t, strings.Fields(line))
		if i+1 < len(lines) && lines[i+1] == "----" { // skip what was expected
			for i++; i < len(lines) && lines[i] != ""; i++ {
			}
			i--
		}
		if output != "" {
			fmt.Fprintf(&out, "----\n%s", output)
			if i+1 < len(lines) && lines[i+1] != "" {
				fmt.Fprintln(&out)
			}
		}
	}
	return out.String()
}

type conversation struct {
	tables map[string]*Table
	heard  map[string][]polder.PeerRow // all rows that were merged at a peer, to try them in another order
	places []polder.Region
	now    time.Time
}

// run performs one command and returns what it prints.
//
//	peer NAME region=R epoch=N         start a peer with an empty table (again: it restarted and lost its memory)
//	place REGION LATITUDE LONGITUDE    where a region is, for order
//	say NAME [healthy] [draining] [warm=a,b] [digest=D]
//	send FROM TO                       FROM tells TO all rows that it holds of itself and of peers it thinks alive
//	merge AT NAME region=R epoch=N sequence=N [healthy] …   a row out of nowhere
//	alive AT NAME region=R epoch=N     AT's failure detector vouches for NAME
//	dead AT NAME, left AT NAME         …gives it up, heard its goodbye
//	suspect AT NAME DURATION           AT's own connections to NAME fail
//	trust AT NAME                      …and succeed again
//	rtt AT NAME DURATION               a measured round trip
//	pass DURATION                      time passes for all
//	show AT                            the table and its view
//	order AT                           the regions as AT would try them
//	home AT SERVICE [REGION…]          SERVICE's home among the peers of the regions
func (c *conversation) run(t *testing.T, words []string) string {
	t.Helper()
	arg := func(i int) string {
		if i >= len(words) {
			t.Fatalf("%q: a word is missing", strings.Join(words, " "))
		}
		return words[i]
	}
	table := func(i int) *Table {
		found, ok := c.tables[arg(i)]
		if !ok {
			t.Fatalf("%q: no such peer", strings.Join(words, " "))
		}
		return found
	}
	duration := func(i int) time.Duration {
		d, err := time.ParseDuration(arg(i))
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	news := func(changed bool) string {
		if changed {
			return "changed\n"
		}
		return "no change\n"
	}
	switch words[0] {
	case "peer":
		row := c.row(t, arg(1), words[2:])
		c.tables[row.Peer] = NewTable(row.Peer, row.Region, row.Epoch, DefaultDamping(), 10*time.Minute, c.now)
		c.heard[row.Peer] = nil
		return ""
	case "place":
		var at polder.Location
		fmt.Sscan(arg(2), &at.Latitude)
		fmt.Sscan(arg(3), &at.Longitude)
		c.places = append(c.places, polder.Region{Name: polder.RegionName(arg(1)), Location: at})
		return ""
	case "say":
		said, changed := table(1).Say(c.row(t, arg(1), words[2:]), c.now)
		return fmt.Sprintf("%s%s\n", news(changed), rowText(said))
	case "send":
		out := ""
		for _, peer := range table(1).Tellable() {
			row, err := Decode(table(1).Encoded(peer))
			if err != nil {
				t.Fatal(err)
			}
			out += fmt.Sprintf("%s: %s\n", rowText(row), c.merge(arg(2), table(2), row))
		}
		return out
	case "merge":
		return c.merge(arg(1), table(1), c.row(t, arg(2), words[3:])) + "\n"
	case "alive":
		row := c.row(t, arg(2), words[3:])
		return news(table(1).Alive(row.Peer, row.Region, row.Epoch, c.now))
	case "dead":
		return news(table(1).Dead(arg(2), c.now))
	case "left":
		return news(table(1).Left(arg(2), c.now))
	case "suspect":
		return news(table(1).Suspect(arg(2), c.now.Add(duration(3)), c.now))
	case "trust":
		return news(table(1).Trust(arg(2), c.now))
	case "rtt":
		return news(table(1).Measured(arg(2), duration(3)))
	case "pass":
		c.now = c.now.Add(duration(1))
		out := ""
		for _, name := range slices.Sorted(maps.Keys(c.tables)) {
			if c.tables[name].Advance(c.now) {
				out += name + " changed\n"
			}
		}
		return out
	case "show":
		return c.show(arg(1), table(1))
	case "order":
		var from polder.Location
		for _, p := range c.places {
			if p.Name == table(1).Own().Region {
				from = p.Location
			}
		}
		return join(Order(from, c.places, See(table(1).Peers()))) + "\n"
	case "home":
		candidates := Candidates(table(1).Peers(), func(r polder.RegionName) bool { return slices.Contains(words[3:], string(r)) })
		home, ok := Home(polder.ServiceName(arg(2)), candidates)
		if !ok {
			return "none\n"
		}
		return home + "\n"
	}
	t.Fatalf("unknown command %q", words[0])
	return ""
}

func (c *conversation) merge(at string, table *Table, row polder.PeerRow) string {
	c.heard[at] = append(c.heard[at], row)
	return string(table.Merge(row, c.now))
}

// row reads the words of a row.
func (c *conversation) row(t *testing.T, peer string, words []string) polder.PeerRow {
	t.Helper()
	row := polder.PeerRow{Peer: peer}
	for _, w := range words {
		key, value, _ := strings.Cut(w, "=")
		number, _ := strconv.ParseUint(value, 10, 64)
		switch key {
		case "region":
			row.Region = polder.RegionName(value)
		case "epoch":
			row.Epoch = number
		case "sequence":
			row.Sequence = number
		case "healthy":
			row.Healthy = true
		case "draining":
			row.Draining = true
		case "digest":
			row.Digest = value
		case "warm":
			for s := range strings.SplitSeq(value, ",") {
				row.Warm = append(row.Warm, polder.ServiceName(s))
			}
		default:
			t.Fatalf("unknown word %q", w)
		}
	}
	return row
}

func rowText(r polder.PeerRow) string {
	s := fmt.Sprintf("%s %d.%d", r.Peer, r.Epoch, r.Sequence)
	if r.Healthy {
		s += " healthy"
	}
	if r.Draining {
		s += " draining"
	}
	if len(r.Warm) > 0 {
		s += fmt.Sprintf(" warm=%v", r.Warm)
	}
	if r.Digest != "" {
		s += " digest=" + r.Digest
	}
	return s
}

// show prints a table and, only if a promise is broken, one more line: another
// order of the same messages would have left other rows.
func (c *conversation) show(at string, table *Table) string {
	out := ""
	peers := table.Peers()
	for _, p := range peers {
		state := "unusable"
		if p.Usable {
			state = "usable"
			if !p.Steady {
				state = "usable, flapping"
			}
		}
		out += fmt.Sprintf("%s (%s): %s, %s since %v", rowText(p.Row), p.Row.Region, p.Standing, state, p.Since.Sub(start))
		if p.RTT > 0 {
			out += fmt.Sprintf(", rtt %v", p.RTT)
		}
		out += "\n"
	}
	view := See(peers)
	out += fmt.Sprintf("health %v unsteady %v rtt %v\n", view.Health, view.Unsteady, view.RTT)

	backward := NewTable(at, table.Own().Region, 1, DefaultDamping(), 10*time.Minute, c.now)
	for _, row := range slices.Backward(c.heard[at]) {
		backward.Merge(row, c.now)
	}
	for _, row := range rowsOf(table) {
		i := slices.IndexFunc(rowsOf(backward), func(r polder.PeerRow) bool { return r.Peer == row.Peer })
		if i < 0 || !equalRows(rowsOf(backward)[i], row) {
			out += fmt.Sprintf("BROKEN: backward the row of %s would be %v\n", row.Peer, rowsOf(backward))
		}
	}
	return out
}
