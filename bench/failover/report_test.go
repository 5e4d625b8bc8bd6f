package failover

import (
	"strings"
	"testing"
	"time"

	"github.com/polder/polder/loadtest"
)

func TestRound(t *testing.T) {
	ms := time.Millisecond
	call := func(intended, done time.Duration, status int, note, fault string) loadtest.Result {
		r := loadtest.Result{Outcome: loadtest.Answered, Intended: intended, Sent: intended, Done: done, Status: status, Note: note, Error: fault}
		if fault != "" {
			r.Outcome = loadtest.Failed
		}
		return r
	}
	r := round([]loadtest.Result{
		call(100*ms, 110*ms, 200, "nl", ""),
		call(990*ms, 1300*ms, 0, "", "reset"),
		call(1100*ms, 1250*ms, 503, "", ""),
		call(1200*ms, 1700*ms, 200, "pl", ""),
		call(1400*ms, 1450*ms, 200, "pl", ""),
		{Outcome: loadtest.Abandoned, Intended: 1500 * ms},
		call(20*time.Second, 20*time.Second+5*ms, 200, "nl", ""), // beyond the plot
	}, time.Second)
	if r.Calls != 6 || r.Errors != 2 || r.LastError != 300 || r.Slowest != 500 || r.Moved != 450 || len(r.Points) != 5 || len(r.Reasons) != 2 {
		t.Errorf("got %+v", r)
	}
	if p := r.Points[1]; p.At != -10 || p.Took != 310 || !p.Failed {
		t.Errorf("got the point %+v", p)
	}
	var text, page strings.Builder
	report := Report{Losses: []Loss{{Name: "<all>", Rounds: []Round{r}}}, Sizes: []Size{{Peers: 200}}}
	if err := report.WriteText(&text); err != nil || !strings.Contains(text.String(), "300/300") {
		t.Errorf("%v\n%s", err, text.String())
	}
	if err := report.WriteHTML(&page); err != nil || strings.Count(page.String(), "<circle") != 5 || strings.Contains(page.String(), "<all>") {
		t.Errorf("%v\n%s", err, page.String())
	}
}

func TestSizesAreRead(t *testing.T) {
	sizes, err := parseSizes(strings.NewReader(`goos: linux
BenchmarkConvergence/peers=3-2         	       1	  51234567 ns/op	         1900 B/change/peer	       410.5 B/s/peer	         2.900 death-s	         0.1000 meet-s	         4.000 packets/s/peer	         0.1100 slowest-s	         0.0900 spread-s
BenchmarkConvergence/peers=200-2       	       1	 123 ns/op	 1000 B/s/peer	 4.7 death-s
PASS
`))
	want := Size{Peers: 3, Meet: 0.1, Spread: 0.09, Slowest: 0.11, Death: 2.9, Bytes: 410.5, Packets: 4}
	if err != nil || len(sizes) != 2 || sizes[0] != want || sizes[1].Death != 4.7 {
		t.Errorf("got %+v, %v", sizes, err)
	}
	if _, err := parseSizes(strings.NewReader("BenchmarkConvergence/peers=3-2 1 x meet-s\n")); err == nil {
		t.Error("a line that is no number is taken")
	}
}
