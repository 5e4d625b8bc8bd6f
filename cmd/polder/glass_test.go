package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway/ledger"
	"github.com/polder/polder/regions/law"
)

// TestBreakGlass is a fire in Warsaw:
//
//  1. While the glass is whole, nobody stands in.
//  2. Once the owner breaks it in the file, Amsterdam does, for callers of every
//     entrypoint; the status says until when, and why.
//  3. At the end it lets nobody in, connections that are open are closed, those of
//     other services are not, and the ledgers tell of all of it.
func TestBreakGlass(t *testing.T) {
	u := newFleet(t, "testdata/glass.yaml")
	whole, err := os.ReadFile(u.config)
	if err != nil {
		t.Fatal(err)
	}
	u.start()
	u.want("fr", "fire.example.com", "pl")
	for pid, label := range u.pids() {
		if label == "region pl" || label == "Envoy of pl-1" {
			if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
				t.Fatal(err)
			}
			defer syscall.Kill(pid, syscall.SIGCONT)
		}
	}
	refused := func(entry polder.RegionName) bool {
		_, _, _, err := u.call(entry, "fire.example.com")
		return err != nil && strings.Contains(err.Error(), "internal error")
	}
	eventually(t, "pl is given up, and the glass is whole", func() bool { return refused("fr") && refused("nl") })

	from := time.Now().Add(-time.Minute).UTC().Truncate(time.Second)
	until := time.Now().Add(law.Drain + 45*time.Second).UTC().Truncate(time.Second)
	broken := fmt.Sprintf("broken: { from: %s, until: %s, reason: smoke in Warsaw }", from.Format(time.RFC3339), until.Format(time.RFC3339))
	u.write(strings.Replace(string(whole), "break-glass: [nl]", "break-glass: [nl], "+broken, 1))
	for _, entry := range []polder.RegionName{"fr", "nl"} {
		eventually(t, "nl stands in through "+string(entry), func() bool {
			code, a, _, err := u.call(entry, "fire.example.com")
			return err == nil && code == http.StatusOK && a.Region == "nl"
		})
	}
	for region, verdict := range map[polder.RegionName]law.Verdict{"fr": law.Pass, "nl": law.Serve} {
		s := u.service(region, "fire")
		if s.Verdict != verdict || s.Glass == nil || !s.Glass.Broken || !s.Glass.InUse || !s.Glass.Until.Equal(until) || s.Glass.Reason != "smoke in Warsaw" {
			t.Errorf("status of %s: %s, %+v", region, s.Verdict, s.Glass)
		}
	}
	status, err := u.status("nl")
	if err != nil || !slices.ContainsFunc(lawTroubles(status), func(line string) bool { return strings.Contains(line, "smoke in Warsaw") }) {
		t.Errorf("polder status says nothing of the glass: %v, %v", err, lawTroubles(status))
	}

	ends := make(chan string, 2)
	for _, entry := range []polder.RegionName{"fr", "nl"} {
		stream := u.stream(entry, "fire.example.com")
		defer stream.Close()
		go func() {
			_, err := io.Copy(io.Discard, stream)
			ends <- fmt.Sprintf("through %s: %v", entry, err)
		}()
	}
	other := u.stream("fr", "catalog.example.com")
	defer other.Close()
	for range 2 {
		select {
		case how := <-ends:
			t.Log("ended ", how)
		case <-time.After(time.Until(until) + patience):
			t.Fatal("a connection is open, long after the glass is whole again")
		}
	}
	eventually(t, "nobody stands in any more", func() bool { return refused("fr") && refused("nl") })
	if _, err := io.ReadFull(other, make([]byte, 64)); err != nil {
		t.Errorf("a connection of another service was cut too: %v", err)
	}

	for region, want := range map[polder.RegionName][]string{
		"fr": {"broken", "passes-on", "not-used-anymore", "whole"},
		"nl": {"broken", "stands-in", "not-used-anymore", "whole"},
	} {
		var got []string
		eventually(t, "the ledger of "+string(region)+" tells of the glass", func() bool {
			got = u.glassEvents(region)
			return len(got) >= len(want)
		})
		if strings.Join(got, " ") != strings.Join(want, " ") {
			t.Errorf("the ledger of %s tells %v, want %v", region, got, want)
		}
	}
}

// stream begins an answer that goes on for an hour, and reads its beginning.
func (u *fleetUnderTest) stream(entry polder.RegionName, host string) io.ReadCloser {
	u.t.Helper()
	_, port, err := net.SplitHostPort(u.listen[entry].HTTPS)
	if err != nil {
		u.t.Fatal(err)
	}
	client := &http.Client{Transport: u.http.Transport}
	response, err := client.Get("https://" + host + ":" + port + "/stream?n=100000&ms=50")
	if err != nil {
		u.t.Fatal(err)
	}
	if _, err := io.ReadFull(response.Body, make([]byte, 8)); err != nil {
		u.t.Fatalf("stream of %s through %s: %v", host, entry, err)
	}
	return response.Body
}

// glassEvents are what a region's ledger tells of broken glass, in order.
func (u *fleetUnderTest) glassEvents(region polder.RegionName) []string {
	u.t.Helper()
	var events []string
	_, err := ledger.Read(u.layout(region).Ledger(), 0, func(r ledger.Record) error {
		var data struct{ Event, Reason string }
		if r.Kind == ledger.BreakGlass {
			if err := json.Unmarshal(r.Data, &data); err != nil {
				return err
			}
			if data.Reason != "smoke in Warsaw" {
				u.t.Errorf("the ledger of %s gives the reason %q", region, data.Reason)
			}
			events = append(events, data.Event)
		}
		return nil
	})
	if err != nil {
		u.t.Fatal(err)
	}
	return events
}
