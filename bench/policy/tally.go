package policy

import "slices"

// tally counts one function under one policy.
type tally struct {
	active, cold, idle, loads uint32
	calls                     uint64
}

// slot counts one slot: warm when it began, with calls, and whether an
// instance was started for it.
func (t *tally) slot(warm, active, load bool) {
	if active {
		t.active++
		if !warm {
			t.cold++
		}
	} else if warm {
		t.idle++
	}
	if load {
		t.loads++
	}
}

// revoke takes a warm active slot back.
func (t *tally) revoke() { t.active-- }

// class tells functions with a clear rhythm from those without.
type class int

const (
	regular class = iota
	irregular
	classes
)

// classOf calls a function regular if three quarters of the gaps between its
// active minutes are equal. It looks at the whole trace: it sorts results and
// decides nothing.
func classOf(counts []uint32) class {
	gaps := map[int]int{}
	last, n, most := -1, 0, 0
	for m, c := range counts {
		if c == 0 {
			continue
		}
		if last >= 0 {
			n++
			gaps[m-last]++
			most = max(most, gaps[m-last])
		}
		last = m
	}
	if n >= 3 && 4*most >= 3*n {
		return regular
	}
	return irregular
}

// sum adds tallies up, weighted, in one class.
type sum struct {
	active, cold, idle, loads, calls, functions float64
	shares                                      []share // of functions with an active slot
}

type share struct{ cold, weight float64 }

func (s *sum) add(t tally, weight float64) {
	s.active += weight * float64(t.active)
	s.cold += weight * float64(t.cold)
	s.idle += weight * float64(t.idle)
	s.loads += weight * float64(t.loads)
	s.calls += weight * float64(t.calls)
	s.functions += weight
	if t.active > 0 {
		s.shares = append(s.shares, share{float64(t.cold) / float64(t.active), weight})
	}
}

// mean and quantile of the cold share over functions; 0 without functions.
func (s *sum) mean() float64 {
	var x, w float64
	for _, f := range s.shares {
		x += f.cold * f.weight
		w += f.weight
	}
	return ratio(x, w)
}

func (s *sum) quantile(q float64) float64 {
	sorted := slices.Clone(s.shares)
	slices.SortFunc(sorted, func(a, b share) int {
		switch {
		case a.cold < b.cold:
			return -1
		case a.cold > b.cold:
			return 1
		}
		return 0
	})
	var all, w float64
	for _, f := range sorted {
		all += f.weight
	}
	for _, f := range sorted {
		if w += f.weight; w >= q*all {
			return f.cold
		}
	}
	return 0
}

func ratio(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return a / b
}
