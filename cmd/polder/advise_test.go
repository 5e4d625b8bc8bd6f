package main

import (
	"strings"
	"testing"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway"
	"github.com/polder/polder/gateway/books"
	"github.com/polder/polder/prewarm"
)

func TestAdviceSaysWhatToWrite(t *testing.T) {
	record := gateway.CallRecord{
		Region: "fr", Scale: polder.Scale{Max: 5, Concurrency: 80, KeepAlive: 10 * time.Minute, Prewarm: polder.PrewarmOff},
		Prices: prewarm.Prices{Currency: "EUR", GiBSecond: 1000}, Footprint: prewarm.Footprint{Memory: polder.GiB},
		Record: books.Record{Service: "billing", From: time.Date(2026, 3, 10, 9, 37, 0, 0, time.UTC), Counts: make([]uint32, 6*1440)},
	}
	for m := 0; m < len(record.Counts); m += 60 {
		record.Counts[m] = 2
	}
	list, err := advise([]gateway.CallRecord{record, {Region: "nl"}}, trial{keepAlive: "1h30m"}, 0)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := writeAdvice(&out, list, "0"); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"fr: 240 calls in 120 of 7200 minutes since 2026-03-11 09:37 UTC",
		"as it is now", "{ keep-alive: 10m, prewarm: off }", "as asked", "{ keep-alive: 1h30m, prewarm: off }",
		"For no more money, ", "cold minutes a month instead of 720: write { keep-alive: auto, prewarm: auto, cold-start: 0.0",
		"nl: the record is too short",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("it does not say %q:\n%s", want, out.String())
		}
	}
	for _, bad := range []trial{{keepAlive: "soon"}, {prewarm: "maybe"}, {coldStart: "-1"}} {
		if _, err := bad.apply(polder.Scale{}); err == nil || exitCode(err) != exitUsage {
			t.Errorf("%+v: %v, want a word on its use", bad, err)
		}
	}
}

func TestShadowIsShownBesideWhatActs(t *testing.T) {
	x := &gateway.ShadowStatus{
		KeepAlive: polder.AutoKeepAlive, Prewarm: polder.PrewarmAuto, Since: time.Date(2026, 3, 10, 9, 37, 0, 0, time.UTC), Currency: "EUR",
		Acting: prewarm.Score{Active: 200, Cold: 10, Starts: 12, Warm: 3 * time.Hour, Idle: 2 * time.Hour, Cost: 250_000_000},
		Shadow: prewarm.Score{Active: 200, Cold: 1, Starts: 30, Warm: 2 * time.Hour, Idle: time.Hour, Cost: 160_000_000},
	}
	var status, advice strings.Builder
	err := writeStatus(&status, []gateway.Status{{Region: "fr", Services: []gateway.ServiceStatus{{Service: "billing", Shadow: x}, {Service: "legacy"}}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := writeAdvice(&advice, []regionAdvice{{Region: "fr", TooShort: "the record is too short", Shadow: x}}, "1"); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"SHADOW OF", "as it acts", "10 of 200 (5.00 %)", "{ keep-alive: auto, prewarm: auto }", "1 of 200 (0.50 %)", "0.16 EUR", "2026-03-10 09:37 UTC"} {
		if !strings.Contains(status.String(), want) {
			t.Errorf("status does not say %q:\n%s", want, &status)
		}
	}
	for _, want := range []string{"The shadow { keep-alive: auto, prewarm: auto } was scored as calls came", "10 of 200 minutes with calls began cold", "1 of 200", "0.25 EUR", "0.16 EUR"} {
		if !strings.Contains(advice.String(), want) {
			t.Errorf("advice does not say %q:\n%s", want, &advice)
		}
	}
	if strings.Count(status.String(), "SHADOW OF") != 1 {
		t.Error("the table has more than one title")
	}
}
