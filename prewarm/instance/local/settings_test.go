package local

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/polder/polder"
	"github.com/polder/polder/prewarm/instance"
)

func TestEnvironmentIsLeastPrivilege(t *testing.T) {
	own := []string{"PATH=/bin", "HOME=/root", "LANG=C", "TZ=UTC", "POLDER_TOKEN=secret", "AWS_SECRET_ACCESS_KEY=secret", "PATHS=x", "LC_ALL"}
	order := instance.Order{ID: "billing-1", Region: "fr", Service: polder.Service{Name: "billing", Run: &polder.Run{
		Listen:      polder.ListenInherit,
		Environment: map[string]string{"HOME": "/srv", "MODE": "a=b", "PORT": "80", "POLDER_REGION": "us"},
	}}}
	got := environment(settings(passedOn(own), order), order, netip.MustParseAddrPort("127.0.0.1:20001"))
	want := []string{
		"HOME=/srv", "HOST=127.0.0.1", "LANG=C", "LISTEN_FDNAMES=http", "LISTEN_FDS=1", "MODE=a=b", "PATH=/bin",
		"POLDER_INSTANCE=billing-1", "POLDER_LISTEN_FD=3", "POLDER_REGION=fr", "POLDER_SERVICE=billing", "PORT=20001", "TZ=UTC",
	}
	if !slices.Equal(got, want) {
		t.Errorf("environment\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	order.Service.Run = &polder.Run{}
	got = environment(settings(passedOn(nil), order), order, netip.MustParseAddrPort("127.0.0.1:20001"))
	if slices.ContainsFunc(got, func(e string) bool { return strings.HasPrefix(e, "LISTEN") || strings.HasPrefix(e, "PATH") }) {
		t.Errorf("environment %q", got)
	}
}

func TestProgramIsFound(t *testing.T) {
	on, beside := t.TempDir(), t.TempDir()
	for _, file := range []string{filepath.Join(on, "both"), filepath.Join(on, "tool"), filepath.Join(beside, "both"), filepath.Join(beside, "billing")} {
		if err := os.WriteFile(file, nil, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(beside, "text"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"tool":      filepath.Join(on, "tool"),
		"both":      filepath.Join(on, "both"),
		"billing":   filepath.Join(beside, "billing"),
		"./billing": "./billing",
		"/x/y":      "/x/y",
		"text":      "",
		"missing":   "",
	} {
		got, err := program(&polder.Run{Command: []string{name}, Directory: beside}, "/no/such:"+on)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q, %v; want %q", name, got, err, want)
		}
	}
}

func TestProbeAsksForAKnownHost(t *testing.T) {
	at := netip.MustParseAddrPort("127.0.0.1:20001")
	p := newProbe(at, polder.Service{Hosts: []polder.Host{"*.a.example", "b.example"}, Protocol: polder.HTTP2, Run: &polder.Run{Ready: "/up"}})
	if p != (probe{Address: at, Path: "/up", Host: "b.example", Protocol: polder.HTTP2}) {
		t.Errorf("probe %+v", p)
	}
	if p := newProbe(at, polder.Service{Run: &polder.Run{}}); p.Host != "" {
		t.Errorf("probe %+v", p)
	}
}
