// Package failover measures what callers feel when an Envoy, a machine or a region
// is lost: real peers on the network of package testbed, callers on a schedule, and
// the time from the loss to the last error. It also counts what the membership
// sends at rest, and takes in what its simulation says of larger ones.
//
// Run blocks, and returns when everything that it started has ended.
package failover
