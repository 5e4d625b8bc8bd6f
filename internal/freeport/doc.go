// Package freeport finds ports of loopback on which somebody else will listen.
//
// They lie below those that the kernel gives to connections
// (net.ipv4.ip_local_port_range) and those of instances: a connection would
// otherwise have one of them before its listener. Nothing is reserved: who asks
// next may be given the same port. Safe for concurrent use; gateway/fleet and
// tests that start a real Envoy call it.
package freeport
