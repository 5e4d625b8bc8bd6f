// Package cold measures what callers of sleeping services feel, on a real
// region: the command's own process per region, a real Envoy, real programs.
//
// Each figure stands beside the one without Polder that it must be compared
// with: the same program started bare, in turn with the cold requests, so that
// a busy machine slows both. It measures
//
//   - starts: a bare start to the first 200, against the first request of a
//     sleeping service through Envoy, on a connection that was open before;
//   - hellos: how much of a start is hidden when the ClientHello wakes the
//     service, at several distances of the caller (a relay that delays);
//   - crowds: many callers of one sleeper, many sleepers at once, and sleepers
//     that are called just as they fall asleep.
//
// Run blocks, ends all that it started, and removes its files. It is called by
// the command "polder bench cold" and by nobody else.
package cold
