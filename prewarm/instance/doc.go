// Package instance owns the instances of one region: it starts and stops them
// through a Provider, adopts what an earlier Polder left running, keeps a
// service that cannot start from being started in a storm, and keeps their
// logs. How many instances there should be is decided elsewhere (package
// prewarm), and who may be sent requests is, too (package gateway): here a
// decision is carried out once, and every change of state is told.
//
// # The duties of the caller
//
// Call Run and wait for Adopted before deciding anything: until then the table
// does not show what already runs, and Start refuses. Start asks for one more
// instance; asking twice starts two. Before Stop, take the instance's endpoint
// away from Envoy and let it drain: Stop ends the program. The same before Pause,
// unless callers may wait in the instance's socket.
//
// # What is told
//
// Each instance has a Starting event, once its address is known, a Ready event
// when it answers, a Paused event when Pause has frozen it and a Ready event
// again after Resume, a Draining event when Stop was called, and a last Stopped
// event with the reason; steps are left out but never repeated or turned back.
// Events are called in the order of the changes, from one goroutine. An
// instance that is released (Options.Keep) has no Stopped event: it runs.
//
// # Concurrency and failure
//
// All methods of Manager may be called at any time from any goroutine, the
// Events function included, and do not wait for instances. Run owns all
// goroutines. Every wait has a deadline: a start ends after Timing.Start, a
// stop after Timing.Grace and the kill. A start that fails and an instance that
// crashes young make their service wait (type Backoff), longer each time, and
// then allow one trial at a time until one holds.
package instance
