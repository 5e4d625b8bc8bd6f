// Package dump reads what a running Envoy says that it does: its configuration
// dump, and its runtime values.
//
// It is a closed world, like the proof: a part of the dump that it does not
// know, or cannot take apart, is a Fault and never passed over, because an
// auditor has to account for everything that runs.
//
// Each resource gets a digest that is equal exactly when the resource is equal
// to one that was published, which Digest tells. For most resources that is the
// version which package xds gives. Load assignments Envoy tells from its state,
// with weights and health that nobody sent; they are compared in a normal form.
//
// A Reader belongs to one goroutine: it remembers what it has taken apart, so
// that a dump costs in proportion to what changed since the last one. Functions
// are safe for concurrent use. Package gateway/audit calls it.
package dump
