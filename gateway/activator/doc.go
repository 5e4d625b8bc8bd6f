// Package activator holds requests for services that have no ready instance,
// has one started, and forwards each request the moment it can be answered.
//
// Envoy sends a request here while a service's cluster has no endpoint of
// priority 0; the activator's socket is the cluster's last priority. The
// request header x-polder-service, which Envoy sets and overwrites, names the
// service. Programs that call without an Envoy come by another way (ServeHosts),
// on which the host that they call names it. Every x-polder-* header is removed before an instance sees the
// request; all else arrives as on the warm path.
//
// # What it promises
//
//   - Holding is bounded in requests, bytes and time, for cold and saturated
//     services apart, and one service leaves at least as much room free as it
//     takes. What does not fit is refused at once with a label.
//   - A held request's body is not read: it waits in Envoy, behind flow control.
//     A held request costs at most 32 KiB of memory here and its header, over
//     HTTP/2 up to one receive window (64 KiB) more; both are charged to the budget beforehand.
//   - A caller that leaves frees its share at once, also with an unread body.
//   - A request reaches at most one instance: it is tried again only while
//     nothing of it was sent. No connection to an instance is kept without a
//     request on it, so none is met that died while it was idle.
//   - Callers learn a reason of a fixed list; the cause goes to the log.
//   - Each request that waited for a start is in the ledger with its phases, and
//     the phases sum to the time from its arrival to its first byte.
//
// # Concurrency and failure
//
// All methods may be called from any goroutine. Serve owns its goroutines and
// returns when they have ended; several listeners can be served at a time. The
// Wake function is called once per held request, concurrently: making that one
// start per service is the caller's matter. Wake must return when its context
// ends.
//
// The gateway calls it and connects Wake with the instances.
package activator
