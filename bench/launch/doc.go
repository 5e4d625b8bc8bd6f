// Package launch runs the regions of a configuration for a benchmark, as polder
// up does: a real polder process, a real Envoy and real instances for each, in a
// folder that is gone afterwards.
//
// # Concurrency and failure
//
// Run blocks, owns all that it starts, and returns when none of it is left. Every
// wait has a deadline; an error carries the last lines that the regions logged.
// A Site is safe for concurrent use while Run's function runs.
package launch
