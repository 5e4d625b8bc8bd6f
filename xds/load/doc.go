// Package load hears from Envoys how much each service is used.
//
// Envoy's load reports cost nothing per request: once per interval each Envoy
// tells, per service and priority, how many requests it sent and how many are
// still open. Those are the arrivals that the predictor learns from, and the
// evidence that a service is idle.
//
// A missing report says nothing about a service: Envoy leaves out a cluster
// that had no request since the last report and has none open, and reports of
// a lost stream are lost with it. The caller decides what silence means.
package load
