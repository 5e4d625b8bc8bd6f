package trace_test

import (
	"bytes"
	"fmt"
	"log"

	"github.com/polder/polder/loadtest/trace"
)

// A slice of a trace: ten functions that are called in the second hour.
func ExampleSelect() {
	var file bytes.Buffer // in earnest: trace.Open("invocations_per_function_md.anon.d01.csv.xz")
	made := trace.Synthetic{Functions: 200, Minutes: trace.MinutesPerDay, Seed: 1}
	if err := trace.Write(&file, made.Minutes, made.All()); err != nil {
		log.Fatal(err)
	}

	slice, err := trace.Select(trace.Read(&file, "synthetic.csv"), 10, trace.Selection{From: 60, Minutes: 60, Seed: 42})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%d of %d functions that are called in the window, of %d in the trace\n",
		len(slice.Functions), slice.Eligible, slice.Read)
	for i, hand := range trace.Assign(slice.Functions, 3) {
		fmt.Printf("target %d replays %d functions\n", i, len(hand))
	}
	// Output:
	// 10 of 127 functions that are called in the window, of 200 in the trace
	// target 0 replays 4 functions
	// target 1 replays 3 functions
	// target 2 replays 3 functions
}
