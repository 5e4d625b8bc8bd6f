package trace

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ulikunitz/xz"
)

const oneDay = header + "o,a,f,http,0,1,2\n"

func gzipped(t *testing.T, text []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	finish(t, w, text)
	return out.Bytes()
}

func xzipped(t *testing.T, text []byte) []byte {
	var out bytes.Buffer
	w, err := xz.NewWriter(&out)
	if err != nil {
		t.Fatal(err)
	}
	finish(t, w, text)
	return out.Bytes()
}

func finish(t *testing.T, w io.WriteCloser, text []byte) {
	t.Helper()
	if _, err := w.Write(text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

// member is a file of an archive.
type member struct{ name, text string }

func zipped(t *testing.T, members ...member) []byte {
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	for _, m := range members {
		f, err := w.Create(m.name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(f, m.text); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func tarred(t *testing.T, members ...member) []byte {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, m := range members {
		if err := w.WriteHeader(&tar.Header{Name: m.name, Mode: 0o600, Size: int64(len(m.text))}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, m.text); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestOpen(t *testing.T) {
	dir := t.TempDir()
	put := func(name string, raw []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), raw, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put("day.csv", []byte(oneDay))
	put("day.csv.gz", gzipped(t, []byte(oneDay)))
	put("day.csv.xz", xzipped(t, []byte(oneDay)))
	put("misnamed.csv", xzipped(t, []byte(oneDay)))
	put("one.zip", zipped(t, member{"readme.txt", "x"}, member{"in/day.CSV", oneDay}))
	put("two.zip", zipped(t, member{"d01.csv", "other"}, member{"d02.csv", oneDay}))
	put("none.zip", zipped(t, member{"readme.txt", "x"}))
	put("days.tar", tarred(t, member{"./d01.csv", "other"}, member{"./in/d02.csv", oneDay}))
	put("days.tar.xz", xzipped(t, tarred(t, member{"d01.csv", "other"}, member{"in/d02.csv", oneDay})))
	put("broken.xz", xzipped(t, []byte(oneDay))[:30])
	put("broken.gz", gzipped(t, []byte(oneDay))[:14])
	put("calls.csv", []byte("app,func,end_timestamp,duration\n"))
	put("other.csv", []byte("time,value\n1,2\n"))
	put("empty.csv", nil)

	want := []Function{{Owner: "o", App: "a", Name: "f", Trigger: "http", Counts: []uint32{0, 1, 2}}}
	for _, name := range []string{
		"day.csv", "day.csv.gz", "day.csv.xz", "misnamed.csv", "one.zip", "one.zip/in/day.CSV", "two.zip/d02.csv",
		"days.tar/in/d02.csv", "days.tar.xz/in/d02.csv",
	} {
		t.Run(name, func(t *testing.T) {
			f, err := Open(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			if format, err := f.Format(); err != nil || format != Counts2019 {
				t.Errorf("format %v, %v", format, err)
			}
			got, faults := collect(f)
			if len(faults) > 0 || !slices.EqualFunc(got, want, equal) {
				t.Errorf("got %+v %q", got, faults)
			}
			if err := f.Close(); err != nil {
				t.Error(err)
			}
		})
	}

	for _, c := range []struct{ name, want string }{
		{"absent.csv", "absent.csv: no such file"},
		{"nowhere/absent.csv", "no such file"},
		{".", "is a directory"},
		{"day.csv/d01.csv", `it is not an archive and so holds no "d01.csv"`},
		{"day.csv.xz/d01.csv", `it is not an archive`},
		{"two.zip", "the archive has 2 .csv files: name one, as ARCHIVE/FILE: d01.csv, d02.csv"},
		{"two.zip/d03.csv", `the archive has no file "d03.csv"`},
		{"none.zip", "the archive has no .csv"},
		{"days.tar", "it is a tar archive: name the file"},
		{"days.tar/d03.csv", `the archive has no file "d03.csv"`},
	} {
		f, err := Open(filepath.Join(dir, c.name))
		if err == nil {
			f.Close()
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one with %q", c.name, err, c.want)
		}
	}

	// What is damaged further in shows when it is read.
	for _, name := range []string{"broken.xz", "broken.gz"} {
		f, err := Open(filepath.Join(dir, name))
		if err != nil {
			continue
		}
		functions, faults := collect(f)
		if len(functions) > 0 || len(faults) == 0 {
			t.Errorf("%s: read %d functions and faults %q", name, len(functions), faults)
		}
		f.Close()
	}

	for _, c := range []struct {
		name   string
		format Format
		want   string
	}{
		{"calls.csv", Invocations2021, ""},
		{"other.csv", 0, `other.csv:1:1: the header begins with "time,value`},
		{"empty.csv", 0, `empty.csv:1:1: the header begins with ""`},
	} {
		f, err := Open(filepath.Join(dir, c.name))
		if err != nil {
			t.Fatal(err)
		}
		format, err := f.Format()
		if format != c.format || (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: format %v, error %v", c.name, format, err)
		}
		f.Close()
	}
}
