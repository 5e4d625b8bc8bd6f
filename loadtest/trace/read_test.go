package trace

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"
)

const header = "HashOwner,HashApp,HashFunction,Trigger,1,2,3\n"

// collect reads all functions and the text of all errors.
func collect(r io.Reader) (functions []Function, faults []string) {
	for f, err := range Read(r, "t.csv") {
		if err != nil {
			faults = append(faults, err.Error())
			continue
		}
		functions = append(functions, f)
	}
	return functions, faults
}

func TestRead(t *testing.T) {
	want := []Function{
		{Owner: "o", App: "a", Name: "f", Trigger: "http", Counts: []uint32{0, 1, 4294967295}},
		{Owner: "", App: "", Name: "g", Trigger: "", Counts: []uint32{7, 0, 0}},
	}
	for name, text := range map[string]string{
		"plain":              header + "o,a,f,http,0,1,4294967295\n,,g,,7,0,0\n",
		"no last newline":    header + "o,a,f,http,0,1,4294967295\n,,g,,7,0,0",
		"CRLF":               strings.ReplaceAll(header+"o,a,f,http,0,1,4294967295\n,,g,,7,0,0\n", "\n", "\r\n"),
		"byte order mark":    "\uFEFF" + header + "o,a,f,http,0,1,4294967295\n,,g,,7,0,0\n",
		"empty lines":        "\n" + header + "\n\no,a,f,http,0,1,4294967295\n\n,,g,,7,0,0\n\n",
		"quotes of a writer": `"HashOwner","HashApp","HashFunction","Trigger","1","2","3"` + "\n" + `"o","a","f","http","0","1","4294967295"` + "\n" + `"","","g","",7,0,0`,
	} {
		t.Run(name, func(t *testing.T) {
			for _, r := range []io.Reader{strings.NewReader(text), iotest.OneByteReader(strings.NewReader(text))} {
				got, faults := collect(r)
				if len(faults) > 0 {
					t.Fatalf("faults: %q", faults)
				}
				if !slices.EqualFunc(got, want, equal) {
					t.Errorf("got %+v, want %+v", got, want)
				}
			}
		})
	}
}

func equal(a, b Function) bool {
	return a.Owner == b.Owner && a.App == b.App && a.Name == b.Name && a.Trigger == b.Trigger && slices.Equal(a.Counts, b.Counts)
}

func TestReadFaults(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       []string // what each fault must say
		good       int      // functions that are read all the same
	}{
		{"nothing", "", []string{"t.csv:1:1: the trace is empty"}, 0},
		{"other file", "a;b;c\n1;2;3\n", []string{`t.csv:1:1: the header has column "a;b;c" where HashOwner should be`}, 0},
		{"short header", "HashOwner,HashApp\n", []string{"t.csv:1:18: the header ends where column HashFunction should be"}, 0},
		{"no minutes", "HashOwner,HashApp,HashFunction,Trigger\n", []string{"t.csv:1:39: the header has no minutes"}, 0},
		{"minute missing", "HashOwner,HashApp,HashFunction,Trigger,1,3\n", []string{`t.csv:1:42: the header has column "3" where minute 2 should be`}, 0},
		{"short row", header + "o,a,f,http,1,2\n", []string{"t.csv:2:15: the row has 2 minutes and the header 3"}, 0},
		{"very short row", header + "o,a\n", []string{"t.csv:2:4: the row ends where column HashFunction should be"}, 0},
		{"long row", header + "o,a,f,http,1,2,3,4\n", []string{"t.csv:2:18: the row has more than the header's 3 minutes"}, 0},
		{"negative", header + "o,a,f,http,1,-2,3\n", []string{`t.csv:2:14: the count "-2" of minute 2`}, 0},
		{"fraction", header + "o,a,f,http,1,2,3.0\n", []string{`t.csv:2:16: the count "3.0" of minute 3`}, 0},
		{"empty count", header + "o,a,f,http,,2,3\n", []string{`t.csv:2:12: the count "" of minute 1`}, 0},
		{"too large", header + "o,a,f,http,4294967296,2,3\n", []string{`t.csv:2:12: the count "4294967296" of minute 1`}, 0},
		{"no name", header + "o,a,,http,1,2,3\n", []string{"t.csv:2:1: the row has no HashFunction"}, 0},
		{"quote inside", header + `o,a,f"g,http,1,2,3`, []string{`t.csv:2:5: HashFunction "f\"g" holds a quote`}, 0},
		{"not text", header + "o,\xff,f,http,1,2,3\n", []string{"t.csv:2:3: HashApp is not UTF-8"}, 0},
		{"several, with good rows between", header + "o,a,f,http,x,0,0\no,a,g,http,1,0,0\n\no,a,h,http,1\no,a,i,http,1,0,0\n",
			[]string{"t.csv:2:12: ", "t.csv:5:13: "}, 2},
		{"endless row", header + "o,a,f,http," + strings.Repeat("1", 2*MaxRow) + "\no,a,g,http,1,0,0\n", []string{"t.csv:2:1048577: the row is longer than 1048576 bytes"}, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, faults := collect(strings.NewReader(c.text))
			if len(got) != c.good || len(faults) != len(c.want) {
				t.Fatalf("%d functions and faults %q, want %d and %q", len(got), faults, c.good, c.want)
			}
			for i, want := range c.want {
				if !strings.HasPrefix(faults[i], want) {
					t.Errorf("fault %d: %q, want %q...", i, faults[i], want)
				}
			}
		})
	}
}

// A broken disk ends the stream: going on would repeat the error for ever.
func TestReadEndsAtReadError(t *testing.T) {
	broken := errors.New("broken disk")
	r := io.MultiReader(strings.NewReader(header+"o,a,f,http,1,2,3\n"), iotest.ErrReader(broken))
	var errs []error
	functions := 0
	for _, err := range Read(r, "t.csv") {
		if err != nil {
			errs = append(errs, err)
		} else {
			functions++
		}
	}
	if functions != 1 || len(errs) != 1 || !errors.Is(errs[0], broken) || !strings.Contains(errs[0].Error(), "t.csv after line 2") {
		t.Errorf("%d functions, errors %v", functions, errs)
	}
}

// Names as the format can hold them, commas and quotes excluded.
var genName = rapid.StringMatching(`[a-zA-Z0-9_\-. äπ]{0,12}`)

func genFunctions(t *rapid.T) (minutes int, functions []Function) {
	minutes = rapid.IntRange(1, 30).Draw(t, "minutes")
	functions = rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Function {
		return Function{
			Owner: genName.Draw(t, "owner"), App: genName.Draw(t, "app"),
			Name: genName.Draw(t, "name") + "x", Trigger: genName.Draw(t, "trigger"),
			Counts: rapid.SliceOfN(rapid.Uint32(), minutes, minutes).Draw(t, "counts"),
		}
	}), 0, 8).Draw(t, "functions")
	return minutes, functions
}

func TestWriteThenRead(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		minutes, want := genFunctions(t)
		var text bytes.Buffer
		if err := Write(&text, minutes, slices.Values(want)); err != nil {
			t.Fatal(err)
		}
		got, faults := collect(&text)
		if len(faults) > 0 || !slices.EqualFunc(got, want, equal) {
			t.Fatalf("got %+v %q, want %+v", got, faults, want)
		}
	})
}

func TestWriteRefuses(t *testing.T) {
	for _, c := range []struct {
		f    Function
		want string
	}{
		{Function{Name: "f", Counts: make([]uint32, 2)}, `function "f" has 2 minutes and the header 3`},
		{Function{App: "a", Counts: make([]uint32, 3)}, `of app "a" has no name`},
		{Function{Name: "f,g", Counts: make([]uint32, 3)}, `cannot hold "f,g"`},
		{Function{Name: "f", App: "a\nb", Counts: make([]uint32, 3)}, `cannot hold "a\nb"`},
		{Function{Name: "f", Owner: "\xff", Counts: make([]uint32, 3)}, `cannot hold "\xff"`},
	} {
		err := Write(io.Discard, 3, slices.Values([]Function{c.f}))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: error %v, want one with %q", c.f, err, c.want)
		}
	}
	if err := Write(io.Discard, 0, slices.Values([]Function{})); err == nil {
		t.Error("a trace of no minutes was written")
	}
}

// FuzzRead: any bytes are read without a panic and to an end; faults have a
// place; and what was understood survives being written and read again.
func FuzzRead(f *testing.F) {
	f.Add([]byte(header + "o,a,f,http,0,1,2\n"))
	f.Add([]byte("\uFEFF\"HashOwner\"," + header[10:] + "\"\",a,f,\"x\",0,1,2\r\n,,,\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		var good []Function
		for fn, err := range Read(bytes.NewReader(text), "t.csv") {
			if syntax := (*SyntaxError)(nil); errors.As(err, &syntax) {
				if syntax.Line < 1 || syntax.Column < 1 || syntax.Reason == "" {
					t.Fatalf("fault without a place: %+v", syntax)
				}
			} else if err != nil {
				t.Fatalf("reading from memory failed: %v", err)
			} else {
				good = append(good, fn)
			}
		}
		if len(good) == 0 {
			return
		}
		var again bytes.Buffer
		if err := Write(&again, len(good[0].Counts), slices.Values(good)); err != nil {
			t.Fatal(err)
		}
		reread, faults := collect(&again)
		if len(faults) > 0 || !slices.EqualFunc(reread, good, equal) {
			t.Fatalf("read %+v %q, had written %+v", reread, faults, good)
		}
	})
}
