package gateway

import (
	"encoding/json"
	"net/netip"
	"testing"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway/activator"
)

// TestLinesFindTheirWake: a request belongs to the wake that it waited for, by when
// it came and when it was answered, at the microsecond at which Envoy says so.
func TestLinesFindTheirWake(t *testing.T) {
	berth := netip.MustParseAddrPort("127.0.0.1:20001")
	ms := func(n int) time.Time { return time.UnixMilli(1_700_000_000_000 + int64(n)) }
	woken := func(noticed int) wake {
		return wake{service: "billing", region: "fr", berth: berth, instance: "billing-1", noticed: ms(noticed),
			start: activator.Start{Decided: ms(noticed + 1), Started: ms(noticed + 2), Listening: ms(noticed + 2), Ready: ms(noticed + 10)}}
	}
	var w wakes
	w.add(woken(1000))
	w.add(woken(5000))
	for _, test := range []struct {
		name         string
		began, first int
		at           netip.AddrPort
		want         int // when its wake was noticed; 0 for none
	}{
		{"who woke it", 999, 1012, berth, 1000},
		{"who came during the start", 1005, 1012, berth, 1000},
		{"who waited while Polder was away", 100, 1012, berth, 1000},
		{"who came when it was ready", 1010, 1012, berth, 0},
		{"who was answered before", 900, 950, berth, 0},
		{"who woke it again", 4999, 5030, berth, 5000},
		{"who went elsewhere", 999, 1012, netip.MustParseAddrPort("127.0.0.1:20002"), 0},
	} {
		found, ok := w.of("billing", test.at, ms(test.began), ms(test.first))
		if ok != (test.want != 0) || ok && found.noticed != ms(test.want) {
			t.Errorf("%s: found %v, %v", test.name, found.noticed, ok)
		}
	}
	for range 2 * wakesKept {
		w.add(woken(9000))
	}
	if n := len(w.last["billing"]); n != wakesKept {
		t.Errorf("%d wakes are remembered", n)
	}
	w.forget([]polder.ServiceName{"billing"})
	if len(w.last) != 0 {
		t.Error("a service that is not served any more is remembered")
	}

	line := accessLine{Request: "req-1", Status: 200, Began: "1700000000.999500", First: json.RawMessage("12500")}
	began, first, ok := line.times()
	c := woken(1000).request(line, began, first)
	if !ok || c.Phases.Total() != 12500*time.Microsecond || c.Phases.Queued != 500*time.Microsecond || c.Phases.Ready != 8*time.Millisecond || c.Phases.FirstByte != 2*time.Millisecond || c.ID != "req-1" || c.Status != 200 {
		t.Errorf("a request of the wake: %+v, %v", c, ok)
	}
	for _, bad := range []accessLine{
		{}, {Began: "-", First: json.RawMessage("1")}, {Began: "1700000000.9", First: json.RawMessage("1")},
		{Began: "1700000000.999500", First: json.RawMessage("null")}, {Began: "1700000000.999500", First: json.RawMessage(`"-"`)},
	} {
		if _, _, ok := bad.times(); ok {
			t.Errorf("%+v tells when", bad)
		}
	}
}
