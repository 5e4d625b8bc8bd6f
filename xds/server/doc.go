// Package server carries resources to Envoys over the aggregated discovery
// service and over those of one type each, in both variants of the protocol
// (delta and state of the world), and keeps what they answer.
//
// It promises:
//
//   - Order. New clusters and their endpoints are acknowledged before routes
//     that use them are sent, routes before listeners; removals go the other
//     way round and wait for the acknowledgement of what came before. This
//     holds within a stream, so one of a single type has nothing of it.
//   - Bounded work. A change costs time and memory in proportion to itself and
//     to the number of streams, never to the number of resources. A slow Envoy
//     grows no queue: it gets the latest state when it is ready for it.
//   - Deadlines. An Envoy that does not answer, or does not even read, is cut off
//     after Options.AnswerWait.
//   - Isolation. A rejected response is taken apart until the resource at
//     fault is alone. That resource falls back to its last accepted version,
//     for the node that rejected it; all others go on, and other nodes with it.
//     The same bytes are never sent to a node again after it rejected them.
//
// Package gateway calls Apply, Touch and Wait from any goroutine. All state is
// guarded by one mutex, which is never held while a stream blocks.
package server
