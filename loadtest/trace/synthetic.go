package trace

import (
	"fmt"
	"iter"
	"math"
	"math/rand/v2"
	"strconv"
)

// Synthetic makes functions of the same shape as the public data, so that tests
// and users need no file. The i-th function depends on Seed, Minutes and i only.
type Synthetic struct {
	Functions int
	Minutes   int // 1 to MaxMinutes
	Seed      uint64
}

// Kind is why a synthetic function is called.
type Kind int

// The kinds of synthetic functions.
const (
	Rare     Kind = iota // a few calls a day at no particular time
	Periodic             // by a clock: every so many minutes, seldom missed or late
	Bursty               // long silence, then some minutes of calls
	Diurnal              // follows the day of people, with noise
)

func (k Kind) String() string {
	switch k {
	case Rare:
		return "rare"
	case Periodic:
		return "periodic"
	case Bursty:
		return "bursty"
	case Diurnal:
		return "diurnal"
	}
	return fmt.Sprintf("Kind(%d)", int(k))
}

// shares are the kinds' shares in percent. With them, and with the rates below,
// the rate mix comes out like that of Azure Functions 2019: some 43 % of the
// functions are called fewer than 24 times a day and some 89 % less than once a
// minute on average.
var shares = [...]int{Rare: 27, Periodic: 33, Bursty: 26, Diurnal: 14}

// periods are those of Periodic functions, in minutes, each as often as it
// stands here: people write schedules in round numbers.
var periods = [...]int{1, 1, 2, 5, 5, 5, 10, 10, 15, 15, 20, 30, 30, 60, 60, 60, 60, 120, 240, 360, 720, 1440}

// All yields the functions; each has at least one call.
func (s Synthetic) All() iter.Seq[Function] {
	return func(yield func(Function) bool) {
		for i := range s.Functions {
			if f, _ := s.Function(i); !yield(f) {
				return
			}
		}
	}
}

// Read yields the functions as the reader of a file does, for Select.
func (s Synthetic) Read() iter.Seq2[Function, error] {
	return func(yield func(Function, error) bool) {
		for f := range s.All() {
			if !yield(f, nil) {
				return
			}
		}
	}
}

// Function makes the i-th function and says of which kind it is.
func (s Synthetic) Function(i int) (Function, Kind) {
	if s.Minutes < 1 || s.Minutes > MaxMinutes {
		panic(fmt.Sprintf("trace: a synthetic trace of %d minutes; it has 1 to %d", s.Minutes, MaxMinutes))
	}
	id := strconv.Itoa(i)
	draw := rand.New(rand.NewPCG(s.Seed, mix(s.Seed, "synthetic", id)))
	kind := drawKind(draw)
	f := Function{
		Owner:   s.hash("owner", strconv.Itoa(i/6)),
		App:     s.hash("app", strconv.Itoa(i/3)),
		Name:    s.hash("function", id),
		Trigger: drawTrigger(kind, draw),
		Counts:  make([]uint32, s.Minutes),
	}
	switch kind {
	case Rare:
		rare(f.Counts, draw)
	case Periodic:
		periodic(f.Counts, draw)
	case Bursty:
		bursty(f.Counts, draw)
	case Diurnal:
		diurnal(f.Counts, draw)
	}
	if f.Total() == 0 { // the public data has no such rows either
		f.Counts[draw.IntN(s.Minutes)] = 1
	}
	return f, kind
}

// hash makes a name of 32 hexadecimal digits.
func (s Synthetic) hash(what, id string) string {
	return fmt.Sprintf("%016x%016x", mix(s.Seed, what, id, "high"), mix(s.Seed, what, id, "low"))
}

func drawKind(draw *rand.Rand) Kind {
	at := draw.IntN(100)
	for kind, share := range shares {
		if at < share {
			return Kind(kind)
		}
		at -= share
	}
	return Diurnal
}

func drawTrigger(kind Kind, draw *rand.Rand) string {
	if kind == Periodic {
		return "timer"
	}
	others := [...]string{"http", "http", "queue", "event", "others"}
	return others[draw.IntN(len(others))]
}

// rare spreads 1 to 24 calls a day, few more often than many.
func rare(counts []uint32, draw *rand.Rand) {
	perDay := math.Exp(draw.Float64() * math.Log(24))
	for m := range counts {
		counts[m] = poisson(perDay/MinutesPerDay, draw)
	}
}

func periodic(counts []uint32, draw *rand.Rand) {
	period := periods[draw.IntN(len(periods))]
	phase := draw.IntN(period)
	calls := uint32(1)
	if draw.IntN(6) == 0 {
		calls += uint32(draw.IntN(4))
	}
	for m := phase; m < len(counts); m += period {
		at := m
		switch draw.IntN(100) {
		case 0: // missed
			continue
		case 1, 2: // late
			at++
		}
		if at < len(counts) {
			counts[at] += calls
		}
	}
}

// bursty alternates silence with a heavy tail (log-normal, median 10 minutes to
// 3 hours) and bursts of some minutes at a rate that is drawn once per function.
func bursty(counts []uint32, draw *rand.Rand) {
	silence := 10 * math.Pow(18, draw.Float64())
	length := 1 + 6*draw.Float64()
	rate := math.Exp(1.2 * draw.NormFloat64())
	for m := 0; m < len(counts); {
		gap := silence * math.Exp(1.1*draw.NormFloat64())
		m += 1 + int(min(gap, float64(len(counts))))
		end := m + 1 + int(draw.ExpFloat64()*length)
		for ; m < min(end, len(counts)); m++ {
			counts[m] = poisson(rate, draw)
		}
	}
}

// diurnal follows a sine over the day, its peak in the afternoon of most.
func diurnal(counts []uint32, draw *rand.Rand) {
	mean := math.Exp(0.2 + 2.2*draw.NormFloat64()) // calls a minute
	depth := 0.5 + 0.5*draw.Float64()
	peak := 14*60 + 120*draw.NormFloat64()
	for m := range counts {
		wave := 1 + depth*math.Cos(2*math.Pi*(float64(m%MinutesPerDay)-peak)/MinutesPerDay)
		noise := math.Exp(0.15 * draw.NormFloat64())
		counts[m] = poisson(mean*wave*noise, draw)
	}
}

// poisson draws a Poisson number. Beyond 30 the normal approximation is closer
// than the shapes above are to any real function.
func poisson(mean float64, draw *rand.Rand) uint32 {
	if mean > 30 {
		return uint32(max(0, math.Round(mean+math.Sqrt(mean)*draw.NormFloat64())))
	}
	n, product, limit := uint32(0), draw.Float64(), math.Exp(-mean)
	for product > limit { // Knuth, The Art of Computer Programming, 3.4.1
		n++
		product *= draw.Float64()
	}
	return n
}
