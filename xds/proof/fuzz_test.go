package proof_test

import (
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/polder/polder/xds/proof"
)

// FuzzResource adds a resource of any bytes to a good snapshot, or puts it in
// the place of one. The proof never panics, and what it accepts consists of
// words that it knows, without a stray address, and leads no caller astray.
func FuzzResource(f *testing.F) {
	w := mutantWorld(f)
	good := w.snapshot()
	slices.SortFunc(good, func(a, b proof.Resource) int { return len(a.Name) - len(b.Name) })
	for i, r := range good {
		f.Add(uint8(i), r.Body.TypeUrl, r.Body.Value)
	}
	for _, m := range slices.Concat(filterMutants(), clusterMutants(), strangeMutants()) {
		s := open(f, good)
		m.change(s)
		set, _ := difference(good, s.resources())
		for i, r := range set {
			if !slices.ContainsFunc(good, func(g proof.Resource) bool { return proto.Equal(g.Body, r.Body) }) {
				f.Add(uint8(i), r.Body.TypeUrl, r.Body.Value)
			}
		}
	}
	words := proof.Words()
	book, observed := w.book(), w.observed()
	base := proof.NewChecker(book)
	if err := base.Propose(proof.Change{Set: good, Instances: observed}).Commit(); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, place uint8, typeURL string, body []byte) {
		changed := proof.Resource{Key: proof.Key{Type: typeURL, Name: "new"}, Body: &anypb.Any{TypeUrl: typeURL, Value: body}}
		if int(place) < len(good) {
			changed.Name = good[place].Name
		}
		bad := slices.DeleteFunc(slices.Clone(good), func(r proof.Resource) bool { return r.Key == changed.Key })
		bad = append(bad, changed)
		if len(base.Propose(proof.Change{Set: []proof.Resource{changed}}).Violations()) > 0 {
			return
		}
		c := proof.NewChecker(book)
		p := c.Propose(proof.Change{Set: bad, Instances: observed})
		if err := p.Commit(); err != nil {
			t.Fatal(err)
		}
		look(changed, func(m protoreflect.Message) {
			fields, ok := words[string(m.Descriptor().FullName())]
			if !ok || len(m.GetUnknown()) > 0 {
				t.Errorf("accepted %s, unknown fields %x", m.Descriptor().FullName(), m.GetUnknown())
			}
			m.Range(func(f protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
				if !slices.Contains(fields, string(f.Name())) {
					t.Errorf("accepted %s", f.FullName())
				}
				return true
			})
		})
		if strays := (lawbook{w}).strays(bad); len(strays) > 0 {
			t.Errorf("accepted, with %v", strays)
		}
		if found := (lawbook{w}).unlawful(c); len(found) > 0 {
			t.Errorf("accepted, and callers reach %+v", found)
		}
	})
}
