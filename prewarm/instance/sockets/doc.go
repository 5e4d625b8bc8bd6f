// Package sockets keeps listening sockets open beyond the death of the Polder
// that made them.
//
// A socket that nobody holds is gone, and what waited in its queue is reset. So
// a Polder gives each socket that callers depend on to a keeper: a process of
// its own, of a few megabytes, that does nothing but hold them. A Polder that
// is killed, crashes or is replaced changes nothing for callers then: who
// connects meanwhile waits in the kernel's queue, and the next Polder finds the
// same sockets with Store.Open.
//
// The keeper is this program once more, started through package process, so it
// has a record and is ended like everything else that has one. It listens on a
// Unix socket of mode 0600 in a private folder, serves one Polder at a time, and
// ends with Store.End. A keeper that dies loses nothing by itself: the Store
// holds every socket too, and starts another keeper at the next change.
//
// All methods of a Store may be called from any goroutine. At most one Store
// may use a folder at a time, which the caller ensures.
package sockets
