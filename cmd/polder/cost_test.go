package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway"
	"github.com/polder/polder/prewarm"
)

// TestMoney runs real instances against real budgets:
//
//  1. A flood starts what the budget covers and nothing more; the callers are served.
//  2. Without money a caller gets a labelled 503, and the operator the reason in money.
//  3. A killed Polder forgets nothing that was spent, and meters on what ran.
//  4. Every region keeps to its share of a budget.
func TestMoney(t *testing.T) {
	u := startUp(t, "testdata/money.yaml")
	var calls sync.WaitGroup
	failed := make(chan string, 200)
	for range 10 {
		calls.Go(func() {
			for range 20 {
				if code, _, _, err := u.call("nl", "flooded.example.com"); err != nil || code != http.StatusOK {
					failed <- fmt.Sprint(code, err)
				}
			}
		})
	}
	calls.Wait()
	if len(failed) > 0 {
		t.Errorf("%d of 200 calls of a flood failed, the first: %s", len(failed), <-failed)
	}
	before := u.account(t, "fr", "flooded")
	if n := len(u.service("fr", "flooded").Instances); n < 1 || n > 2 || before.Running > 2 {
		t.Errorf("a flood runs %d instances, of which %d are metered; the budget covers two", n, before.Running)
	}
	if before.Limit == nil || before.Spent+before.Reserved > *before.Limit || before.Reserved == 0 {
		t.Errorf("account of the flooded service: %+v", before)
	}

	code, _, header, err := u.call("fr", "broke.example.com")
	if err != nil || code != http.StatusServiceUnavailable || header.Get("x-polder-reason") != "over-budget" || header.Get("retry-after") == "" {
		t.Errorf("without money: %d, %v, %v; want a labelled 503", code, err, header)
	}
	if u.service("fr", "broke").Totals.Starts != 0 {
		t.Error("an instance was started that nobody can pay")
	}
	if code, out, errs := run(t, "why", "broke", "--state", u.state); code != 0 || !strings.Contains(out, "service broke has spent 0.00 EUR") || !strings.Contains(out, "of 7.49 EUR") {
		t.Errorf("why broke: exit %d\n%s%s", code, out, errs)
	}

	eventually(t, "the books hold the running instances", func() bool { return u.account(t, "fr", "flooded").Reserved > 0 })
	status, err := u.status("fr")
	if err != nil {
		t.Fatal(err)
	}
	u.kill(status.PID)
	eventually(t, "fr is back, and its meter runs on", func() bool {
		after, err := u.status("fr")
		if err != nil || after.PID == status.PID {
			return false
		}
		a := u.account(t, "fr", "flooded")
		return a.Spent >= before.Spent && a.Spent+a.Reserved > before.Spent
	})

	if code, _, _, err := u.call("nl", "shared.example.com"); err != nil || code != http.StatusOK {
		t.Errorf("shared: %d, %v", code, err)
	}
	for _, region := range []polder.RegionName{"fr", "nl"} {
		if a := u.account(t, region, "shared"); a.Limit == nil || *a.Limit != prewarm.Nanos(10e9) {
			t.Errorf("share of %s: %+v, want 10 EUR", region, a.Limit)
		}
	}
	page := filepath.Join(t.TempDir(), "cost.html")
	code, out, errs := run(t, "cost", "--state", u.state, "--html", page)
	if code != 0 || !strings.Contains(out, "shared") || !strings.Contains(out, "20 EUR") {
		t.Errorf("cost: exit %d\n%s%s", code, out, errs)
	}
	if html, err := os.ReadFile(page); err != nil || !strings.Contains(string(html), "<h1>What services cost</h1>") {
		t.Errorf("page of costs: %v", err)
	}
	if code, out, errs := run(t, "advise", "shared", "--state", u.state); code != 0 || !strings.Contains(out, "nl: the record is too short for advice yet: it needs 60 minutes") {
		t.Errorf("advise after a minute: exit %d\n%s%s", code, out, errs)
	}
	if code, _, _ := run(t, "cost", "nobody", "--state", u.state); code != exitNotThere {
		t.Errorf("cost of a service that is not there: exit %d", code)
	}
}

// account asks polder cost for a service's account in a region, which has none
// while the region starts.
func (u *fleetUnderTest) account(t *testing.T, region polder.RegionName, service string) gateway.Account {
	t.Helper()
	code, out, errs := run(t, "cost", service, "--state", u.state, "--output", "json")
	var answer costAnswer
	if code == exitNotThere {
		return gateway.Account{}
	}
	if err := json.Unmarshal([]byte(out), &answer); code != 0 || err != nil {
		t.Fatalf("cost %s: exit %d, %v\n%s", service, code, err, errs)
	}
	for _, r := range answer.Regions {
		if r.Region == region {
			return r.Services[0]
		}
	}
	return gateway.Account{}
}
