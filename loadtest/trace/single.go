package trace

import (
	"bufio"
	"fmt"
	"io"
	"iter"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Invocations yields the calls of All one by one, in the order of their starts,
// each somewhere in its minute and with a duration. Durations are log-normal, as
// those of Azure Functions are (Shahrad et al., USENIX ATC 2020, figure 7): a
// function's median is drawn once, between 10 ms and 10 s, and its calls spread
// about it. The memory is that of the counts.
func (s Synthetic) Invocations() iter.Seq[Invocation] {
	return func(yield func(Invocation) bool) {
		functions := slices.Collect(s.All())
		draws, medians := make([]*rand.Rand, len(functions)), make([]float64, len(functions))
		for i, f := range functions {
			draws[i] = rand.New(rand.NewPCG(s.Seed, mix(s.Seed, "durations", f.Name)))
			medians[i] = 0.01 * math.Pow(1000, draws[i].Float64())
		}
		var calls []Invocation
		for m := range s.Minutes {
			calls = calls[:0]
			for i, f := range functions {
				for range f.Counts[m] {
					start := time.Duration((float64(m) + draws[i].Float64()) * float64(time.Minute)).Round(time.Millisecond)
					start = min(start, time.Duration(m+1)*time.Minute-time.Millisecond)
					takes := min(medians[i]*math.Exp(0.7*draws[i].NormFloat64()), maxTakes.Seconds())
					duration := time.Duration(takes * float64(time.Second)).Round(time.Millisecond)
					calls = append(calls, Invocation{App: f.App, Function: f.Name, End: start + duration, Duration: duration})
				}
			}
			slices.SortStableFunc(calls, func(a, b Invocation) int { return int(a.Start() - b.Start()) })
			for _, c := range calls {
				if !yield(c) {
					return
				}
			}
		}
	}
}

// maxTakes bounds the duration of a synthetic call.
const maxTakes = 10 * time.Minute

// WriteInvocations writes calls in the layout that ReadInvocations reads. It fails
// at the first one that the format cannot hold.
func WriteInvocations(w io.Writer, calls iter.Seq[Invocation]) error {
	out := bufio.NewWriter(w)
	fmt.Fprintln(out, strings.Join(invocationColumns[:], ","))
	for c := range calls {
		for _, name := range []string{c.App, c.Function} {
			if name == "" || !utf8.ValidString(name) || strings.ContainsFunc(name, notInName) {
				return fmt.Errorf("write trace: a call of function %q: the format cannot hold %q", c.Function, name)
			}
		}
		if c.Duration < 0 || c.End < 0 {
			return fmt.Errorf("write trace: a call of function %q ends at %s after %s: neither may be negative", c.Function, c.End, c.Duration)
		}
		if _, err := fmt.Fprintf(out, "%s,%s,%.9f,%.9f\n", c.App, c.Function, c.End.Seconds(), c.Duration.Seconds()); err != nil {
			return fmt.Errorf("write trace: %w", err)
		}
	}
	if err := out.Flush(); err != nil {
		return fmt.Errorf("write trace: %w", err)
	}
	return nil
}
