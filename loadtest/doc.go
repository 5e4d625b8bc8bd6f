// Package loadtest sends requests on an open-loop schedule and records exactly
// what came back.
//
// Open loop means that the times of sending do not depend on the replies: a
// server that stalls does not slow the load down. The latency of a request
// counts from its intended time, when it should have left, so that a stall shows
// in every request that it delayed and not only in those that happened to be
// under way (the flaw called coordinated omission).
//
// Run takes a Plan (targets with their Arrivals) and Options, blocks until the
// last reply, and returns a Report. It owns every goroutine that it starts and
// has ended them when it returns. Ending its context stops it gracefully:
// nothing further leaves, what is under way may finish within Options.Grace, and
// the Report covers what happened until then.
//
// Everything is bounded: requests in progress, arrivals that wait for a place,
// distinct error texts, points of a time series. What a bound keeps from being
// sent is counted as dropped, what leaves late is counted as late; no arrival
// disappears. For every summary of a report
//
//	Scheduled = Sent + Dropped + Abandoned
//	Sent      = Answered + Failed + Interrupted
//
// The values that shape load (Constant, Ramp, Sine, Replay, ReplayCalls) are
// pure: the same value yields the same schedule each time. A Report is a value
// with a stable, versioned JSON form (Report.WriteJSON, ReadReport), a text form
// for terminals and a self-contained page; two reports are held against each
// other by Compare.
//
// The callers are `polder load` and `polder bench`. The package imports nothing
// of Polder but its own trace reader.
package loadtest
