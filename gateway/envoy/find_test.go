package envoy

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// program writes an executable that answers --version with the line.
func program(t *testing.T, file, line string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("#!/bin/sh\necho '"+line+"'\n"), 0o700); err != nil {
		t.Fatal(err)
	}
}

func TestFind(t *testing.T) {
	answer := func(version string) string {
		return fmt.Sprintf("envoy  version: 9e55809337/%s/Clean/RELEASE/BoringSSL", version)
	}
	tool := filepath.Join("tools", "envoy-"+Version, "envoy")
	for _, c := range []struct {
		name     string
		programs map[string]string
		path     []string
		want     string   // found
		says     []string // in the error
	}{
		{"fetched", map[string]string{tool: answer(Version), "a/envoy": answer(Version)}, []string{"a"}, tool, nil},
		{"on PATH", map[string]string{"b/envoy": answer(Version)}, []string{"a", "b"}, "b/envoy", nil},
		{"behind an older one", map[string]string{"a/envoy": answer("1.36.2"), "b/envoy": answer(Version)}, []string{"a", "b"}, "b/envoy", nil},
		{"nowhere", nil, []string{"a"}, "", []string{"make envoy", "there is none"}},
		{"only an older one", map[string]string{"a/envoy": answer("1.36.2")}, []string{"a"}, "", []string{"make envoy", "a/envoy is 1.36.2"}},
		{"a longer version", map[string]string{"a/envoy": answer(Version + "1")}, []string{"a"}, "", []string{"a/envoy is " + Version + "1"}},
		{"something else", map[string]string{"a/envoy": "hello"}, []string{"a"}, "", []string{"make envoy", `"hello\n"`}},
		{"a folder", map[string]string{"a/envoy/x": ""}, []string{"a"}, "", []string{"a/envoy is a folder"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			for file, line := range c.programs {
				program(t, filepath.Join(dir, file), line)
			}
			path := []string{"", ".", "relative"} // never looked at
			for _, folder := range c.path {
				path = append(path, filepath.Join(dir, folder))
			}
			got, err := Find(t.Context(), filepath.Join(dir, "tools"), strings.Join(path, string(filepath.ListSeparator)))
			if c.want != "" && (err != nil || got != filepath.Join(dir, c.want)) {
				t.Errorf("Find = %q, %v, want %q", got, err, c.want)
			}
			for _, says := range c.says {
				if err == nil || !strings.Contains(err.Error(), says) {
					t.Errorf("Find = %q, %v, want an error that says %q", got, err, says)
				}
			}
		})
	}
}

func TestFindEndsWithItsContext(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "envoy")
	if err := os.WriteFile(file, []byte("#!/bin/sh\nexec cat /dev/zero > /dev/null\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got, err := Find(ctx, "", dir); err == nil || !strings.Contains(err.Error(), "canceled") {
		t.Errorf("Find = %q, %v, want the context's end", got, err)
	}
}

// TestPin: the Envoy that is fetched is the one that is looked for.
func TestPin(t *testing.T) {
	pin, err := os.ReadFile("../../tools/envoy.txt")
	if err != nil {
		t.Fatal(err)
	}
	if want := "\nenvoy-server==" + Version + " "; !strings.Contains(string(pin), want) {
		t.Errorf("tools/envoy.txt does not pin version %s", Version)
	}
}
