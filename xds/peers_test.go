package xds

import (
	"testing"
	"time"

	"github.com/polder/polder"
)

func TestConnectWithin(t *testing.T) {
	ms := time.Millisecond
	rtt := map[polder.RegionName]time.Duration{"nl": 25 * ms, "pl": 50 * ms, "us": 150 * ms, "moon": 2600 * ms}
	for _, c := range []struct {
		why     string
		targets []polder.RegionName
		want    time.Duration
	}{
		{"near", []polder.RegionName{"nl"}, 400 * ms},
		{"the farthest counts", []polder.RegionName{"nl", "pl"}, 500 * ms},
		{"two round trips of another continent fit three times", []polder.RegionName{"us"}, 900 * ms},
		{"never more than a second", []polder.RegionName{"moon"}, time.Second},
		{"nothing is measured yet", []polder.RegionName{"nl", "new"}, time.Second},
	} {
		if got := connectWithin(c.targets, rtt); got != c.want {
			t.Errorf("%s: %v, want %v", c.why, got, c.want)
		}
	}
}
