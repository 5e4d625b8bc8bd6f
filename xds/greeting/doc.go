// Package greeting hears from Envoys of the ClientHellos of callers, before there
// is a request.
//
// Envoy asks, for each connection to a service whose key it has already, whether
// that is one too many. The answer is always no, and is given before anybody has
// been told: a connection never waits for what its question causes. An Envoy
// that gets no answer goes on without one.
//
// Names arrive as callers spelled them, from whoever can connect, as often as
// they like. What to do about that is the caller's matter: the function that
// hears must return at once, may be called from many goroutines, and is better
// deaf than late.
package greeting
