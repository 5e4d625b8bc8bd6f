// Package envoy finds, starts and supervises the stock Envoy of one region.
//
// Find looks for the one version that Polder is tested with. A Supervisor keeps
// one Envoy of that version running: it restarts it when it ends, with a pause
// that doubles up to half a minute, merges its log into ours, and tells every
// change of its state. Admin speaks with its admin interface over a Unix
// socket.
//
// # What survives whom
//
// Envoy is started through package process, so it outlives a crash of its
// Supervisor and serves on. The next Supervisor on the same folder adopts it if
// its program's file, options and bootstrap are the same; otherwise a successor is
// started beside it, shares its ports, and takes over once it is live: the
// kernel is told to give it every new connection, so that none is lost in the
// old one's sockets, and the old one drains: it ends when its clients have left,
// or some seconds later when what they left open is idle. A handshake that takes longer than
// a second (its last packet was lost twice) may still be reset with the old
// one's socket; net.ipv4.tcp_migrate_req=1 makes the kernel move it over. A
// successor that does not come up leaves the old one in place and ends Run with
// an error.
//
// When Run's context ends, Envoy stops accepting, requests in progress get
// Options.DrainTime to finish, and nothing stays behind. When it ends with the
// cause ErrHandOver, Envoy is left running for the next Supervisor.
//
// # Failure
//
// A bootstrap that Envoy rejects before it was ever live ends Run with a
// *RejectedError that holds Envoy's own words; there is no second try with the
// same bytes. Once it was live, every end is taken for an accident and
// restarted. Every wait has a deadline, every buffer and rate a bound.
//
// Methods may be called from any goroutine. At most one Supervisor may run on
// one folder at a time, which the caller ensures. Package gateway is the caller.
package envoy
