// Package regions is the map: which peers live, which regions can serve, in
// which order they are tried, and which peer is the home of a service. It also
// says what a peer may tell the others about a service.
//
// Everything here is arithmetic on values: no goroutine, no clock, no socket.
// The present instant is an argument. A Table belongs to one goroutine (in the
// product: the loop of regions/gossip); all functions may be called from any.
// What a Table returns shares memory with it and is never changed afterwards:
// read it, do not write to it.
//
// The caller of a Table hands over, in any order and as often as it likes,
//
//  1. rows (Merge): what peers say of themselves. Of two rows of one peer the
//     one with the higher (Epoch, Sequence) holds, so the order of delivery,
//     repetition and loss do not matter, and no clocks are compared;
//  2. the failure detector's word (Alive, Dead, Left) and its own evidence
//     (Suspect, Measured);
//  3. the passing of time (Advance), at the latest at the instant that Next
//     names; without it suspicions would not end and the gone not be forgotten.
//
// It fails towards "cannot serve": a peer that nobody vouches for, whose row
// belongs to an earlier start, or whose region has no row at all is not
// healthy. Health only ever takes choices away. Which regions are permitted is
// regions/law's word alone, and nothing here adds a region to a service.
package regions
