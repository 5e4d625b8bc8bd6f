package loadtest

import "time"

// Outcome is what became of one arrival.
type Outcome string

// The outcomes. Each arrival whose time came has exactly one.
const (
	Answered    Outcome = "answered"    // a whole answer came, of any status
	Failed      Outcome = "failed"      // sent, but no whole answer came
	Interrupted Outcome = "interrupted" // sent, but cut off at the end of Options.Grace
	Dropped     Outcome = "dropped"     // not sent: in progress and backlog were full
	Abandoned   Outcome = "abandoned"   // not sent: the run was stopped while it waited
)

// Sent tells whether the request left.
func (o Outcome) Sent() bool { return o == Answered || o == Failed || o == Interrupted }

// Result is one arrival and what became of it. Times count from the start of
// the run.
type Result struct {
	Target   string
	Outcome  Outcome
	Intended time.Duration // when it should have left
	Sent     time.Duration // when it left; 0 if it did not
	Done     time.Duration // when its last byte came, it failed, or was given up
	Status   int           // HTTP status; 0 unless answered
	Protocol string        // "HTTP/1.1", "HTTP/2.0"; "" unless answered
	Cold     bool          // the answer named itself a cold start
	Fresh    bool          // a connection was opened for it
	Retries  int           // times that it was sent again after a kept connection had closed
	Bytes    int64         // of the answer's body
	Error    string        // why it failed; "" unless failed or interrupted
	Note     string        // of Options.Examine; "" unless answered. A ResultWriter leaves it out
}

// Latency counts from the intended time: what a caller would have waited.
func (r Result) Latency() time.Duration { return r.Done - r.Intended }

// Lag is how late the request left.
func (r Result) Lag() time.Duration { return r.Sent - r.Intended }

// Unsuccessful tells whether a caller would call it an error: it was sent and
// not answered, or answered with a status of 400 or more.
func (r Result) Unsuccessful() bool {
	return r.Outcome == Failed || r.Outcome == Answered && r.Status >= 400
}
