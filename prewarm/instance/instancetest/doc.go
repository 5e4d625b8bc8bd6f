// Package instancetest has the tests that every instance.Provider must pass,
// and the program that they run as an instance.
//
// A provider's own tests call Run, and Sample at the beginning of TestMain: the
// test binary is then also the sample program, which a provider runs by the
// environment that Services of this package carry. Run needs nothing of the
// provider but what Harness says; tests wait for events, and leave nothing
// running.
package instancetest
