package instance

import (
	"time"

	"github.com/polder/polder"
)

// Event tells that an instance has come to a new state.
type Event struct {
	polder.Instance // as it is now; its Reason says why it was started or, when Stopped, why it stopped

	Phases    Phases
	Adopted   bool     // it was started by an earlier Polder
	Failed    bool     // Stopped although nobody asked: a failed start or a crash
	LastLines []string // of its log, when Failed
}

// Phases are the instants of a start, each zero until it is reached. Of an
// adopted instance only Asked is from its start; the others are from the
// adoption.
type Phases struct {
	Asked     time.Time // Manager.Start was called
	Spawned   time.Time // the provider had made it, and its address was known
	Listening time.Time // it was first seen to listen
	Ready     time.Time // it answered
}
