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
	Paging    Paging   // of one that is Paused, once it was tried
}

// Paging is how much RAM a paused instance occupied before its memory was paged out,
// and after it was tried, in bytes. The zero value says that it was not tried.
type Paging struct{ Before, After int64 }

// Left is the share of the memory that is still in RAM, in [0, 1]. False means that it
// is not known.
func (p Paging) Left() (share float64, known bool) {
	if p.Before <= 0 {
		return 0, false
	}
	return min(max(float64(p.After)/float64(p.Before), 0), 1), true
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
