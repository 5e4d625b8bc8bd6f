package proof_test

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/polder/polder"
	"github.com/polder/polder/xds/proof"
)

// TestBookWith holds a book that was written change by change against one that was
// written anew, and a checker that was given the former against one from scratch.
func TestBookWith(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		book := w.book()
		c := proof.NewChecker(book)
		resources := w.snapshot()
		if err := c.Propose(proof.Change{Set: resources, Instances: w.observed()}).Commit(); err != nil {
			t.Fatal(err)
		}
		for step := range rapid.IntRange(1, 6).Draw(t, "steps") {
			next := w
			next.model = &polder.Model{Regions: w.model.Regions, Services: slices.Clone(w.model.Services)}
			var before, after []polder.Service
			for i := len(next.model.Services) - 1; i >= 0; i-- {
				s := next.model.Services[i]
				switch rapid.SampledFrom([]string{"same", "gone", "changed", "split"}).Draw(t, "change") {
				case "gone":
					before = append(before, s)
					next.model.Services = slices.Delete(next.model.Services, i, i+1)
				case "changed":
					before = append(before, s)
					next.model.Services[i] = drawService(t, s.Name, s.Hosts)
					after = append(after, next.model.Services[i])
				case "split": // its hosts move to a new one
					before = append(before, s)
					moved := drawService(t, polder.ServiceName(fmt.Sprintf("%s-%d", s.Name, step)), s.Hosts)
					next.model.Services[i] = moved
					after = append(after, moved)
				}
			}
			book = book.With(before, after, nil)
			if !proof.SameBook(book, next.book()) {
				t.Fatal("a book that was written change by change says something else than one that was written anew")
			}
			set := next.snapshot()
			sent, remove := difference(resources, set)
			p := c.Propose(proof.Change{Set: sent, Remove: remove, Instances: everyone(w, next), Book: book})
			if got, want := lines(p.Violations()), lines(next.check(set)); got != want {
				t.Fatalf("with the former:\n%s\nfrom scratch:\n%s", got, want)
			}
			if len(p.Violations()) > 0 {
				return
			}
			if err := p.Commit(); err != nil {
				t.Fatal(err)
			}
			w, resources = next, set
		}
	})
}
