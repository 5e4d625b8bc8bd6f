// Package audit holds a running Envoy against what was proved and published:
// the law is worth what the proxies do, not what they were told.
//
// An audit reads Envoy's own configuration dump and runtime values, and accounts
// for every listener, cluster, route, scope, load assignment and secret in them.
// Each must be, byte for byte, what the control plane sent and the Envoy
// accepted; the bootstrap must be ours; and the proof must hold over what was
// dumped. What is foreign, changed, missing or not understood is a Drift. No
// drift can come from the control plane, because everything passes the gate: it
// means a second control plane or another hand.
//
// While something is being published, or the Envoy is not connected, an audit
// cannot know what it should find. It waits for a quiet moment; if none comes
// it looks for what was never published at all, and says that it was not
// settled. A drift is told only when a second look finds it again, so that
// moments between two versions raise no alarm.
//
// A Mirror is told of every publication, by one goroutine, and read by any. An
// Auditor is safe for concurrent use, and does one audit at a time. Run owns no
// goroutine but its caller's. Package gateway calls it.
package audit
