package polder

import "strings"

// nearest finds the candidate that was probably meant: the one with the fewest
// typing mistakes between, if they are few for a word of that length. Case and
// separators count for little. The first of equals wins.
func nearest(word string, candidates []string) (string, bool) {
	const longest = 63
	if len(word) > longest {
		return "", false
	}
	best, found := 0, ""
	for _, c := range candidates {
		if len(c) > longest || c == word {
			continue
		}
		d := 2 * mistakes(fold(word), fold(c))
		switch a, b := fold(word), fold(c); {
		case d == 0:
			d = 1 // differs by case or separators only
		case min(len(a), len(b)) >= 3 && (strings.HasPrefix(a, b) || strings.HasPrefix(b, a)):
			d = min(d, 2) // cut short, or drawn out
		}
		if d <= 2*max(1, min(len(word), len(c))/3) && (found == "" || d < best) {
			best, found = d, c
		}
	}
	return found, found != ""
}

func fold(s string) string {
	return strings.ToLower(strings.NewReplacer("-", "", "_", "", " ", "").Replace(s))
}

// mistakes counts insertions, deletions, replacements and swaps of neighbours
// (optimal string alignment distance).
func mistakes(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
