// Package freeport finds ports of loopback on which somebody else will listen.
//
// They lie below those that the kernel gives to connections
// (net.ipv4.ip_local_port_range) and those of instances: a connection would
// otherwise have one of them before its listener. A port that was given away is
// reserved among all that choose here, in this process and in others of the same
// network namespace, so that two which are about to listen do not meet: two Envoys
// would even share the port (SO_REUSEPORT) and each answer half of the calls. Safe
// for concurrent use; gateway/fleet and tests that start a real Envoy call it.
package freeport
