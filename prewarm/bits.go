package prewarm

import "math/bits"

// historyWords × 64 minutes are remembered one by one: a day and half an hour.
const (
	historyWords   = 23
	historyMinutes = historyWords * 64
)

// history is a shift register of minute slots, active or not. Bit 0 of word 0
// is the newest closed minute; lag l (from the next minute) is bit l-1.
type history [historyWords]uint64

// push shifts one closed minute in.
func (h *history) push(active bool) {
	var carry uint64
	if active {
		carry = 1
	}
	for i, w := range h {
		h[i] = w<<1 | carry
		carry = w >> 63
	}
}

// skip shifts n idle minutes in.
func (h *history) skip(n int64) {
	if n >= historyMinutes {
		*h = history{}
		return
	}
	words, rest := int(n/64), uint(n%64)
	for i := historyWords - 1; i >= 0; i-- {
		var w uint64
		if j := i - words; j >= 0 {
			w = h[j] << rest
			if rest > 0 && j > 0 {
				w |= h[j-1] >> (64 - rest)
			}
		}
		h[i] = w
	}
}

// at tells whether the minute at the given lag was active; lag 1 is the newest.
func (h *history) at(lag int) bool {
	i := uint(lag - 1)
	return i < historyMinutes && h[i/64]>>(i%64)&1 == 1
}

// count returns the active minutes among the n newest.
func (h *history) count(n int) int {
	n = min(n, historyMinutes)
	sum := 0
	for i := 0; i < n/64; i++ {
		sum += bits.OnesCount64(h[i])
	}
	if rest := uint(n % 64); rest > 0 {
		sum += bits.OnesCount64(h[n/64] & (1<<rest - 1))
	}
	return sum
}

// echo counts, over the first words of history, the active minutes that
// another one preceded by exactly lag minutes (both), and those that one
// preceded by lag and another by twice the lag (thrice), with the numbers of
// occasions: minutes that one preceded by lag (once), and by both (twice).
func (h *history) echo(lag, words int) (both, once, thrice, twice int) {
	w1, r1 := lag/64, uint(lag%64)
	w2, r2 := 2*lag/64, uint(2*lag%64)
	for i := 0; i+w1 < words; i++ {
		a := h[i+w1] >> (r1 & 63) // the masks spare the compiler a check
		if i+w1+1 < words {
			a |= h[i+w1+1] << 1 << ((63 - r1) & 63)
		}
		if a == 0 {
			continue
		}
		once += bits.OnesCount64(a)
		both += bits.OnesCount64(a & h[i])
		if i+w2 < words {
			b := h[i+w2] >> (r2 & 63)
			if i+w2+1 < words {
				b |= h[i+w2+1] << 1 << ((63 - r2) & 63)
			}
			b &= a
			twice += bits.OnesCount64(b)
			thrice += bits.OnesCount64(b & h[i])
		}
	}
	return both, once, thrice, twice
}

// match adds, over the 64 slots of word w, how often the slots before one
// equalled the newest ones (n) and it was active (hit), for each length in
// matched. seen bounds the slots that were ever observed.
func (h *history) match(w, seen int, n, hit *[len(matched)]int) {
	m := ^uint64(0)
	next := h[w] << 1
	if w > 0 {
		next |= h[w-1] >> 63
	} else {
		m &^= 1 // the present itself: what follows it is not known
	}
	if left := seen - w*64; left < 64 {
		m &= 1<<max(left, 0) - 1
	}
	here, newest := h[w], h[0]
	var above uint64
	if w+1 < historyWords {
		above = h[w+1] << 1
	}
	j := uint(0)
	for i, length := range matched {
		for ; j < uint(length) && m != 0; j++ {
			a := here>>(j&63) | above<<((63-j)&63)
			m &= a ^ (newest>>(j&63)&1 - 1) // as it is if the newest was active there, else inverted
		}
		if m == 0 {
			return
		}
		n[i] += bits.OnesCount64(m)
		hit[i] += bits.OnesCount64(m & next)
	}
}
