// Package budget meters what instances cost in one region and says, before an
// instance starts, whether its service and its tenant may have it.
//
// It is pure: the present instant is an argument, and nothing is read or
// written. One goroutine owns a [Book]; the instance manager asks it:
//
//  1. Reserve before a start. It sets the cost of two instance-minutes aside, in
//     the service's account and in its tenant's, or returns a *[Refusal].
//  2. Settle at least every [SettleEvery]. It books the minutes that have
//     passed, sets the next one aside before the present one ends, and names
//     the instances that there is no money for: they have to stop.
//  3. Release when an instance is gone. It books the part of the minute that
//     was used and gives the rest back.
//
// # What this promises
//
// Spent plus reserved never exceeds a budget through Reserve or Settle. An
// instance that Settle names and that is released within [StopWithin] costs
// nothing beyond what was set aside, so the budget holds exactly. One that takes
// longer goes on costing until it is released, and nothing starts meanwhile: a
// minute of delay is one instance-minute too much. Requests that have a price
// are booked as they are served, so they can overshoot by what is served between
// two calls of Rung.
//
// Requests and processor time are booked once they are known; the price of an
// instance-minute is that of its memory limit, or of AssumedMemory without one.
//
// # Regions
//
// A budget is split evenly over the regions that may ever serve its service, and
// each keeps its own Book: a region that is cut off spends its share and no more.
//
// Months are calendar months in UTC. What is booked counts for the month in
// which it is booked.
package budget
