package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/polder/polder/bench/testbed"
	"github.com/polder/polder/loadtest"
)

func TestMain(m *testing.M) {
	if inside, err := testbed.Enter(); !inside {
		os.Exit(codeOf(err))
	}
	os.Exit(m.Run())
}

// TestCampaign is a campaign of one short seed on one peer for each region. It holds
// the law, and that all is well afterwards; errors that nothing excuses are for
// make chaos, on a machine that has nothing else to do.
func TestCampaign(t *testing.T) {
	dir := t.TempDir()
	polder := filepath.Join(dir, "polder")
	if said, err := exec.Command("go", "build", "-o", polder, "../../cmd/polder").CombinedOutput(); err != nil {
		t.Fatalf("building polder: %v\n%s", err, said)
	}
	var out bytes.Buffer
	failed, err := campaign(t.Context(), []string{"--polder", polder, "--tools", "../../.tools", "--samples", "../../examples",
		"--peers", "1", "--faults", "3", "--disks=false", "--lenient", "--seed", "1"}, &out)
	if err != nil || failed > 0 || !strings.Contains(out.String(), "seed 1: passed") {
		t.Errorf("%v\n%s", err, out.String())
	}
}

func TestSharesAreAllSeedsOnce(t *testing.T) {
	for _, c := range []struct {
		seeds uint64
		n     int
		want  []share
	}{
		{10, 1, []share{{5, 10}}}, {10, 2, []share{{5, 5}, {10, 5}}}, {10, 3, []share{{5, 4}, {9, 3}, {12, 3}}},
		{2, 4, []share{{5, 1}, {6, 1}}}, {0, 2, nil}, {3, 0, nil},
	} {
		if got := shares(5, c.seeds, c.n); !slices.Equal(got, c.want) {
			t.Errorf("%d seeds among %d: %v, want %v", c.seeds, c.n, got, c.want)
		}
	}
}

// The checker is held against results that a campaign must not let pass.
func TestTheCheckerSees(t *testing.T) {
	answered := func(target, note string, status int) loadtest.Result {
		return loadtest.Result{Target: target, Outcome: loadtest.Answered, Status: status, Note: note, Sent: 10 * time.Second, Done: 11 * time.Second}
	}
	failed := func(target, why string) loadtest.Result {
		return loadtest.Result{Target: target, Outcome: loadtest.Failed, Error: why, Sent: 10 * time.Second, Done: 11 * time.Second}
	}
	everywhere := func(call) bool { return true }
	for _, c := range []struct {
		why                 string
		result              loadtest.Result
		excuse              excuse
		unlawful, unexcused int
		silences            []silence
	}{
		{"an answer from where it belongs", answered("pinned fr-1 fr", "region fr pinned", 200), excuse{}, 0, 0, nil},
		{"an answer from where it must not be", answered("pinned nl-1 nl", "region nl pinned", 200), excuse{}, 1, 0, nil},
		{"… whatever happens", answered("pinned nl-1 nl", "region nl pinned", 200), excuse{end: time.Hour, holds: everywhere}, 1, 0, nil},
		{"a standby whose turn it is", answered("standby fr-1 fr", "region nl standby", 200), excuse{}, 0, 0, []silence{{"pl", "nl", 9 * time.Second, 20 * time.Second}}},
		{"a standby out of turn", answered("standby fr-1 fr", "region nl standby", 200), excuse{}, 1, 0, nil},
		{"… whatever is excused", answered("standby fr-1 fr", "region nl standby", 200), excuse{end: time.Hour, holds: everywhere}, 1, 0, nil},
		{"… after a silence", answered("standby fr-1 fr", "region nl standby", 200), excuse{}, 1, 0, []silence{{"pl", "nl", 2 * time.Second, 9 * time.Second}}},
		{"… in the silence of another", answered("standby fr-1 fr", "region nl standby", 200), excuse{}, 1, 0, []silence{{"fr", "nl", 0, time.Hour}, {"pl", "fr", 0, time.Hour}}},
		{"an error page where callers are refused", answered("vault nl-1 nl", "reason crash-loop", 503), excuse{end: time.Hour, holds: everywhere}, 1, 0, nil},
		{"an answer where callers are refused", answered("vault nl-1 nl", "region fr vault", 200), excuse{}, 1, 0, nil},
		{"a refusal", failed("vault nl-1 nl", "remote error: tls: access denied"), excuse{}, 0, 0, nil},
		{"a refusal of callers who may enter", failed("vault fr-1 fr", "remote error: tls: access denied"), excuse{}, 0, 1, nil},
		{"a refusal that is none", failed("vault nl-1 nl", "connection refused"), excuse{}, 0, 1, nil},
		{"the answer of another", answered("pinned fr-1 fr", "region fr open", 200), excuse{end: time.Hour, holds: everywhere}, 1, 0, nil},
		{"an error with a reason", answered("open fr-1 fr", "reason crash-loop", 503), excuse{}, 0, 1, nil},
		{"an error without one", answered("open fr-1 fr", "body upstream connect error", 503), excuse{kinds: []kind{labelled}, end: time.Hour, holds: everywhere}, 0, 1, nil},
		{"an error that is excused", answered("open fr-1 fr", "reason crash-loop", 503), excuse{kinds: []kind{labelled}, end: time.Hour, holds: everywhere}, 0, 0, nil},
		{"an error after what excuses it", failed("open  fr", "reset"), excuse{end: 9 * time.Second, holds: everywhere}, 0, 1, nil},
		{"an error before what excuses it", failed("open  fr", "reset"), excuse{begin: 12 * time.Second, end: time.Hour, holds: everywhere}, 0, 1, nil},
		{"an error of another than it excuses", failed("open  fr", "reset"), excuse{end: time.Hour, holds: func(c call) bool { return c.service.moody }}, 0, 1, nil},
	} {
		var excuses []excuse
		if c.excuse.holds != nil {
			excuses = append(excuses, c.excuse)
		}
		unlawful, unexcused, _ := judge([]call{callOf(c.result)}, excuses, c.silences)
		if len(unlawful) != c.unlawful || len(unexcused) != c.unexcused {
			t.Errorf("%s: %d unlawful, %d unexcused; want %d and %d", c.why, len(unlawful), len(unexcused), c.unlawful, c.unexcused)
		}
	}
}

// What the machine did is evidence only for as long as it did it, and for what follows.
func TestStallsExcuseWhatTheyUpset(t *testing.T) {
	stalls := []stall{{10 * time.Second, 10*time.Second + 500*time.Millisecond}}
	marks := traces{excuses: []excuse{{begin: 9 * time.Second, end: 11 * time.Second, holds: func(call) bool { return false }},
		{begin: 12 * time.Second, end: 13 * time.Second, holds: func(call) bool { return false }}}}
	marks.standStill(stalls, t.Logf)
	if got, want := marks.excuses[0].end, 11*time.Second+500*time.Millisecond; got != want {
		t.Errorf("what was to be noticed within 2 s has until %v, want %v: the machine stood still for half a second of them", got, want)
	}
	if got := marks.excuses[1].end; got != 13*time.Second {
		t.Errorf("a later excuse lasts until %v, want 13 s: no stall was in it", got)
	}
	for _, c := range []struct {
		begin, end time.Duration
		excused    bool
	}{
		{9 * time.Second, 10*time.Second + time.Millisecond, true},
		{12 * time.Second, 13 * time.Second, true},
		{12*time.Second + 600*time.Millisecond, 13 * time.Second, false},
		{8 * time.Second, 9 * time.Second, false},
	} {
		if got := marks.excuses[2].covers(call{begin: c.begin, end: c.end, kind: transport}); got != c.excused {
			t.Errorf("a call from %v to %v: excused %t, want %t", c.begin, c.end, got, c.excused)
		}
	}
	if len(marks.silences) > 0 {
		t.Error("half a second of the machine gives a standby its turn")
	}
	if marks.standStill([]stall{{0, 3 * time.Second}}, t.Logf); len(marks.silences) == 0 {
		t.Error("three seconds of the machine give no standby its turn, though peers are declared dead")
	}
}
