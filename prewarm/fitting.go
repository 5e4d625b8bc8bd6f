package prewarm

// Example is what the model sees of one minute slot, for programs that fit it.
// It replays counts through the same code that serves.
type Example struct {
	rhythm rhythm
	vector vector
}

// NewExample returns a service that nothing is known of, at a minute slot.
func NewExample(minute int64) *Example {
	e := &Example{}
	e.rhythm.minute = minute
	e.rhythm.look(&e.vector)
	return e
}

// Close ends the slot with so many arrivals and opens the next.
func (e *Example) Close(arrivals uint32) {
	e.rhythm.open = arrivals
	e.rhythm.close(&e.vector)
}

// Active returns how many closed slots had arrivals, and Idle how many had none
// since the last that had.
func (e *Example) Active() int { return int(e.rhythm.active) }

// Idle returns the idle slots since the last active one, or since the first.
func (e *Example) Idle() int { return int(e.rhythm.idle) }

// Sure tells whether the mixer is so sure of a call in the open slot that the model is
// not asked.
func (e *Example) Sure() bool { return e.vector.sure() }

// Features returns what the model sees of the open slot. It is valid until Close.
func (e *Example) Features() []float32 { return e.vector.x[:e.vector.n] }

// FeatureNames names the features, in order. Names repeat where one idea is
// asked for several spans.
func FeatureNames() []string {
	v := vector{names: []string{}}
	new(rhythm).look(&v)
	return v.names
}
