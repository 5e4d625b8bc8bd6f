// Package faketime runs tests in fake time: testing/synctest, with one processor
// while a bubble lasts. Every test of ours that needs a bubble makes it here; a
// rule in house_test.go says so.
//
// The reason is a fault of Go's race detector (seen with 1.26). All timers of a
// bubble run in one context of the detector, but on whichever thread gets to
// them first: a timer that is due when it is set, and a timer channel that is
// read when it is due, run on the thread of the goroutine that did so. Two
// threads in one context damage it, and the process dies with SIGSEGV or a failed
// CHECK of ThreadSanitizer. TestTimersAtOnce shows it in a tenth of a second
// when it calls synctest itself. With one processor there is never a second
// thread that runs Go; the detector loses nothing by that, since it reasons on
// what happens before what and not on what happens at once.
//
// Test may be called from several tests at a time. It is for tests alone.
package faketime
