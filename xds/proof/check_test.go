package proof_test

import (
	"path/filepath"
	"testing"
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
