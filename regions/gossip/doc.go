// Package gossip is the membership: peers of all regions find each other, learn
// who is alive, and spread their rows. It is the only user of memberlist; all
// judgement is in package regions, whose Table it feeds.
//
// A caller makes a Gossip with New, which starts nothing, and runs it with Run,
// which owns all goroutines and returns when its context ends, after a goodbye.
// Publish says what the own peer has to say; Changes signals that Snapshot has
// something new. Every other method may be called from any goroutine, before,
// during and after Run.
//
// Promises:
//
//   - Every byte on the network is encrypted and authenticated (AES-256-GCM);
//     without a key New fails. Rotate changes keys without a pause.
//   - A peer writes only its own row, and signs it with its identity in its region
//     (Signer). Rows of others are relayed as they are and believed only if their
//     peer signed them and they are newer by (epoch, sequence). A row of the own
//     peer that is newer than its own makes it rise above it.
//   - Nobody else declares a peer dead, nor alive again: before memberlist's word is
//     believed the peer itself is asked, and its signed answer wins. Who does not
//     answer, or whom own evidence speaks against, is dead when memberlist says so.
//   - A service is named in the own row only if every region of the membership
//     may know of it (regions.Disclosure). Peers of regions that the
//     configuration does not know are not admitted.
//   - Callbacks from memberlist copy and return. All queues are bounded; what
//     does not fit is dropped and counted, and the periodic exchange of whole
//     tables makes up for it.
//   - Joining is tried for as long as Run runs, also after a partition. Nothing
//     waits for it: Joined and Ready are two channels, and Ready has a deadline,
//     so a peer that is alone serves what it may serve.
//
// It fails towards fewer choices: a cut-off peer sees all others as unhealthy.
// What a region may serve is never decided here.
package gossip
