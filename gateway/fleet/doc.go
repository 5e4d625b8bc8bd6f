// Package fleet runs every region of a configuration on this machine, each as
// a process of its own: the very command that runs one region in production.
//
// The fleet and its regions are tied by a pipe. When the fleet ends, however it
// ends, the pipe closes, and every region stops itself with all that it
// started. A guard process holds the same pipe and sweeps up what a region
// could not, because it was killed too. So nothing stays behind.
//
// A region that ends by itself is started again, with growing pauses, and
// adopts its Envoy and instances. Run blocks; it owns all goroutines below it.
package fleet
