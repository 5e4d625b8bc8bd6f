package main

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway/ledger"
)

// TestAccessLog holds what is noted of requests, and what becomes of an Envoy that
// notes an address which it may not reach:
//
//  1. Requests of a service are noted where its policy permits it, and no others.
//  2. An address that is not the service's is found, told, and the Envoy replaced.
func TestAccessLog(t *testing.T) {
	u := newFleet(t, three)
	text, err := os.ReadFile(u.config)
	if err != nil {
		t.Fatal(err)
	}
	u.write(strings.Replace(string(text), "residency: { allow: [fr] }", "residency: { allow: [fr], telemetry: { access-log: allowed } }", 1))
	u.start()
	for _, entry := range []polder.RegionName{"fr", "nl"} {
		u.want(entry, "billing.example.com", "fr")
		u.want(entry, "catalog.example.com", string(entry))
	}
	log := func(region polder.RegionName) string {
		text, err := os.ReadFile(u.layout(region).AccessLog())
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		return string(text)
	}
	eventually(t, "both requests of billing are noted in fr", func() bool { return strings.Count(log("fr"), `"cluster":"service/billing"`) == 2 })
	if all := log("fr") + log("nl"); strings.Contains(all, "catalog") || strings.Count(all, "\n") != 2 {
		t.Errorf("more is noted than the policy permits:\n%s", all)
	}
	before, err := u.status("fr")
	if err != nil || !before.Audit.Trusted {
		t.Fatalf("the Envoy of fr is not trusted: %+v, %v", before.Audit, err)
	}
	file, err := os.OpenFile(u.layout("fr").AccessLog(), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := file.WriteString(`{"cluster":"service/billing","address":"203.0.113.9:443","request-id":"x"}` + "\n"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the ledger of fr tells of the address", func() bool {
		return slices.ContainsFunc(u.noted("fr", ledger.Drifted), func(data string) bool { return strings.Contains(data, "203.0.113.9:443") })
	})
	eventually(t, "another Envoy serves, and is trusted", func() bool {
		after, err := u.status("fr")
		return err == nil && after.Envoy.PID != before.Envoy.PID && after.Audit.Trusted && len(u.noted("fr", ledger.Repaired)) > 0
	})
	eventually(t, "fr serves again", func() bool {
		code, a, _, err := u.call("nl", "billing.example.com")
		return err == nil && code == 200 && a.Region == "fr"
	})
}

// noted are the data of a region's ledger records of one kind.
func (u *fleetUnderTest) noted(region polder.RegionName, kind ledger.Kind) []string {
	u.t.Helper()
	var list []string
	_, err := ledger.Read(u.layout(region).Ledger(), 0, func(r ledger.Record) error {
		if r.Kind == kind {
			list = append(list, string(r.Data))
		}
		return nil
	})
	if err != nil {
		u.t.Fatal(err)
	}
	return list
}
