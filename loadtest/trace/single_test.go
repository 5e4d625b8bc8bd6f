package trace

import (
	"bytes"
	"slices"
	"testing"
	"time"
)

// TestSyntheticInvocations: single calls are those of the counts, in order, and
// survive being written.
func TestSyntheticInvocations(t *testing.T) {
	s := Synthetic{Functions: 30, Minutes: 240, Seed: 4}
	calls := slices.Collect(s.Invocations())
	if again := slices.Collect(s.Invocations()); !slices.Equal(calls, again) {
		t.Error("equal seeds make other calls")
	}
	if !slices.IsSortedFunc(calls, func(a, b Invocation) int { return int(a.Start() - b.Start()) }) {
		t.Error("calls are not in the order of their starts")
	}
	counts := map[string][]uint32{}
	for _, c := range calls {
		if counts[c.Function] == nil {
			counts[c.Function] = make([]uint32, s.Minutes)
		}
		counts[c.Function][c.Start()/time.Minute]++
		if c.Duration < 0 || c.Duration > maxTakes {
			t.Errorf("a call takes %s", c.Duration)
		}
	}
	for f := range s.All() {
		if !slices.Equal(counts[f.Name], f.Counts) {
			t.Errorf("%s is called at other minutes", f.Name)
		}
	}
	var text bytes.Buffer
	if err := WriteInvocations(&text, slices.Values(calls)); err != nil {
		t.Fatal(err)
	}
	i := 0
	for c, err := range ReadInvocations(&text, "t.csv") {
		if err != nil || c != calls[i] {
			t.Fatalf("call %d is read as %+v, %v, want %+v", i, c, err, calls[i])
		}
		i++
	}
	if i != len(calls) || i == 0 {
		t.Errorf("%d of %d calls were read", i, len(calls))
	}
	for _, bad := range []Invocation{{App: "a,b", Function: "f"}, {App: "a"}, {App: "a", Function: "f", Duration: -1}} {
		if err := WriteInvocations(&text, slices.Values([]Invocation{bad})); err == nil {
			t.Errorf("%+v was written", bad)
		}
	}
}
