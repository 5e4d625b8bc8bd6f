// Package live holds the policy simulator against real instances: it replays a
// part of a recorded trace over the regions that polder up runs, with real
// Envoys and real processes, faster than it was, and compares how often callers
// found no warm instance with what bench/policy says of the same functions and
// minutes.
//
// # How a day passes in an hour
//
// The regions run the production code; only the predictor's clock is replaced
// (gateway.Tempo): it shows the trace's time and runs Options.Speed times as
// fast, so that slots, keep-alives, windows, lead times and schedules all shrink
// alike, and load reports come as much oftener. Starts, Envoy and the network
// take the time that they take. The minutes before Options.From less LeadIn are
// learned by the simulator and handed to the regions as what they learned
// earlier; those of LeadIn are played and not counted, since the regions begin
// without an instance.
//
// # Definitions
//
// As in bench/policy: calls fall about the middle of their slot, at a phase that is
// each function's own; a slot with calls is cold if its first one found no warm
// instance, which callers tell by x-polder-cold. At most Options.Calls calls of a
// slot are made, in the simulation as well: what a slot's later calls find says
// nothing of the policy. Every service has a connection that was opened before
// its first call, since a ClientHello would wake it.
//
// # Concurrency and failure
//
// Run blocks, with a goroutine for each service, and returns when nothing that
// it started is left. Calls follow the clock and not each other, but a service's
// next one waits for the one before; how late calls were is part of the report.
package live
