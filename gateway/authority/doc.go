// Package authority is the certificate authority that polder up makes for
// itself, and the reader of certificates that production brings along.
//
// An Authority lives in one folder that every region's process on the machine
// shares. It holds two roots that never vouch for each other's purpose: one for
// the services' hosts, whose certificate people export and trust, and one for
// the identities by which peers recognise each other (SPIFFE IDs,
// spiffe://TRUST-DOMAIN/region/REGION/peer/PEER, .../node/NODE for Envoys on
// other machines, and spiffe://TRUST-DOMAIN/client/REGION/NAME for programs that
// call without an Envoy). The folder also holds the membership's encryption key.
//
// A region issues through an Issuer, which writes keys below that region's own
// folder and nowhere else, and refuses a folder that belongs to another region:
// so a service's key stays where its residency put it. Issuer.Keep removes the
// keys of services that left.
//
// The root for hosts carries no name constraints, because hosts come and go
// with the configuration and a constrained root would have to be trusted again
// after each change. It can sign certificates of servers only, directly and
// not through intermediates, and its key is readable by its owner alone.
//
// All methods may be called by several goroutines and by several processes on
// the same folders at once: files appear by rename, and whoever creates or
// renews holds a lock on the folder, which the kernel releases when its holder
// dies. Waiting for the lock ends after LockWait. Nothing here starts a
// goroutine or renews by itself: ask again at Pair.RenewAt. The gateway is the
// caller.
package authority
