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

// around has, as its lowest bits, the minutes at one lag less than the given one, at
// it, and at one more. lag is at least 2.
func (h *history) around(lag int) uint64 {
	at := uint(lag - 2)
	i := at / 64 % historyWords
	w := h[i] >> (at % 64)
	if i+1 < historyWords {
		w |= h[i+1] << 1 << (63 - at%64)
	}
	return w
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

// echoer counts echoes in a history, whose words are followed by empty ones.
type echoer struct {
	word  row
	words uint // that hold something

	hit, again row // scratch
}

func (e *echoer) take(h *history, words int) {
	copy(e.word[:], h[:words])
	e.words = uint(words)
}

// lagged walks over a history shifted by a lag, a word at a time. A word of it
// comes from two: each was rotated, and keep says which bits are of the first.
type lagged struct {
	at            uint
	rotated, keep uint64
	turn          int
}

func (e *echoer) lagged(lag int) lagged {
	l := lagged{at: uint(lag) / 64, keep: ^uint64(0) >> (uint(lag) % 64), turn: -(lag % 64)}
	l.rotated = bits.RotateLeft64(e.word[l.at%uint(len(e.word))], l.turn)
	return l
}

func (e *echoer) next(l *lagged) uint64 {
	was := l.rotated
	l.at++
	l.rotated = bits.RotateLeft64(e.word[l.at%uint(len(e.word))], l.turn)
	return l.rotated ^ (l.rotated^was)&l.keep
}

// once counts the active minutes that another one preceded by exactly lag minutes.
// Bits are counted apart from the walk, since a count may be a call, for which
// all that a loop holds would have to be put aside.
func (e *echoer) once(lag int) (both int) {
	hit, one := &e.hit, e.lagged(lag)
	n := e.words - min(one.at, e.words)
	for i := range hit[:n] {
		hit[i] = e.next(&one) & e.word[i]
	}
	return ones(hit[:n])
}

// twice counts those, and the active minutes that one preceded by lag and another
// by twice the lag (thrice), with all minutes that both preceded (twice).
func (e *echoer) twice(lag int) (both, thrice, twice int) {
	hit, again := &e.hit, &e.again
	one, two := e.lagged(lag), e.lagged(2*lag)
	n := e.words - min(one.at, e.words)
	n2 := e.words - min(two.at, e.words)
	for i := range hit[:n] {
		hit[i] = e.next(&one) & e.word[i]
	}
	for i := range again[:n2] {
		again[i] = e.next(&two) & hit[i]
	}
	both, thrice = ones(hit[:n]), ones(again[:n2])
	// What both preceded at s, one preceded at s+lag: that is all of both but what
	// happened in the newest lag minutes.
	newest := min(uint(lag)/64, n)
	twice = both - ones(hit[:newest])
	if newest < n {
		twice -= bits.OnesCount64(hit[newest] & (1<<(uint(lag)%64) - 1))
	}
	return both, thrice, twice
}

// row has a word for each of a history's, and room up to a power of two, so that an
// index is cheaply kept in bounds.
type row [32]uint64

func ones(words []uint64) (n int) {
	for _, w := range words {
		n += bits.OnesCount64(w)
	}
	return n
}

// The newest slots, the context, are compared by blocks of four: most contexts
// have few different ones, and each is looked up once.
const (
	block  = 4
	blocks = 32 / block
	// remembered patterns; where a context has more of them, few slots match.
	patterns = 4
	// few slots that match so far are compared one by one from there on.
	few = 40
)

// match counts, over the first words of history, how often the slots before one
// equalled the newest ones (n) and it was active (hit), for each length in
// matched. seen bounds the slots that were ever observed.
func (h *history) match(words, seen int) (n, hit [len(matched)]int) {
	var begins [patterns][historyWords + 1]uint64 // where a pattern does
	var pattern [patterns]uint64
	known := uint(0)
	candidates := h.candidates(words, seen)
	i := 0 // the length whose end comes next
	for b := uint(0); b < blocks; b++ {
		p, k := h[0]>>(b*block&63)&(1<<block-1), uint(0)
		for k < min(known, patterns) && pattern[k%patterns] != p {
			k++
		}
		if k == min(known, patterns) {
			k = known
			pattern[k%patterns] = p
			h.begins(p, words, &begins[k%patterns])
			known++
		}
		left := narrow(candidates[:words], begins[k%patterns][:words+1], b*block)
		if left <= few {
			h.matchFew(candidates[:words], i, &n, &hit)
			return n, hit
		}
		if (b+1)*block == uint(matched[i]) {
			n[i] = left
			for w, c := range candidates[:words] {
				hit[i] += bits.OnesCount64(c & h.next(w))
			}
			i++
		}
	}
	return n, hit
}

// matchFew counts the candidates of the lengths from the i-th on. Each was found
// to match a part of the first of these.
func (h *history) matchFew(candidates []uint64, i int, n, hit *[len(matched)]int) {
	var long, followed [blocks + 1]int // by the length that matches, in blocks
	for w, c := range candidates {
		here, above := h[w], uint64(0)
		if w+1 < historyWords {
			above = h[w+1]
		}
		next := h.next(w)
		for ; c != 0; c &= c - 1 {
			at := uint(bits.TrailingZeros64(c))
			differ := (here>>at | above<<1<<(63-at) ^ h[0]) | 1<<32
			length := uint(bits.TrailingZeros64(differ)) / block % uint(len(long))
			long[length]++
			followed[length] += int(next >> at & 1)
		}
	}
	longer, hits := 0, 0
	for j, b := len(matched)-1, blocks; j >= i; j-- {
		for ; b >= matched[j]/block; b-- {
			longer, hits = longer+long[b], hits+followed[b]
		}
		n[j], hit[j] = longer, hits
	}
}

// next has, for each slot of a word, what followed it.
func (h *history) next(w int) uint64 {
	if w == 0 {
		return h[0] << 1
	}
	return h[w]<<1 | h[w-1]>>63
}

// candidates are all slots that were observed but the present itself, since what
// follows it is not known.
func (h *history) candidates(words, seen int) (c [historyWords]uint64) {
	for w := range c[:words] {
		c[w] = ^uint64(0)
		if left := seen - w*64; left < 64 {
			c[w] = 1<<max(left, 0) - 1
		}
	}
	c[0] &^= 1
	return c
}

// begins marks where four slots like the pattern begin. What lies beyond the
// history was silent.
func (h *history) begins(pattern uint64, words int, found *[historyWords + 1]uint64) {
	a, b, c, d := pattern&1-1, pattern>>1&1-1, pattern>>2&1-1, pattern>>3&1-1 // what inverts where it has a zero
	here := h[0]
	for w := range found[:words] {
		above := uint64(0)
		if w+1 < historyWords {
			above = h[w+1]
		}
		found[w] = (here ^ a) & ((here>>1 | above<<63) ^ b) & ((here>>2 | above<<62) ^ c) & ((here>>3 | above<<61) ^ d)
		here = above
	}
	found[words] = a & b & c & d
}

// narrow keeps the candidates for which a pattern begins so many slots earlier, and
// counts them.
func narrow(candidates, begins []uint64, earlier uint) (left int) {
	here := begins[0]
	for w, above := range begins[1:] {
		is := candidates[w] & (here>>(earlier&63) | above<<1<<((63-earlier)&63))
		candidates[w] = is
		left += bits.OnesCount64(is)
		here = above
	}
	return left
}
