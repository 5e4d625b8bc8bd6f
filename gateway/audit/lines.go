package audit

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"
)

// lineSet is a set of lines that has a digest: equal digests, equal sets. After a
// change, a new digest costs hashing some 256th of the lines. The zero value is empty.
type lineSet struct {
	shelves [256]shelf // by the first byte of a line's hash
}

type shelf struct {
	lines  map[string]bool
	sum    [sha256.Size]byte
	summed bool // sum is of the lines as they are
}

func (s *lineSet) of(line string) *shelf {
	sum := sha256.Sum256([]byte(line))
	return &s.shelves[sum[0]]
}

func (s *lineSet) add(line string) {
	at := s.of(line)
	if at.lines == nil {
		at.lines = map[string]bool{}
	}
	at.lines[line], at.summed = true, false
}

func (s *lineSet) remove(line string) {
	at := s.of(line)
	delete(at.lines, line)
	at.summed = false
}

func (s *lineSet) digest() string {
	all := sha256.New()
	for i := range s.shelves {
		at := &s.shelves[i]
		if !at.summed {
			sum := sha256.New()
			for _, line := range slices.Sorted(maps.Keys(at.lines)) {
				sum.Write([]byte(line))
			}
			sum.Sum(at.sum[:0])
			at.summed = true
		}
		all.Write(at.sum[:])
	}
	return hex.EncodeToString(all.Sum(nil))
}

func digestOf(lines []string) string {
	var set lineSet
	for _, line := range lines {
		set.add(line)
	}
	return set.digest()
}
