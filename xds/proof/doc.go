// Package proof holds finished Envoy resources against the law: which
// addresses, keys and sinks can a caller of each host reach on this node, and
// may they?
//
// It is the second opinion on package xds. It shares no code with the
// translation, knows no name that the translation gives, and follows only what
// the protobufs say: from listeners over filter chains and routes to clusters
// and endpoints. Against that it holds an address book (Book), which comes from
// the configuration and the static part of the law (law.Permit) and never from
// a verdict.
//
// The proof is a closed world. Each message and each field that may occur is
// listed (words.go). Everything else is a violation, because nobody has thought
// about what it does: unknown types, unknown fields, filters with code in them,
// names that lead nowhere. It fails closed.
//
// What it promises: if Propose reports no violation, then with exactly these
// resources
//
//   - only connections for services that may be served in this region now are
//     opened, and their requests reach only this region's own instances of the
//     same service, or the activator under the service's name;
//   - all other connections are refused, or passed on unopened, inside mTLS, to
//     regions that may have them;
//   - no key is part of the resources, and Envoy can only ask for keys by the
//     name in a ClientHello, which CheckSecret judges;
//   - nothing of a service goes to a log, trace or service that the book does
//     not name.
//
// It does not look into instances, the activator, DNS or the network below.
//
// A Book is immutable and safe for concurrent use. A Checker belongs to one
// goroutine; it remembers what it has proved, and what each conclusion rests
// on, so that a change costs in proportion to what it touches. All functions
// are pure: no clock, no file, no socket. Package gateway calls Propose before
// every publish and Commit after it; the audit calls Check on the
// configuration that a running Envoy reports.
package proof
