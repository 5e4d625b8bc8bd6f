package xds

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/polder/polder"
)

// maxToldWays bounds how many ways Recall takes: far more than regions and peers make.
const maxToldWays = 1 << 16

// Way is one of the Ways, in a form that outlives the process.
type Way struct {
	Name    string              `json:"name"`
	Home    string              `json:"home,omitempty"` // peer that comes before all others
	Targets []polder.RegionName `json:"targets"`        // in order of preference
	Through []string            `json:"through"`        // hosts whose connections it may have; sorted
	Kept    bool                `json:"kept,omitempty"` // nobody is led to it any more
	Left    time.Duration       `json:"left,omitempty"` // for how long; in nanoseconds
}

// Tell gives all ways, by name, as they are at an instant.
func (w Ways) Tell(now time.Time) []Way {
	list := make([]Way, 0, len(w.taken))
	for _, name := range slices.Sorted(maps.Keys(w.taken)) {
		t := w.taken[name]
		told := Way{Name: name, Home: t.home, Targets: t.targets, Through: slices.Sorted(maps.Keys(t.through)), Kept: t.kept}
		if t.kept {
			told.Left = max(0, now.Sub(t.left))
		}
		list = append(list, told)
	}
	return list
}

// joinedBy gives the ways to which hosts were led by their names, with these hosts alone.
func (w Ways) joinedBy(led map[string][]string) (list []Way) {
	for _, name := range slices.Sorted(maps.Keys(led)) {
		if t, known := w.taken[name]; known {
			list = append(list, Way{Name: name, Home: t.home, Targets: t.targets, Through: slices.Sorted(slices.Values(led[name]))})
		}
	}
	return list
}

// Recall remembers the ways that an earlier process told of, for those connections that
// Envoy still has. They are held to the law like all others, by the next Node: one that
// callers are not led to then is kept, as long as it is permitted. Of a way that is told
// of twice, the hosts are joined. An error means that the list was not told by Tell;
// then nothing is remembered.
func Recall(list []Way, now time.Time) (Ways, error) {
	if len(list) > maxToldWays {
		return Ways{}, fmt.Errorf("%d ways out are told of, more than %d", len(list), maxToldWays)
	}
	taken := make(map[string]takenWay, len(list))
	for _, told := range list {
		if told.Name == "" || len(told.Targets) == 0 || told.Left < 0 {
			return Ways{}, errors.New("a way out is told of without its name, its regions or its age")
		}
		t, known := taken[told.Name]
		if !known {
			t = takenWay{
				pass:    pass{name: told.Name, home: told.Home, targets: told.Targets},
				through: map[string]bool{}, kept: told.Kept,
			}
			if t.kept {
				t.left = now.Add(-told.Left)
			}
		}
		for _, host := range told.Through {
			t.through[host] = true
		}
		taken[told.Name] = t
	}
	return Ways{taken}, nil
}
