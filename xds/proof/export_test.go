package proof

import (
	"maps"
	"slices"
)

// Words lists each message and field that the proof understands, for tests.
func Words() map[string][]string {
	list := map[string][]string{}
	for message, fields := range known().messages {
		list[string(message)] = nil
		for field := range fields {
			list[string(message)] = append(list[string(message)], string(field))
		}
	}
	return list
}

// SameBook tells whether two books say the same.
func SameBook(a, b *Book) bool {
	same := func(e, f *entry) bool { return e.equal(f) }
	holders := func(a, b []holder) bool {
		count := map[holder]int{}
		for _, h := range a {
			count[h]++
		}
		for _, h := range b {
			count[h]--
		}
		return !slices.ContainsFunc(slices.Collect(maps.Values(count)), func(n int) bool { return n != 0 })
	}
	return maps.EqualFunc(maps.Collect(a.services.all()), maps.Collect(b.services.all()), same) &&
		maps.Equal(maps.Collect(a.owners.all()), maps.Collect(b.owners.all())) &&
		maps.EqualFunc(maps.Collect(a.holders.all()), maps.Collect(b.holders.all()), holders) &&
		maps.EqualFunc(a.former, b.former, same) && slices.Equal(slices.Collect(a.reversed.from("")), slices.Collect(b.reversed.from("")))
}

// Judged counts the units that a change was found to touch.
func (p *Proposal) Judged() int { return len(p.rests) }
