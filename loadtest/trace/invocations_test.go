package trace

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

const callHeader = "app,func,end_timestamp,duration\n"

func TestReadInvocations(t *testing.T) {
	text := callHeader + "a,f,57.5,57.25\nb,g,0.0795,0.078\n\na,f,1e2,0\n"
	var got []Invocation
	for i, err := range ReadInvocations(strings.NewReader(text), "t.csv") {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, i)
	}
	want := []Invocation{
		{"a", "f", 57500 * time.Millisecond, 57250 * time.Millisecond},
		{"b", "g", 79500 * time.Microsecond, 78 * time.Millisecond},
		{"a", "f", 100 * time.Second, 0},
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if at := got[0].Start(); at != 250*time.Millisecond {
		t.Errorf("start %v", at)
	}
}

func TestReadInvocationsFaults(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"nothing", "", "t.csv:1:1: the file is empty; it begins with the header app,func,end_timestamp,duration"},
		{"other header", "app,function\n", `t.csv:1:5: the header has column "function" where func should be`},
		{"short header", "app,func\n", `t.csv:1:9: the header ends where column end_timestamp should be`},
		{"long header", "app,func,end_timestamp,duration,cost\n", `t.csv:1:33: the header has a column "cost" too many`},
		{"not a number", callHeader + "a,f,soon,1\n", `t.csv:2:5: end_timestamp "soon" is not a number of seconds`},
		{"negative", callHeader + "a,f,5,-1\n", `t.csv:2:7: duration "-1"`},
		{"infinite", callHeader + "a,f,+Inf,1\n", `t.csv:2:5: end_timestamp "+Inf"`},
		{"NaN", callHeader + "a,f,NaN,1\n", `t.csv:2:5: end_timestamp "NaN"`},
		{"too far", callHeader + "a,f,1e300,1\n", `t.csv:2:5: end_timestamp "1e300"`},
		{"short row", callHeader + "a,f,1\n", `t.csv:2:6: the row ends where column duration should be`},
		{"long row", callHeader + "a,f,1,1,1\n", `t.csv:2:9: the row has a column "1" too many`},
	} {
		t.Run(c.name, func(t *testing.T) {
			var faults []string
			for _, err := range ReadInvocations(strings.NewReader(c.text), "t.csv") {
				if err != nil {
					faults = append(faults, err.Error())
				}
			}
			if len(faults) != 1 || !strings.HasPrefix(faults[0], c.want) {
				t.Errorf("faults %q, want one with %q", faults, c.want)
			}
		})
	}
}

func genInvocations(t *rapid.T) []Invocation {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Invocation {
		duration := time.Duration(rapid.Int64Range(0, int64(10*time.Minute)).Draw(t, "duration"))
		return Invocation{
			App: rapid.SampledFrom([]string{"a", "b"}).Draw(t, "app"), Function: rapid.SampledFrom([]string{"f", "g", "h"}).Draw(t, "function"),
			End: duration + time.Duration(rapid.Int64Range(0, int64(time.Hour)).Draw(t, "start")), Duration: duration,
		}
	}), 1, 60).Draw(t, "invocations")
}

// Nanoseconds survive the way through decimal seconds.
func TestInvocationsRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := genInvocations(t)
		var text bytes.Buffer
		text.WriteString(callHeader)
		for _, i := range want {
			fmt.Fprintf(&text, "%s,%s,%.9f,%.9f\n", i.App, i.Function, i.End.Seconds(), i.Duration.Seconds())
		}
		var got []Invocation
		for i, err := range ReadInvocations(&text, "t.csv") {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, i)
		}
		if !slices.Equal(got, want) {
			t.Fatalf("got %v, want %v", got, want)
		}
	})
}

func invocationStream(invocations []Invocation) iter.Seq2[Invocation, error] {
	return func(yield func(Invocation, error) bool) {
		for _, i := range invocations {
			if !yield(i, nil) {
				return
			}
		}
	}
}

// Picking everything conserves the calls of the window, in order, and counts
// them in the minute of their start.
func TestSelectInvocations(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := genInvocations(t)
		s := Selection{From: rapid.IntRange(0, 30).Draw(t, "from"), Minutes: rapid.IntRange(0, 40).Draw(t, "minutes")}
		inside := 0
		for _, i := range all {
			at := i.Start() - time.Duration(s.From)*time.Minute
			if at >= 0 && (s.Minutes == 0 || at < time.Duration(s.Minutes)*time.Minute) {
				inside++
			}
		}
		got, err := SelectInvocations(invocationStream(all), 6, s)
		if inside == 0 {
			if err == nil {
				t.Fatal("no call is in the window, and nothing was said")
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		calls, counted := 0, uint64(0)
		for _, q := range got.Functions {
			calls += len(q.Starts)
			counted += q.PerMinute(got.Minutes).Total()
			if !slices.IsSorted(q.Starts) {
				t.Fatalf("not in the order of starts: %v", q.Starts)
			}
		}
		if calls != inside || counted != uint64(inside) {
			t.Fatalf("%d calls in the window, %d picked, %d counted by minute", inside, calls, counted)
		}
	})
}

func TestSelectInvocationsFaults(t *testing.T) {
	broken := &SyntaxError{File: "t.csv", Line: 2, Column: 1, Reason: "bad"}
	_, err := SelectInvocations(func(yield func(Invocation, error) bool) { yield(Invocation{}, broken) }, 1, Selection{})
	if !errors.As(err, &broken) {
		t.Errorf("error %v", err)
	}
	if _, err := SelectInvocations(invocationStream(nil), 1, Selection{Weight: func(Function) float64 { return 1 }}); err == nil {
		t.Error("weights were taken in silence")
	}
}

func FuzzReadInvocations(f *testing.F) {
	f.Add([]byte(callHeader + "a,f,57.5,57.25\nb,g,0.0795,0.078\n"))
	f.Add([]byte(callHeader + "a,f,1e308,0x1p-2\n\n,,,\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		for i, err := range ReadInvocations(bytes.NewReader(text), "t.csv") {
			if syntax := (*SyntaxError)(nil); err != nil && !errors.As(err, &syntax) {
				t.Fatalf("reading from memory failed: %v", err)
			}
			if i.Duration < 0 || i.End < 0 || i.Start() > i.End {
				t.Fatalf("impossible call %+v", i)
			}
		}
	})
}

func TestReadWeights(t *testing.T) {
	got, err := ReadWeights(strings.NewReader("HashFunction,weight\nf,1.375\ng,0\n"), "w.csv")
	if err != nil || len(got) != 2 || got["f"] != 1.375 || got["g"] != 0 {
		t.Errorf("got %v, %v", got, err)
	}
	for _, c := range []struct{ text, want string }{
		{"", "w.csv:1:1: the file is empty"},
		{"HashFunction,weight\nf\n", "w.csv:2:2: the row ends where column weight should be"},
		{"HashFunction,weight\nf,-1\n", `w.csv:2:3: the weight "-1"`},
		{"HashFunction,weight\nf,NaN\n", `w.csv:2:3: the weight "NaN"`},
		{"HashFunction,weight\nf,1,2\n", "w.csv:2:5: the row has a column"},
		{"HashFunction,weight\nf,1\nf,1\n", "w.csv:3:1: function f has two weights"},
	} {
		if _, err := ReadWeights(strings.NewReader(c.text), "w.csv"); err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%q: error %v, want %q", c.text, err, c.want)
		}
	}
}

func FuzzReadWeights(f *testing.F) {
	f.Add([]byte("HashFunction,weight\nf,1.375\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		weights, err := ReadWeights(bytes.NewReader(text), "w.csv")
		if err != nil && err != io.EOF {
			return
		}
		for name, weight := range weights {
			if !(weight >= 0) {
				t.Fatalf("weight %v of %q", weight, name)
			}
		}
	})
}
