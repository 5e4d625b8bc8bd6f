package loadtest

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"flag"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"
	"pgregory.net/rapid"

	"github.com/polder/polder/internal/faketime"
)

var update = flag.Bool("update", false, "rewrite the files of testdata")

// sample is what the recorder makes of a run that is written down here: warm and
// cold answers, failures, a second in which everything waits, two targets and
// one that is never called. factor makes the server slower.
func sample(factor time.Duration) Report {
	plan := Plan{Description: "a sample <run>", Targets: []Target{
		{Name: "billing", URL: "https://billing.example.com/", Connect: "127.0.0.1:8443", Arrivals: Constant{Rate: 100, For: 20 * time.Second}},
		{Name: "catalog", URL: "https://catalog.example.com/", Arrivals: Ramp{From: 1, To: 9, For: 20 * time.Second}},
		{Name: "never", URL: "https://never.example.com/", Arrivals: Replay{Speed: 1, Spread: Even}},
	}}
	rec := newRecorder(plan, DefaultOptions(), time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))
	s := newSchedule(plan.Targets)
	defer s.stop()
	var last time.Duration
	for n := 1; ; n++ {
		j, ok := s.next()
		if !ok {
			break
		}
		r := Result{
			Target: plan.Targets[j.target].Name, Outcome: Answered, Intended: j.intended, Sent: j.intended + 30*time.Microsecond,
			Status: 200, Protocol: "HTTP/2.0", Bytes: 100, Fresh: n <= 2,
		}
		wait := time.Millisecond + time.Duration(n%10)*100*time.Microsecond
		switch {
		case j.intended >= 8*time.Second && j.intended < 9*time.Second:
			r.Sent = 9 * time.Second
			if n%11 == 0 {
				r.Outcome, r.Status, r.Sent, wait = Dropped, 0, 0, 0
			}
		case n%90 == 1:
			r.Cold, wait = true, 80*time.Millisecond
		case n%200 == 2:
			r.Status = 503
		case n%300 == 3:
			r.Outcome, r.Status, r.Error = Failed, 0, "dial tcp 127.0.0.1:8443: connect: connection refused"
		}
		r.Done = max(r.Intended, r.Sent) + factor*wait
		last = max(last, r.Done)
		rec.add(r)
	}
	return rec.report(last, false)
}

// golden holds text against a file of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := "testdata/" + name
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs; run with -update and read the diff. Got:\n%s", path, got)
	}
}

func TestReportText(t *testing.T) {
	var out strings.Builder
	if err := sample(1).WriteText(&out); err != nil {
		t.Fatal(err)
	}
	golden(t, "report.txt", out.String())
	for i, line := range strings.Split(out.String(), "\n") {
		if n := len([]rune(line)); n > 100 {
			t.Errorf("line %d has %d characters", i+1, n)
		}
	}
}

// A report of nothing but failures, and one that was stopped at once, are
// written too.
func TestReportsOfLittle(t *testing.T) {
	faketime.Test(t, func(t *testing.T) {
		failed := mustRun(t, t.Context(), constantPlan(10, time.Second), DefaultOptions(), func(context.Context, int) answer {
			return answer{err: errors.New("no route")}
		})
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		stopped := mustRun(t, ctx, constantPlan(10, time.Second), DefaultOptions(), func(context.Context, int) answer { return answer{} })
		for _, c := range []struct {
			r    Report
			want string
		}{{failed, "10 × no route"}, {stopped, "stopped before the plan of 10 requests in 1.00 s was over"}} {
			var text, page, data bytes.Buffer
			if err := errors.Join(c.r.WriteText(&text), c.r.WriteHTML(&page), c.r.WriteJSON(&data)); err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(text.String(), c.want) {
				t.Errorf("the text lacks %q:\n%s", c.want, text.String())
			}
			if strings.Contains(page.String(), "NaN") || strings.Contains(data.String(), "null") {
				t.Error("a missing figure shows in the page or in the data")
			}
		}
	})
}

func TestReportJSONRoundTrip(t *testing.T) {
	want := sample(1)
	var data bytes.Buffer
	if err := want.WriteJSON(&data); err != nil {
		t.Fatal(err)
	}
	got, err := ReadReport(bytes.NewReader(data.Bytes()), "r.json")
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	golden(t, "report.json", data.String())
}

func TestReadReportFaults(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"", "read load report r.json: EOF"},
		{`{"format": }`, "byte 12"},
		{`{"format":"polder-load-report","version":1,"planned":-1}`, "planned"},
		{`{"version":1}`, `it is not a load report: its format is ""`},
		{`{"format":"polder-load-report","version":2}`, "it has version 2; this program reads version 1 to 1"},
		{`{"format":"polder-load-report"}`, "it has version 0"},
		{`{"format":"polder-load-report","version":1,"series":[{"at_us":0}]}`, "step_us is 0"},
		{`{"format":"polder-load-report","version":1,"step_us":1,"series":[` + strings.Repeat("{},", maxPoints) + `{}]}`, "its series has 241 points"},
		{`{"format":"polder-load-report","version":1,"curves":{"cold":[` + strings.Repeat("{},", maxCurve) + `{}]}}`, "a curve has more than 240 points"},
	} {
		if _, err := ReadReport(strings.NewReader(c.text), "r.json"); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one with %q", c.text, err, c.want)
		}
	}
	// A later writer of the same version may say more.
	if _, err := ReadReport(strings.NewReader(`{"format":"polder-load-report","version":1,"later":true}`), "r.json"); err != nil {
		t.Error(err)
	}
}

func FuzzReadReport(f *testing.F) {
	f.Add([]byte(`{"format":"polder-load-report","version":1,"series":[{"at_us":0}],"step_us":1,"curves":{"latency":[{"q":0,"us":1}]}}`))
	f.Add([]byte(`{"format":"polder-load-report","version":1,"series":[{"at_us":-9,"p50_us":-1},{"max_us":9223372036854775807,"scheduled":1}],"step_us":1,"total":{"answered":1,"warm":{"count":5000,"p50_us":-7}},"curves":{"cold":[{"q":7,"us":-1}]}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := ReadReport(bytes.NewReader(data), "r.json")
		if err != nil {
			return
		}
		// Whatever was read can be shown, and compared with itself as the same.
		var out bytes.Buffer
		if err := errors.Join(r.WriteText(&out), r.WriteHTML(&out)); err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(out.Bytes(), []byte("NaN")) && !bytes.Contains(data, []byte("NaN")) {
			t.Fatalf("an impossible figure shows in %s", out.Bytes())
		}
		for _, change := range Compare(r, r).Changes {
			if change.Verdict != Same {
				t.Fatalf("a report differs from itself: %+v", change)
			}
		}
	})
}

// The page is well-formed, shows the plots and the figures, quotes what it is
// given, and asks nothing of any other place.
func TestReportPage(t *testing.T) {
	r := sample(1)
	r.Description = `</script><script>alert("x")</script>`
	r.Total.Reasons = append(r.Total.Reasons, Reason{`<img src="https://evil.example/x">`, 1})
	var out bytes.Buffer
	if err := r.WriteHTML(&out); err != nil {
		t.Fatal(err)
	}
	root, err := html.Parse(bytes.NewReader(out.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	for n := range root.Descendants() {
		if n.Type != html.ElementNode {
			continue
		}
		count[n.Data]++
		for _, a := range n.Attr {
			switch a.Key {
			case "src", "srcset", "action", "data", "poster", "formaction", "background", "xlink:href":
				t.Errorf("<%s %s=%q> loads something", n.Data, a.Key, a.Val)
			case "href":
				if a.Val != "data:," {
					t.Errorf("<%s href=%q> leads elsewhere", n.Data, a.Val)
				}
			case "d":
				if !regexp.MustCompile(`^[MLHh0-9. -]*$`).MatchString(a.Val) {
					t.Errorf("a path was mangled: %.80s", a.Val)
				}
			}
		}
	}
	if count["script"] != 1 || count["img"] != 0 || count["figure"] != 3 || count["link"] != 1 {
		t.Errorf("elements: %v", count)
	}
	if regexp.MustCompile(`url\(|@import|fetch\(|XMLHttpRequest|import\(`).Match(out.Bytes()) {
		t.Error("the page loads something by style or script")
	}
	for _, want := range []string{"Latency over time", "Rates", "Distribution", "billing", "connection refused", fmt.Sprint(r.Total.Answered), micros(r.Total.Cold.P50), "default-src 'none'"} {
		if !strings.Contains(html.UnescapeString(out.String()), want) {
			t.Errorf("the page lacks %q", want)
		}
	}
}

func TestCompare(t *testing.T) {
	before, after := sample(1), sample(2)
	if c := Compare(before, before); len(c.Differences) != 0 || slices.ContainsFunc(c.Changes, func(c Change) bool { return c.Verdict != Same }) {
		t.Errorf("a run differs from itself: %+v", c)
	}
	c, back := Compare(before, after), Compare(after, before)
	opposite := map[Verdict]Verdict{Same: Same, Better: Worse, Worse: Better}
	for i, change := range c.Changes {
		if mirrored := back.Changes[i]; mirrored.Verdict != opposite[change.Verdict] {
			t.Errorf("%+v one way, %+v the other", change, mirrored)
		}
		if change.Figure == "warm p50" && (change.Verdict != Worse || change.After < 1.9*change.Before || change.After > 2.1*change.Before) {
			t.Errorf("a server of half the speed: %+v", change)
		}
	}
	if len(c.Differences) != 0 {
		t.Errorf("the plans are alike, and yet: %q", c.Differences)
	}
	var out strings.Builder
	if err := c.WriteText(&out); err != nil {
		t.Fatal(err)
	}
	golden(t, "compare.txt", out.String())
}

// Whatever makes two runs unlike is said.
func TestCompareUnlike(t *testing.T) {
	before := sample(1)
	for _, c := range []struct {
		change func(*Report)
		want   string
	}{
		{func(r *Report) { r.Planned++ }, "planned requests"},
		{func(r *Report) { r.Stopped = true }, "stopped early: false before, true after"},
		{func(r *Report) { r.Settings.Protocol = HTTP1 }, "protocol: auto before, http/1.1 after"},
		{func(r *Report) { r.Settings.Timeout = 5e6 }, "timeout: 60.0 s before, 5.00 s after"},
		{func(r *Report) { r.Targets[1].Arrivals = "other" }, "arrivals of target catalog"},
		{func(r *Report) { r.Targets[1].Name = "new" }, "target new: only after"},
		{func(r *Report) { r.Targets = r.Targets[1:] }, "target billing: only before"},
	} {
		after := before
		after.Targets = slices.Clone(before.Targets)
		c.change(&after)
		got := Compare(before, after).Differences
		if !slices.ContainsFunc(got, func(s string) bool { return strings.Contains(s, c.want) }) {
			t.Errorf("differences %q, want one with %q", got, c.want)
		}
	}
}

// Shares are judged by how sure their difference is.
func TestShareVerdict(t *testing.T) {
	for _, c := range []struct {
		b, ofB, a, ofA uint64
		want           Verdict
		reason         string
	}{
		{0, 1000, 0, 1000, Same, "none and none"},
		{0, 1000, 1, 1000, Worse, "the first error is news"},
		{3, 1000, 0, 1000, Better, "the last one is gone"},
		{10, 1000, 15, 1000, Same, "within three standard errors"},
		{100, 10000, 200, 10000, Worse, "7 standard errors"},
		{200, 10000, 100, 10000, Better, "the same backwards"},
		{1, 2, 50, 100, Same, "equal shares of unequal runs"},
		{0, 0, 0, 10, Same, "nothing was sent before"},
	} {
		if got := shareVerdict(c.b, c.ofB, c.a, c.ofA); got != c.want {
			t.Errorf("%d of %d → %d of %d: %s, want %s (%s)", c.b, c.ofB, c.a, c.ofA, got, c.want, c.reason)
		}
	}
}

// A histogram's quantiles are within a thousandth of the exact ones, and its
// mean and extremes are exact.
func TestHistogramAgainstExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		times := rapid.SliceOfN(rapid.OneOf(rapid.Int64Range(0, 5000), rapid.Int64Range(0, longest.Microseconds())), 1, 300).Draw(t, "µs")
		h := newHistogram(3)
		sum := 0.0
		for _, us := range times {
			h.add(micro(us))
			sum += float64(us)
		}
		slices.Sort(times)
		q := h.quantiles()
		if q.Count != uint64(len(times)) || q.Min != times[0] || q.Max != times[len(times)-1] || q.Mean != sum/float64(len(times)) {
			t.Fatalf("%+v of %v", q, times)
		}
		for _, c := range []struct {
			share float64
			got   int64
		}{{0.5, q.P50}, {0.9, q.P90}, {0.99, q.P99}, {0.999, q.P999}} {
			rank := int(c.share*float64(len(times)) + 0.999999)
			want := times[max(rank, 1)-1]
			if d := float64(c.got - want); d > 1+float64(want)/1000 || d < -1-float64(want)/1000 {
				t.Fatalf("quantile %v is %d, want %d", c.share, c.got, want)
			}
		}
		last := int64(0)
		for _, p := range h.curve() {
			if p.Latency < last {
				t.Fatalf("the curve falls: %v", h.curve())
			}
			last = p.Latency
		}
	})
}

func TestHistogramClamps(t *testing.T) {
	h := newHistogram(3)
	h.add(-time.Second)
	h.add(100 * longest)
	if q := h.quantiles(); q.Min != 0 || q.Max != longest.Microseconds() {
		t.Errorf("%+v", q)
	}
}

// Any length has a step with which it fits, up to the longest plan.
func TestSeriesIsBounded(t *testing.T) {
	for _, length := range []time.Duration{0, time.Millisecond, 23 * time.Second, 24 * time.Second, 25 * time.Second, time.Hour, 24 * time.Hour, MaxLength} {
		s := newSeries(length)
		if s.step*maxPoints < length {
			t.Errorf("%v does not fit into %d points of %v", length, maxPoints, s.step)
		}
		s.add(Result{Outcome: Dropped, Intended: 2*length + time.Hour}) // an Arrivals of others may overrun its length
		if points := s.finish(); len(points) > maxPoints {
			t.Errorf("%d points", len(points))
		}
	}
}

var genResult = rapid.Custom(func(t *rapid.T) Result {
	text := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"", "a,b", "say \"no\"", "two\nlines", " x "}))
	whole := rapid.Int64Range(0, 1<<50)
	return Result{
		Target: text.Draw(t, "target"), Outcome: rapid.SampledFrom([]Outcome{Answered, Failed, Interrupted, Dropped, Abandoned}).Draw(t, "outcome"),
		Intended: time.Duration(whole.Draw(t, "intended")), Sent: time.Duration(whole.Draw(t, "sent")), Done: time.Duration(whole.Draw(t, "done")),
		Status: rapid.IntRange(0, 999).Draw(t, "status"), Protocol: text.Draw(t, "protocol"), Cold: rapid.Bool().Draw(t, "cold"),
		Fresh: rapid.Bool().Draw(t, "fresh"), Retries: rapid.IntRange(0, 9).Draw(t, "retries"), Bytes: whole.Draw(t, "bytes"), Error: text.Draw(t, "error"),
	}
})

// TestResultsAreReadAsTheyWere: what a reader of CSV finds is what was written.
func TestResultsAreReadAsTheyWere(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.SliceOfN(genResult, 0, 10).Draw(t, "results")
		for i := range want { // CSV has one line end
			for _, s := range []*string{&want[i].Target, &want[i].Protocol, &want[i].Error} {
				*s = strings.ReplaceAll(*s, "\r", "")
			}
		}
		var data bytes.Buffer
		w := NewResultWriter(&data)
		for _, r := range want {
			if err := w.Write(r); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		rows, err := csv.NewReader(&data).ReadAll()
		if err != nil || len(rows) != 1+len(want) || !slices.Equal(rows[0], resultColumns) {
			t.Fatalf("%d rows for %d results: %v", len(rows), len(want), err)
		}
		for i, r := range want {
			if row := rows[1+i]; row[0] != r.Target || row[1] != string(r.Outcome) || row[2] != strconv.FormatInt(r.Intended.Nanoseconds(), 10) ||
				row[5] != strconv.Itoa(r.Status) || row[6] != r.Protocol || row[7] != strconv.FormatBool(r.Cold) || row[11] != r.Error {
				t.Fatalf("%+v is written as %q", r, row)
			}
		}
	})
}

func TestFormats(t *testing.T) {
	for us, want := range map[int64]string{
		0: "0 µs", 999: "999 µs", 1000: "1.00 ms", 9994: "9.99 ms", 12345: "12.3 ms", 123456: "123 ms", 1_500_000: "1.50 s", 119_000_000: "119 s", 3_600_000_000: "1h0m0s",
	} {
		if got := micros(us); got != want {
			t.Errorf("%d µs reads %q, want %q", us, got, want)
		}
	}
	for _, c := range []struct {
		share float64
		want  string
	}{{0, ""}, {0.5, "██"}, {0.53125, "██▏"}, {1, "████"}, {7, "████"}} {
		if got := blocks(c.share, 4); got != c.want {
			t.Errorf("bar of %v is %q, want %q", c.share, got, c.want)
		}
	}
	if got := sparkline([]float64{0, 0.001, 4, 8, 1, 8}, 3); got != "▁██" {
		t.Errorf("sparkline %q", got)
	}
	for x, want := range map[float64]string{0: "0 %", 1: "90 %", 2: "99 %", 3: "99.9 %", 4: "99.99 %"} {
		if got := quantileText(x); got != want {
			t.Errorf("1-10^-%v reads %q, want %q", x, got, want)
		}
	}
}
