// Package process starts programs that outlive us and finds them again.
//
// A program started here runs in its own session, writes to a file instead of a
// pipe, and is described by a record on disk; so the crash, the kill -9 or the
// upgrade of its owner changes nothing for it, and the next owner adopts it.
// The instance provider and the supervisor of Envoy are built on this package.
// It needs Linux 5.4 (pidfd); from 6.9 on, signals to a group cannot meet a
// reused number even in theory.
//
// # No process is lost
//
// Start writes an intent (a record without a PID) before it forks and replaces
// it with the full record afterwards. An owner that dies in between leaves the
// intent, and Adopt looks for the process that belongs to it: the session
// leader that was born after the intent and carries its random key in the
// environment (EnvKey), or holds its log file as stdout or stderr. The intent
// file is locked (flock) through a close-on-exec descriptor, which the forked
// child shares until it has executed the program: holding the lock proves that
// the owner is dead and that the child, if there is one, can be recognised.
// Only a program that hides from its own user at once (file capabilities,
// setuid) and whose owner dies within that fraction of a millisecond escapes.
//
// # No stranger is signalled
//
// A process is PID, start time and boot, and is held by a pidfd from the fork
// on (or from a verified Adopt). The program leads its own session and process
// group; a group's number is not given away while a member lives. A child that
// has ended stays unreaped until its group was killed, which pins the number;
// for the rest see Process.Signal.
//
// # No descendant runs off
//
// With Limits (and cgroups) every descendant is born in the process's own
// cgroup, and dies with it even if it made itself a session of its own.
// Without, a descendant that leaves the session is on its own.
//
// # Concurrency and failure
//
// All methods may be called at any time from any goroutine. A Process owns one
// goroutine (no thread: it waits in the runtime's poller), which ends when the
// process does or with Release. The end of the leader is the end of all: what
// is left of its group is killed, its zombies among our children are reaped and
// the record is removed before Done is closed.
package process
