// Package source reads a configuration from disk, a file or a folder of files,
// and watches it for changes.
//
// What it reads it hands to polder.Decode; it never judges it. A file that is
// missing, unreadable or in the middle of being replaced becomes a fatal fault
// of the reading, like a syntax error: whoever applies readings with
// polder.Result.Apply keeps the last good model then.
//
// A Source is a value and may be used from several goroutines. Read and Load
// wait for the disk only. Watch blocks until its context ends, owns the one
// goroutine that the operating system's notifications need, and calls back
// from the caller's own goroutine: one call at a time, always with the newest
// state, none for a state that was replaced before the callback was free.
// Where the system notifies of nothing (network file systems, exhausted
// inotify watches) it looks every few seconds instead.
//
// The gateway calls Watch; the commands check and plan call Load.
package source
