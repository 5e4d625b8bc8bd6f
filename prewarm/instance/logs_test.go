package instance

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestLogsAreBounded(t *testing.T) {
	inFakeTime(t, func(o *Options, _ *fakeProvider) { o.Logs = LogLimits{Bytes: 10, Files: 2} }, func(w *world) {
		id, _ := w.ready(sample("billing"))
		dir := filepath.Join(LogDir(w.o.StateDir), "billing")
		running := filepath.Join(dir, string(id)+".log")
		write := func(file, text string) {
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		write(running, "more than ten bytes\n")
		if err := os.Chtimes(running, time.Unix(1, 0), time.Unix(1, 0)); err != nil { // silent for long
			t.Fatal(err)
		}
		for i, name := range []string{"a", "b", "c", "d"} {
			file := filepath.Join(dir, "billing-"+name+".log")
			write(file, name)
			write(file+".1", name)
			when := time.Unix(int64(100-i), 0)
			if err := os.Chtimes(file, when, when); err != nil {
				t.Fatal(err)
			}
		}
		pass(keepEvery)
		synctest.Wait()
		files, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		var left []string
		for _, f := range files {
			left = append(left, strings.TrimPrefix(f.Name(), "billing-"))
		}
		mine := strings.TrimPrefix(filepath.Base(running), "billing-")
		want := []string{"a.log", "a.log.1", "b.log", "b.log.1", mine, mine + ".1"}
		slices.Sort(left)
		slices.Sort(want)
		if !slices.Equal(left, want) {
			t.Errorf("left %q, want %q", left, want)
		}
		if info, err := os.Stat(running); err != nil || info.Size() != 0 {
			t.Errorf("the running instance's log: %v, %v", info.Size(), err)
		}
	})
}
