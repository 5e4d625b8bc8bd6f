package policy

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// TestTraceCommand: what it writes is a trace that the simulator takes.
func TestTraceCommand(t *testing.T) {
	var out, again bytes.Buffer
	for _, to := range []*bytes.Buffer{&out, &again} {
		cmd := TraceCommand()
		cmd.SetOut(to)
		cmd.SetArgs([]string{"--functions", "20", "--minutes", "300", "--seed", "3"})
		if err := cmd.ExecuteContext(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(out.Bytes(), again.Bytes()) {
		t.Error("equal flags write other bytes")
	}
	o := options(t)
	o.Trace = filepath.Join(t.TempDir(), "written.csv")
	if err := os.WriteFile(o.Trace, out.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := Run(t.Context(), o)
	if err != nil || r.Functions != 20 || r.Calls == 0 {
		t.Errorf("%+v, %v", r, err)
	}
	for _, bad := range [][]string{{"--functions", "0"}, {"--minutes", "0"}} {
		cmd := TraceCommand()
		cmd.SetOut(&out)
		cmd.SetErr(&out)
		cmd.SetArgs(bad)
		if err := cmd.ExecuteContext(t.Context()); err == nil {
			t.Errorf("%v was taken", bad)
		}
	}
}
