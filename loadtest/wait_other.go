//go:build !linux

package loadtest

import "context"

// newWaiter makes the most exact waiter that the system has.
func newWaiter(ctx context.Context) waiter { return newTimerWaiter(ctx) }
