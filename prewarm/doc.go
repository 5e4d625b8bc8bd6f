// Package prewarm decides how many instances of a service should run in one
// region, from when, until when, and at which cost.
//
// It is a pure core. Every function takes the present instant and its
// observations as arguments and returns a value; nothing here reads a clock,
// draws a random number, starts a goroutine, opens a file or a socket. The
// gateway's reconciler calls [Step] for the real instances, and bench/policy
// calls the same function in virtual time over recorded traces.
//
// # The loop of the caller
//
// One goroutine owns the [State] of a service. Whenever something happened
// (requests arrived, a load report came, an instance became ready or stopped)
// and at the latest at [Decision.Until], it calls Step with an [Observation]
// and brings the number of instances to [Decision.Desired]. The decision is an
// idempotent description: performing it twice is harmless, and one that was
// not performed is simply made again.
//
// # Concurrency and failure
//
// A State is not safe for concurrent use. Different States share nothing, so
// any number of services may be stepped in parallel. No function returns an
// error or panics on any input, [State.UnmarshalBinary] aside, which refuses
// bytes that it did not write. Decide is total: a service that nothing is
// known of gets the answer "not enough data" and a fixed keep-alive.
//
// # Bounds
//
// A State takes at most [StateBytes] bytes, however long the service lives.
package prewarm
