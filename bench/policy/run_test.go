package policy

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/polder/polder/loadtest/trace"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// file writes a synthetic trace and returns its path.
func file(t *testing.T, functions int) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "trace.csv")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	all := trace.Synthetic{Functions: functions, Minutes: 1440, Seed: 7}.All()
	if err := trace.Write(f, 1440, all); err != nil {
		t.Fatal(err)
	}
	return name
}

func options(t *testing.T) Options {
	o := DefaultOptions()
	o.Trace, o.Thresholds = file(t, 60), []float64{.02}
	o.From, o.To = 120, 300 // the first hours are enough to tell policies apart
	return o
}

func TestRunIsTheSameForAnyNumberOfWorkers(t *testing.T) {
	o := options(t)
	var first Report
	for _, workers := range []int{1, 3} {
		o.Workers = workers
		r, err := Run(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		r.Seconds = 0
		if workers == 1 {
			first = r
		} else if !reflect.DeepEqual(r, first) {
			t.Errorf("%d workers report otherwise than one", workers)
		}
	}
}

func TestRunReport(t *testing.T) {
	o := options(t)
	r, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	names, points := r.byPolicy()
	if want := []string{"polder auto", "polder sparing", "keep-alive", "hybrid histogram", "KPA-like window", "none", "oracle", "greedy-dual"}; !reflect.DeepEqual(names, want) {
		t.Errorf("policies: got %v, want %v", names, want)
	}
	for _, p := range points["keep-alive"] {
		if p.Setting == "10 min" && p.Waste != 1 {
			t.Errorf("the reference wastes %g, want 1", p.Waste)
		}
	}
	if p := points["oracle"][0]; p.Waste != 0 || p.Cold != 0 || p.Loads == 0 {
		t.Errorf("oracle: %+v", p.Score)
	}
	if p := points["none"][0]; p.Waste != 0 || p.Cold != 1 || p.Loads != 1 || p.ColdMean != 1 {
		t.Errorf("none: %+v", p.Score)
	}
	for _, p := range r.Points {
		if p.Functions != p.Regular.Functions+p.Irregular.Functions || math.Abs(p.Waste-p.Regular.Waste-p.Irregular.Waste) > 1e-9 {
			t.Errorf("%s %s: the classes do not add up", p.Policy, p.Setting)
		}
	}
	var page, plot, text bytes.Buffer
	for write, to := range map[*bytes.Buffer]func(io.Writer) error{&page: r.WriteHTML, &plot: r.WriteSVG, &text: r.WriteText} {
		if err := to(write); err != nil {
			t.Fatal(err)
		}
	}
	for d := xml.NewDecoder(&plot); ; {
		if _, err := d.Token(); err == io.EOF {
			break
		} else if err != nil {
			t.Fatalf("the plot is not well-formed: %v", err)
		}
	}
	if strings.Contains(page.String(), "<script") || strings.Contains(page.String(), "https://") {
		t.Error("the page refers to something outside itself")
	}
	left, want := 0, 5 // three lines before the points, and two about those that are left out
	for _, p := range r.Points {
		if r.beaten(p) {
			left++
		} else {
			want++
		}
	}
	if got := strings.Count(text.String(), "\n"); left == 0 || got != want {
		t.Errorf("the table has %d lines, want %d, with %d points left out", got, want, left)
	}
}

func TestRunHalvesAndWeights(t *testing.T) {
	o := options(t)
	n := map[Half]int{}
	for _, half := range []Half{All, Fitted, HeldOut} {
		o.Half = half
		r, err := Run(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		n[half] = r.Functions
	}
	if n[All] != 60 || n[Fitted]+n[HeldOut] != 60 || n[Fitted] < 15 || n[HeldOut] < 15 {
		t.Errorf("functions by half: %v", n)
	}

	o.Half = All
	plain, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	b.WriteString("HashFunction,weight\n")
	for f := range (trace.Synthetic{Functions: 60, Minutes: 1440, Seed: 7}).All() {
		b.WriteString(f.Name + ",3\n")
	}
	o.Weights = filepath.Join(t.TempDir(), "weights.csv")
	if err := os.WriteFile(o.Weights, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	weighted, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range plain.Points {
		w := weighted.Points[i]
		if math.Abs(p.Cold-w.Cold) > 1e-12 || math.Abs(p.Waste-w.Waste) > 1e-12 || p.ColdP75 != w.ColdP75 || math.Abs(3*p.Euros-w.Euros) > 1e-9 {
			t.Errorf("%s %s: equal weights change shares: %+v and %+v", p.Policy, p.Setting, p.Score, w.Score)
		}
	}
}

func TestRunFailures(t *testing.T) {
	o := options(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Run(ctx, o); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled run: got %v", err)
	}
	broken := o
	broken.Trace = filepath.Join(t.TempDir(), "broken.csv")
	text, err := os.ReadFile(o.Trace)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(broken.Trace, append(text, "a,b,c\n"...), 0o600); err != nil {
		t.Fatal(err)
	}
	var syntax *trace.SyntaxError
	if _, err := Run(t.Context(), broken); !errors.As(err, &syntax) {
		t.Errorf("a broken row: got %v, want a syntax error", err)
	}
	bad := Options{Half: "third", From: 5, To: 5, Thresholds: []float64{0}, KeepAlives: []int{0}}
	_, err = Run(t.Context(), bad)
	for _, want := range []string{"no trace", `"third"`, "from minute 5 to 5", "threshold 0", "keep-alive of 0", "memory of 0", "0 workers"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("options without sense: %v does not say %q", err, want)
		}
	}
}

func TestCommand(t *testing.T) {
	dir := t.TempDir()
	cmd := Command()
	var out bytes.Buffer
	cmd.SetOut(&out)
	html, svg := filepath.Join(dir, "a.html"), filepath.Join(dir, "a.svg")
	cmd.SetArgs([]string{file(t, 40), "-o", "json", "--html", html, "--svg", svg, "--thresholds", "0.05", "--functions", "held-out", "--from", "120", "--to", "240"})
	if err := cmd.ExecuteContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	var r Report
	if err := json.Unmarshal(out.Bytes(), &r); err != nil || r.Half != HeldOut || len(r.Points) == 0 {
		t.Fatalf("JSON: %v, %+v", err, r)
	}
	for _, name := range []string{html, svg} {
		if b, err := os.ReadFile(name); err != nil || len(b) == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTextLeavesOutWhatIsBeaten(t *testing.T) {
	p := func(policy, setting string, waste, cold, loads float64) Point {
		return Point{Policy: policy, Setting: setting, Score: Score{Waste: waste, Cold: cold, Loads: loads}}
	}
	r := Report{Points: []Point{
		p("a", "first", 1, .1, .1), p("a", "wasteful", 2, .1, .01), p("a", "equal", 1, .1, .2), p("a", "colder", .5, .2, .1),
		p("b", "another policy", 3, .3, .3),
		p(countsLoads, "starts often", 1, .1, .1), p(countsLoads, "starts seldom", 2, .1, .01), p(countsLoads, "worst", 2, .1, .1),
	}}
	var text strings.Builder
	if err := r.WriteText(&text); err != nil {
		t.Fatal(err)
	}
	for setting, shown := range map[string]bool{"first": true, "wasteful": false, "equal": true, "colder": true, "another policy": true,
		"starts often": true, "starts seldom": true, "worst": false, "2 settings are left out": true} {
		if strings.Contains(text.String(), setting) != shown {
			t.Errorf("%q: shown %t, want %t\n%s", setting, !shown, shown, &text)
		}
	}
}

func TestFrontier(t *testing.T) {
	p := func(waste, cold float64) Point { return Point{Score: Score{Waste: waste, Cold: cold}} }
	got := frontier([]Point{p(1, .1), p(.5, .5), p(.7, .6), p(1, .2), p(2, .1)})
	if want := []Point{p(.5, .5), p(1, .1)}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
