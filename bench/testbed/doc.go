// Package testbed is a small world for faults and measurements: regions of real
// peers (the very command, its real Envoy, real instances), each peer in a network
// namespace of its own, as if on a machine of its own, and a network between them
// with the delays of real distances, whose links can lose, be cut, and be cut in
// one direction only.
//
// Enter first puts the whole program into namespaces of its own: nothing that a
// Site starts can outlive it, and nothing of the machine's network is touched. It
// needs root, or a kernel that lets users make user namespaces.
//
// The network is this process: packets of the peers come out of TUN devices, wait
// as long as the distance between the two ends takes, and go in again. So delays
// need no kernel module, a cut takes effect at the next packet, and what was lost
// follows from a seed.
//
// Run blocks and owns all goroutines. The methods are safe for concurrent use.
package testbed
