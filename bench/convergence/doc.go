// Package convergence measures how fast a change reaches the callers, against
// the number of services, and what it costs.
//
// Two shapes run one after the other on the same real Envoy, with the same
// services, clusters and endpoints:
//
//   - polder: the production code, xds.Service, xds.Hosts and server.Server.
//   - usual: what most control planes do, one RouteConfiguration with a virtual
//     host for each service, behind go-control-plane's SnapshotCache, over the
//     same delta protocol.
//
// # Definitions
//
// The clock of a change starts before it is judged and translated.
//
//   - To ACK: until Envoy has acknowledged all resources that changed.
//   - To effect: until a caller on every worker of Envoy got an answer that
//     shows the change. Callers ask on kept connections, one per worker, a
//     pause of half a millisecond after each answer; a host that was added is
//     asked for on new connections, until four in a row are served.
//   - Bytes: all discovery messages of the change, in both directions, with
//     gRPC's framing.
//   - CPU: of this process and of Envoy's main thread, over changes during
//     which no caller asks, so that callers cost neither anything. The load
//     reports, once a second, are part of it.
//   - Memory: what Envoy's resident memory grew by from the fewest to the most
//     services, and the control plane's live heap, for each service.
//   - Cold start: from the start of an Envoy that has nothing until a sample of
//     a hundred services, spread over all, was served.
//
// The changes are: endpoints, another address in the load assignment of one
// service; route, a host that moves from one service to another; host, a
// service with a new host is added. Of Polder's shape also: removed, such a
// service goes; passed, a service comes whose callers are passed on to another
// region; refused, one whose owner refuses callers here, which callers see as
// the alert of TLS; permitted, one that was refused is served; shut, one that was
// served, and is in the table of hosts, is refused; home, one of the table is given a home
// in another region. And what connections for names cost that nobody owns.
//
// # Concurrency and failure
//
// Run blocks, owns its goroutines and the Envoys that it starts, and ends with
// the context. A change that has no effect within half a minute ends it with an
// error. Figures of a busy machine are worth little: compare ratios within one
// report, which tells the load of the machine.
package convergence
