package polder

import (
	"os"
	"testing"
)

func TestTheExampleDecodes(t *testing.T) {
	data, err := os.ReadFile("examples/polder.yaml")
	if err != nil {
		t.Fatal(err)
	}
	file := File{Name: "examples/polder.yaml", Data: data, Dir: "/srv/examples"}
	r := Decode([]File{file})
	for _, f := range r.Faults {
		t.Error(f)
	}
	for _, s := range r.Model.Services {
		t.Logf("%+v %+v", s, s.Run)
	}
	t.Logf("%+v", r.Model.Regions)
}
