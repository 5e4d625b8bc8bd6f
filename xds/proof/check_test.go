package proof_test

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/types/known/anypb"

	"github.com/polder/polder/xds"
	"github.com/polder/polder/xds/proof"
)

// TestTranslationIsProved holds every case of the translation's golden tests
// against the proof.
func TestTranslationIsProved(t *testing.T) {
	cases, err := filepath.Glob("../testdata/*/in.yaml")
	if err != nil || len(cases) < 8 {
		t.Fatalf("only %d cases: %v", len(cases), err)
	}
	for _, in := range cases {
		name := filepath.Base(filepath.Dir(in))
		t.Run(name, func(t *testing.T) {
			w := readWorld(t, name)
			for _, v := range w.check(w.snapshot()) {
				t.Error(v)
			}
		})
	}
}

// TestResourcesWithoutSense holds what no translation would make.
func TestResourcesWithoutSense(t *testing.T) {
	w := mutantWorld(t)
	good := w.snapshot()
	key := proof.Key{Type: xds.TypeCluster, Name: "service/billing"}
	for _, c := range []struct {
		name   string
		bad    proof.Resource
		reason string
	}{
		{"no body", proof.Resource{Key: key}, "no content"},
		{"no key", proof.Resource{}, "no content"},
		{"empty body", proof.Resource{Key: key, Body: new(anypb.Any)}, "another type"},
		{"body of another type", proof.Resource{Key: key, Body: &anypb.Any{TypeUrl: xds.TypeEndpoint}}, "another type"},
		{"type without a prefix", proof.Resource{Key: proof.Key{Type: "envoy.config.cluster.v3.Cluster"}, Body: &anypb.Any{TypeUrl: "envoy.config.cluster.v3.Cluster"}}, "does not understand"},
	} {
		found := w.check(append(slices.Clone(good), c.bad))
		if !slices.ContainsFunc(found, func(v proof.Violation) bool { return strings.Contains(v.Reason, c.reason) }) {
			t.Errorf("%s: got\n%s", c.name, lines(found))
		}
	}
}
