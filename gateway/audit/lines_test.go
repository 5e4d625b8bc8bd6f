package audit

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"
)

// TestDigestFollowsChanges holds the digest of a set that changes line by line
// against that of a set made anew, and different sets have different ones.
func TestDigestFollowsChanges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var set lineSet
		has, seen := map[string]bool{}, map[string]string{}
		for range rapid.IntRange(1, 60).Draw(t, "changes") {
			line := fmt.Sprintf("%d\n", rapid.IntRange(0, 9).Draw(t, "line"))
			if rapid.Bool().Draw(t, "add") {
				set.add(line)
				has[line] = true
			} else {
				set.remove(line)
				delete(has, line)
			}
			var lines []string
			for l := range has {
				lines = append(lines, l)
			}
			got := set.digest()
			if got != digestOf(lines) {
				t.Fatalf("the digest of %v depends on how it came to be", has)
			}
			content := fmt.Sprint(has)
			if other, ok := seen[got]; ok && other != content {
				t.Fatalf("%s and %s have one digest", other, content)
			}
			seen[got] = content
		}
	})
}
