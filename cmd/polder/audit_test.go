package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway"
	"github.com/polder/polder/gateway/ledger"
	"github.com/polder/polder/xds"
	"github.com/polder/polder/xds/server"
)

// TestAudit lays hands on three running regions, and wants each found, told and
// repaired:
//
//  1. Regions that nobody touched are clean, and run with what their ledgers accepted.
//  2. A runtime value that was set by hand is gone, with the Envoy that had it.
//  3. A second control plane in the place of ours loses its place.
//  4. A ledger that was changed is named to the line, and set aside at the next start.
//  5. The report says all of it.
func TestAudit(t *testing.T) {
	u := startUp(t, three)
	u.want("nl", "billing.example.com", "fr")
	u.want("fr", "catalog.example.com", "fr")
	u.auditsClean()
	if code, _, errs := run(t, "audit", "ledger", "verify", "--state", u.state); code != exitDone {
		t.Errorf("verify: exit code %d: %s", code, errs)
	}

	before := u.mustStatus("nl")
	u.post("nl", "/runtime_modify?upstream.healthy_panic_threshold=50")
	u.drifts("nl", "upstream.healthy_panic_threshold")
	if after := u.mustStatus("nl"); after.Envoy.PID == before.Envoy.PID {
		t.Error("the Envoy that was changed by hand still runs")
	}
	u.auditsClean()
	eventually(t, "nl is healthy again", func() bool { return u.healthy("fr", "nl") })
	u.want("nl", "billing.example.com", "fr")

	u.usurp("fr")
	u.kill(u.mustStatus("fr").Envoy.PID) // the next one finds the stranger
	u.drifts("fr", "cluster leak")
	eventually(t, "billing is served again", func() bool {
		code, _, _, err := u.call("fr", "billing.example.com")
		return err == nil && code == 200
	})
	u.auditsClean()

	segment := filepath.Join(u.layout("pl").Ledger(), "segment-00000001.jsonl")
	text, err := os.ReadFile(segment)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(segment, bytes.Replace(text, []byte(`"kind":"region-started"`), []byte(`"kind":"region-startled"`), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"audit"}, {"audit", "ledger", "verify"}} {
		code, out, _ := run(t, append(args, "--state", u.state)...)
		if code != exitUnlawful || !strings.Contains(out, "segment-00000001.jsonl:2 (record 2)") {
			t.Errorf("%v: exit code %d, want %d and the line:\n%s", args, code, exitUnlawful, out)
		}
	}
	page := filepath.Join(filepath.Dir(u.state), "report.html")
	if code, _, errs := run(t, "audit", "report", "--html", page, "--state", u.state); code != exitUnlawful {
		t.Errorf("report: exit code %d: %s", code, errs)
	}
	html, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"The ledger was tampered with", "segment-00000001.jsonl:2", "foreign cluster leak", "upstream.healthy_panic_threshold", "sleepy.example.com"} {
		if !bytes.Contains(html, []byte(want)) {
			t.Errorf("the report does not say %q", want)
		}
	}
	u.kill(u.mustStatus("pl").PID)
	eventually(t, "pl has set its ledger aside and begun another", func() bool {
		return slices.Contains(u.kinds("pl"), ledger.Damaged)
	})
	u.auditsClean()
}

// auditsClean audits until all regions are settled and as published.
func (u *fleetUnderTest) auditsClean() {
	u.t.Helper()
	var out string
	defer func() {
		if u.t.Failed() {
			u.t.Log(out)
		}
	}()
	eventually(u.t, "an audit finds everything in order", func() bool {
		var code int
		code, out, _ = run(u.t, "audit", "--state", u.state, "--output", "json")
		var audits []regionAudit
		if code != exitDone || json.Unmarshal([]byte(out), &audits) != nil {
			return false
		}
		return !slices.ContainsFunc(audits, func(a regionAudit) bool {
			return !a.Audit.Settled || a.Audit.Running != a.Audit.Published || a.Audit.Resources == 0
		})
	})
}

// drifts waits until a region's ledger tells of a drift, and of its repair.
func (u *fleetUnderTest) drifts(region polder.RegionName, what string) {
	u.t.Helper()
	eventually(u.t, "a drift of "+what+" is found in "+string(region)+" and repaired", func() bool {
		drifted, repaired := false, false
		for _, r := range u.records(region) {
			switch {
			case r.Kind == ledger.Drifted && strings.Contains(string(r.Data), what):
				drifted, repaired = true, false
			case r.Kind == ledger.Repaired:
				repaired = drifted
			}
		}
		return repaired
	})
}

func (u *fleetUnderTest) records(region polder.RegionName) []ledger.Record {
	u.t.Helper()
	var list []ledger.Record
	if _, err := ledger.Read(u.layout(region).Ledger(), 0, func(r ledger.Record) error { list = append(list, r); return nil }); err != nil {
		u.t.Logf("ledger of %s: %v", region, err)
	}
	return list
}

func (u *fleetUnderTest) kinds(region polder.RegionName) []ledger.Kind {
	u.t.Helper()
	var kinds []ledger.Kind
	for _, r := range u.records(region) {
		kinds = append(kinds, r.Kind)
	}
	return kinds
}

// healthy tells what one region hears of another.
func (u *fleetUnderTest) healthy(region, of polder.RegionName) bool {
	status, err := u.status(region)
	if err != nil {
		return false
	}
	for _, p := range status.Peers {
		if p.Region == of {
			return p.Healthy
		}
	}
	return false
}

func (u *fleetUnderTest) mustStatus(region polder.RegionName) gateway.Status {
	u.t.Helper()
	status, err := u.status(region)
	if err != nil {
		u.t.Fatal(err)
	}
	return status
}

// post does to a region's Envoy what whoever has its admin socket can.
func (u *fleetUnderTest) post(region polder.RegionName, path string) {
	u.t.Helper()
	client := &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", u.layout(region).Admin())
		}}}
	response, err := client.Post("http://envoy"+path, "", nil)
	if err != nil {
		u.t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusOK {
		u.t.Fatalf("%s: %s", path, response.Status)
	}
}

// usurp puts another control plane in the place of a region's, which has one
// cluster of its own.
func (u *fleetUnderTest) usurp(region polder.RegionName) {
	u.t.Helper()
	body, err := anypb.New(&cluster.Cluster{Name: "leak"})
	if err != nil {
		u.t.Fatal(err)
	}
	stranger := server.New(server.Options{Log: newLogger(u.t.Output(), formatText, 0)})
	stranger.Apply([]xds.Resource{{Key: xds.Key{Type: xds.TypeCluster, Name: "leak"}, Version: "1", Body: body}}, nil)
	socket := u.layout(region).ControlPlane()
	if err := os.Remove(socket); err != nil {
		u.t.Fatal(err)
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		u.t.Fatal(err)
	}
	listener.(*net.UnixListener).SetUnlinkOnClose(false) // the path will be another's
	control := grpc.NewServer()
	stranger.Register(control)
	served := make(chan error, 1)
	go func() { served <- control.Serve(listener) }()
	u.t.Cleanup(func() {
		control.Stop()
		if err := <-served; err != nil {
			u.t.Error(err)
		}
	})
}
