package prewarm

// Forecast is what a service's past says of its next minutes. Minutes are
// slots of the wall clock (UTC), since that is what schedules are made of.
type Forecast struct {
	// Known is false when there is not enough data; the chances are then 0
	// and mean nothing.
	Known bool
	// Now is the chance of at least one call in the current minute slot, as it
	// stood when the slot began.
	Now float64
	// Next is the chance of at least one call in the next minute slot, given
	// what the current one has brought so far. In Inputs it is 0 until the lead
	// time before that slot: nobody asks earlier.
	Next float64
	// Soon is the chance of at least one call in the look-ahead, the
	// lookAhead minute slots that begin with the current one. In Inputs it is 0
	// if the price list has no price of a start: nothing asks for it then.
	Soon float64
}

// lookAhead is the number of minute slots of Forecast.Soon.
const lookAhead = 6
