package proof

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/polder/polder"
)

// maxServices bounds the services that a Violation names.
const maxServices = 8

// Violation is a way in which resources break the law, or could: what cannot
// be followed counts as well.
type Violation struct {
	// Services are those whose callers are concerned, sorted, at most eight.
	// None means every service.
	Services []polder.ServiceName
	// Path leads to the fault, outermost first, each element a kind and a name.
	Path []string
	// Address is what would be reached: an address, a file, a secret, a cluster.
	Address string
	// Reason says what is wrong with it.
	Reason string
}

// String says everything on one line.
func (v Violation) String() string {
	whose := "every service"
	if len(v.Services) > 0 {
		names := make([]string, len(v.Services))
		for i, s := range v.Services {
			names[i] = string(s)
		}
		whose = "service " + strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s: %s reaches %s: %s", whose, strings.Join(v.Path, " > "), v.Address, v.Reason)
}

func (v Violation) compare(w Violation) int {
	return cmp.Or(slices.Compare(v.Services, w.Services), slices.Compare(v.Path, w.Path),
		cmp.Compare(v.Address, w.Address), cmp.Compare(v.Reason, w.Reason))
}

// tidy sorts violations and drops repetitions.
func tidy(list []Violation) []Violation {
	slices.SortFunc(list, Violation.compare)
	return slices.CompactFunc(list, func(v, w Violation) bool { return v.compare(w) == 0 })
}
