package polder

import (
	"bytes"
	"flag"
	"os"
	"testing"
)

//go:generate go test -run ^TestGeneratedFilesAreFresh$ . -update

var update = flag.Bool("update", false, "write the generated files anew")

func TestGeneratedFilesAreFresh(t *testing.T) {
	schema, err := Schema()
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string][]byte{
		"docs/polder.schema.json": schema,
		"docs/config.md":          []byte(reference()),
	} {
		if *update {
			if err := os.WriteFile(path, want, 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		got, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s is not what config_shape.go says; run: go generate .", path)
		}
	}
}
