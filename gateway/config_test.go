package gateway

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestConfigurationThatIsNotThere: without a file, and without an earlier good one, a
// region says what is missing. Once there was a good one, it stays in force, and the
// last good one on disk, while its file is away; status says so.
func TestConfigurationThatIsNotThere(t *testing.T) {
	layout := Layout{State: t.TempDir(), Region: "fr"}
	if err := os.MkdirAll(layout.LastGood(), 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "polder.yaml")
	start := func() *config { return newConfig(slog.New(slog.DiscardHandler), path, layout) }
	if _, err := start().load(); err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "no earlier good one") {
		t.Errorf("without a file: %v", err)
	}

	const text = "regions: { fr: { jurisdiction: [FR], location: [48.86, 2.35] } }\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c := start()
	good, err := c.load()
	if err != nil {
		t.Fatal(err)
	}
	kept, err := os.ReadFile(c.file)
	if err != nil {
		t.Fatal(err)
	}

	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if m := c.take(c.source.Load()); m != good {
		t.Errorf("%+v is in force without a file, want the last good one", m)
	}
	if s := c.Status(); len(s.Faults) != 1 || !strings.Contains(s.Faults[0].Message, "no such file") {
		t.Errorf("status tells of the faults %+v", s.Faults)
	}
	if now, err := os.ReadFile(c.file); err != nil || !bytes.Equal(now, kept) {
		t.Errorf("the last good one on disk became %q, %v", now, err)
	}
	next := start()
	if m, err := next.load(); err != nil || len(m.Regions) != 1 || len(next.Status().Faults) != 1 {
		t.Errorf("a restart without a file: %+v, %v, faults %+v", m, err, next.Status().Faults)
	}
}
