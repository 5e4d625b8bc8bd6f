package trace

import "time"

// MinutesPerDay is the number of count columns of one day of the 2019 data set.
const MinutesPerDay = 1440

// Function is one function's calls, counted per minute. Owner, App and Name are
// opaque hashes in the public data set; Name alone is meant to be unique.
type Function struct {
	Owner   string
	App     string
	Name    string
	Trigger string   // "http", "timer", "queue", ...
	Counts  []uint32 // calls in each minute, Counts[0] being the first minute
}

// Total is the number of calls in all minutes.
func (f Function) Total() uint64 {
	var sum uint64
	for _, c := range f.Counts {
		sum += uint64(c)
	}
	return sum
}

// Length is the time that Counts cover.
func (f Function) Length() time.Duration {
	return time.Duration(len(f.Counts)) * time.Minute
}

// Window returns the function with only the minutes [from, from+minutes),
// counted from 0; what lies outside Counts is left out, so that the result may
// be shorter, or empty. The counts are shared with f.
func (f Function) Window(from, minutes int) Function {
	from = min(max(from, 0), len(f.Counts))
	end := from + min(max(minutes, 0), len(f.Counts)-from)
	f.Counts = f.Counts[from:end:end]
	return f
}
