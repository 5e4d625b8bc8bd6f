package main

import (
	"net/http"
	"strings"
	"testing"

	"github.com/polder/polder"
)

// TestDrain drains a region under open-loop load that comes through its own
// entrypoint, and lets it return. Nobody gets an error.
func TestDrain(t *testing.T) {
	u := startUp(t, "testdata/homes.yaml")
	for _, host := range []string{"amber.example.com", "pinned.example.com", "local.example.com"} {
		if code, _, _, err := u.call("fr", host); err != nil || code != http.StatusOK {
			t.Fatalf("%s: %d, %v", host, code, err)
		}
	}

	code, _, errs := run(t, "drain", "fr", "--state", u.state)
	if code != exitRefused || !strings.Contains(errs, "pinned: it is allowed in fr only") || strings.Contains(errs, "amber") {
		t.Errorf("drain without --force: exit %d, %q; want %d, and pinned named alone", code, errs, exitRefused)
	}
	if code, _, errs := run(t, "drain", "se", "--state", u.state); code != exitNotThere || !strings.Contains(errs, "fr-1, nl-1, pl-1") {
		t.Errorf("drain of a region that is not there: exit %d, %q", code, errs)
	}

	report := u.underLoad(t, []string{"amber.example.com", "pinned.example.com", "local.example.com"}, func() {
		eventually(t, "amber is called so often that fr serves it", func() bool { return u.answers("fr", "amber.example.com", "fr") })
		code, out, errs := run(t, "drain", "fr", "--force", "--output", "json", "--state", u.state, "--timeout", patience.String())
		if code != exitDone || !strings.Contains(out, `"done":true`) {
			t.Errorf("drain --force: exit %d\n%s%s", code, out, errs)
		}
		for _, host := range []string{"amber.example.com", "local.example.com"} {
			if u.answers("fr", host, "fr") {
				t.Errorf("%s is served in fr, which is drained", host)
			}
		}
		u.want("fr", "pinned.example.com", "fr")
		u.want("pl", "pinned.example.com", "fr")
		if n := u.warm("amber", "fr") + u.warm("local", "fr"); n > 0 {
			t.Errorf("%d instances are left in fr", n)
		}
		if code, out, errs := run(t, "undrain", "fr", "--state", u.state); code != exitDone || !strings.Contains(out, "has callers") {
			t.Errorf("undrain: exit %d, %q%s", code, out, errs)
		}
		eventually(t, "fr serves what is called there", func() bool { return u.answers("fr", "amber.example.com", "fr") })
	})
	if report.Total.Errors > 0 {
		t.Errorf("callers got %d errors of %d: %+v", report.Total.Errors, report.Total.Sent, report.Total.Reasons)
	}
}

// TestDrainedPeerStaysDrained drains one peer of two and kills its Polder.
func TestDrainedPeerStaysDrained(t *testing.T) {
	u := startUp(t, "testdata/pair.yaml", "--peers", "2")
	first := u.want("fr", "amber.example.com", "fr")
	at := polder.RegionName("fr-2")
	if u.warm("amber", "fr") > 0 {
		at = "fr"
	}
	peer := u.layout(at)
	name := "fr-1"
	if peer.Peer != "" {
		name = peer.Peer
	}
	if code, out, errs := run(t, "drain", name, "--state", u.state, "--timeout", patience.String()); code != exitDone || !strings.Contains(out, name+": drained") {
		t.Fatalf("drain %s: exit %d\n%s%s", name, code, out, errs)
	}
	second := u.want(at, "amber.example.com", "fr")
	if second.Instance == first.Instance {
		t.Error("the instance of the drained peer still answers")
	}
	before, err := u.status(at)
	if err != nil {
		t.Fatal(err)
	}
	u.kill(before.PID)
	eventually(t, "the drained peer is back, and drains", func() bool {
		after, err := u.status(at)
		if err != nil || after.PID == before.PID || !after.Serving() {
			return false
		}
		for _, p := range after.Peers {
			if p.Peer == name {
				return p.Draining
			}
		}
		return false
	})
	if again := u.want(at, "amber.example.com", "fr"); again.Instance != second.Instance {
		t.Errorf("answered by %s, and by %s before", again.Instance, second.Instance)
	}
	if code, _, errs := run(t, "drain", "fr", "--state", u.state); code != exitRefused || !strings.Contains(errs, "amber") {
		t.Errorf("draining all peers of the only region: exit %d, %q", code, errs)
	}
}

// answers tells whether a host is answered in a region.
func (u *fleetUnderTest) answers(entry polder.RegionName, host, region string) bool {
	u.t.Helper()
	code, a, _, err := u.call(entry, host)
	return err == nil && code == http.StatusOK && a.Region == region
}
