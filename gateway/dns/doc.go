// Package dns answers queries for the hosts of services with the addresses of
// the nearest region that may take their callers, over UDP and TCP.
//
// It is an authoritative server and no resolver. What it answers is made from a
// World, which the region hands in whenever the model or the membership has
// changed: who answers for a query is the law's choice first (an address of a
// region that the owner refuses is never told, whatever state the world is in),
// health comes second and distance third.
//
// New starts nothing. Run listens, blocks, owns all goroutines, and returns when
// they have ended; an address that cannot be had is tried again and again, since
// a region without DNS still serves. All methods are safe for concurrent use.
//
// Sources are bounded: packets by a rate for each network, connections by number
// and time. Memory does not grow with what comes in.
package dns
