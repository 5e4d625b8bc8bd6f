// Package policy compares policies that decide when a service has a warm
// instance, by replaying a recorded trace in virtual time.
//
// The policy of this project is not modelled: the simulator calls the
// production step functions of package prewarm, as the gateway does. Beside it
// run those of the literature: no keep-alive, a fixed keep-alive, the hybrid
// histogram (Shahrad et al., USENIX ATC 2020), greedy-dual caching (Fuerst and
// Sharma, FaasCache, ASPLOS 2021), a KPA-like window, and an oracle.
//
// # Definitions
//
// Time is cut into minute slots. A function has at most one instance, a call
// takes no time and falls in the middle of its slot, and a start takes none.
// Minutes before Options.From warm the policies up; those from From up to To,
// not included, are counted.
//
//   - A slot is active if it has calls. An active slot is cold if no instance
//     was warm when it began. Cold share is cold slots / active slots: in
//     total, as the mean over functions, and as their 75th percentile.
//   - Per invocation: one call of each cold slot waits, / all calls.
//   - Waste is the warm slots without calls, divided by those of a keep-alive
//     of ten minutes over the same functions and slots.
//   - A load is a start: in a cold slot, or for a warm slot that follows one
//     with neither a call nor a warm instance.
//   - Euros price the warm and active slots, at Options.Prices.
//
// A trace of single calls (the 2021 format) is simulated a second time, call by
// call: each takes its duration and a place at an instance, which has
// Options.Concurrency of them, and each start takes Options.StartUp. A call is cold
// if no ready instance has a place when it arrives; it then waits for the first
// place, at an instance that starts or at one whose call ends. (In production it
// may find a full instance for the second that a load report takes.)
// Each policy is asked whenever a call arrives or ends, an instance becomes ready, or
// a decision falls due. Waste is instance time without a call, relative to a
// keep-alive of ten minutes. Fixed keep-alives, the KPA-like window and the predictor
// are prewarm.Step. The hybrid histogram decides about the one instance that is kept
// while nobody calls, by idle times from the end of the last call; what calls in
// progress need, prewarm.Step sizes for it. Greedy-dual starts an instance for each
// call that finds no place, and ends an idle one only to make room. The oracle has an
// instance ready whenever a call needs one, and ends it with its last call.
//
// With Options.Weights every function counts as often as its weight says, in
// all figures.
//
// # Concurrency, memory and failure
//
// Run blocks, spreads functions over its workers and ends with the context.
// Equal options give equal reports, whatever the number of workers. Memory is
// bounded by the number of functions: some numbers for each and each policy,
// and, for greedy-dual alone, which looks at all functions at one instant, a
// bit for each minute of each function. Of single calls those are held that are in
// progress, and those that a file that is out of order may still put others before:
// of the last twenty minutes, a quarter of a million at the most. A malformed row ends the run with the
// reader's error.
package policy
