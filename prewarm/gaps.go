package prewarm

import "math/bits"

// gapSet is some of the remembered gaps, a bit for each, oldest first.
type gapSet [gapRing / 64]uint64

func (a gapSet) and(b gapSet) gapSet     { return gapSet{a[0] & b[0], a[1] & b[1]} }
func (a gapSet) without(b gapSet) gapSet { return gapSet{a[0] &^ b[0], a[1] &^ b[1]} }
func (a gapSet) size() float32           { return float32(bits.OnesCount64(a[0]) + bits.OnesCount64(a[1])) }

// after is the set of those that are n gaps newer, n below 64.
func (a gapSet) after(n uint) gapSet {
	return gapSet{a[0] << (n & 63), a[1]<<(n&63) | a[0]>>1>>((63-n)&63)}
}

// rotated brings ring positions into the order of age, for an oldest gap at the
// given position.
func (a gapSet) rotated(oldest uint) gapSet {
	if oldest >= 64 {
		a[0], a[1] = a[1], a[0]
	}
	n := oldest & 63
	return gapSet{a[0]>>n | a[1]<<1<<(63-n), a[1]>>n | a[0]<<1<<(63-n)}
}

// newest is the set of the newest of n gaps.
func newestGaps(count, n int) gapSet {
	old := max(n-count, 0)
	if old >= 64 {
		return gapSet{0, ^uint64(0) << (old - 64)}
	}
	return gapSet{^uint64(0) << old, ^uint64(0)}
}

// tallies counts all gaps, the newest 32, the newest 8, and those that followed
// gaps like the last one, two and three, for the present gap's age.
func (r *rhythm) tallies(age, last, second, third int) [6]tally {
	s := r.compare(&span{
		from: [...]int{age, last - last/16, second - second/16, third - third/16},
		to:   [...]int{age + 1, last + last/16 + 1, second + second/16 + 1, third + third/16 + 1},
		near: age + 2 + age/16, soon: age + lookAhead,
	})
	n := int(min(r.gapN, gapRing))
	one := s.reached.and(s.alike[0].after(1))
	two := one.and(s.alike[1].after(2))
	three := two.and(s.alike[2].after(3))
	var t [6]tally
	for i, set := range [...]gapSet{s.reached, s.reached.and(newestGaps(32, n)), s.reached.and(newestGaps(8, n)), one, two, three} {
		t[i] = tally{set.size(), set.without(s.longer).size(), set.without(s.past).size(), set.without(s.late).size()}
	}
	return t
}

// longest is the longest of the newest n gaps, 0 if there is none.
func (r *rhythm) longest(n uint32) int {
	var longest uint16
	end := r.gapN % gapRing
	for _, g := range r.gaps[end-min(n, end) : end] {
		longest = max(longest, g)
	}
	if r.gapN > end && n > end { // the ring was filled once: the rest is at its end
		for _, g := range r.gaps[gapRing-(n-end):] {
			longest = max(longest, g)
		}
	}
	return int(longest)
}

// span says what gaps are compared with: first the age, then what the last three
// gaps are alike, which is within a sixteenth.
type span struct {
	from, to   [4]int // from is included, to is not
	near, soon int
}

// compared are the gaps that are at least the age, and of these those longer
// than it, not about it, and beyond the look-ahead; and those like each of the
// last three.
type compared struct {
	reached, longer, past, late gapSet
	alike                       [3]gapSet
}

const (
	laneTops = 0x8000_8000_8000_8000
	laneOnes = 0x0001_0001_0001_0001
)

// lanes4 is a bound in each of four lanes; what is compared is below 1<<15.
func lanes4(bound int) uint64 { return uint64(min(bound, 1<<15)) * laneOnes }

// gather moves the tops of four lanes to the upper end of a word, above those
// of older gaps.
func gather(before, tops uint64) uint64 {
	return before>>4 | tops*(1<<45|1<<30|1<<15|1)&(15<<60)
}

// compare looks at four gaps at a time, each in 16 bits of a word whose top bit
// is set: it is still set after a bound was subtracted if the gap reaches it.
func (r *rhythm) compare(s *span) compared {
	var c compared
	age, longer, past, late := lanes4(s.from[0]), lanes4(s.to[0]), lanes4(s.near), lanes4(s.soon)
	from1, from2, from3 := lanes4(s.from[1]), lanes4(s.from[2]), lanes4(s.from[3])
	to1, to2, to3 := lanes4(s.to[1]), lanes4(s.to[2]), lanes4(s.to[3])
	n := int(min(r.gapN, gapRing))
	for half := range c.reached {
		gaps := r.gaps[64*half : 64*half+64]
		var reached, more, far, beyond, like1, like2, like3, all uint64
		if n <= 64*half {
			break
		}
		for i := 0; i < 64; i += 4 {
			g := gaps[i : i+4 : i+4]
			x := uint64(g[0]) | uint64(g[1])<<16 | uint64(g[2])<<32 | uint64(g[3])<<48
			all |= x
			x |= laneTops
			reached = gather(reached, (x-age)&laneTops)
			more = gather(more, (x-longer)&laneTops)
			far = gather(far, (x-past)&laneTops)
			beyond = gather(beyond, (x-late)&laneTops)
			like1 = gather(like1, (x-from1)&^(x-to1)&laneTops)
			like2 = gather(like2, (x-from2)&^(x-to2)&laneTops)
			like3 = gather(like3, (x-from3)&^(x-to3)&laneTops)
		}
		if all&laneTops != 0 {
			return r.compareLong(s)
		}
		c.reached[half], c.longer[half], c.past[half], c.late[half] = reached, more, far, beyond
		c.alike[0][half], c.alike[1][half], c.alike[2][half] = like1, like2, like3
	}
	return c.rotated(r)
}

// compareLong is compare when some gap is longer than three weeks.
func (r *rhythm) compareLong(s *span) compared {
	var c compared
	for i, g := range r.gaps {
		gap, bit := int(g), uint64(1)<<(i%64)
		for _, b := range [...]struct {
			set   *gapSet
			holds bool
		}{
			{&c.reached, gap >= s.from[0]}, {&c.longer, gap >= s.to[0]}, {&c.past, gap >= s.near}, {&c.late, gap >= s.soon},
			{&c.alike[0], gap >= s.from[1] && gap < s.to[1]},
			{&c.alike[1], gap >= s.from[2] && gap < s.to[2]},
			{&c.alike[2], gap >= s.from[3] && gap < s.to[3]},
		} {
			if b.holds {
				b.set[i/64] |= bit
			}
		}
	}
	return c.rotated(r)
}

func (c compared) rotated(r *rhythm) compared {
	if r.gapN <= gapRing {
		return c
	}
	oldest := uint(r.gapN % gapRing)
	for _, s := range [...]*gapSet{&c.reached, &c.longer, &c.past, &c.late, &c.alike[0], &c.alike[1], &c.alike[2]} {
		*s = s.rotated(oldest)
	}
	return c
}
