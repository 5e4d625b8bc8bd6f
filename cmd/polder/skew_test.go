package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/polder/polder"
)

// TestRegionsWithDifferentFiles is a rollout that is stuck half-way, between two
// regions that each have a file of their own:
//
//  1. A service whose home is in one region is narrowed in the file of the other
//     one, to that: it is served there alone, and the first region, whose own file
//     permits it, has neither an instance nor the key.
//  2. A service that moves, of which the files permit nothing in common, is refused
//     by both. Others notice nothing. The status names services and peers.
//  3. Once both have the newer file, all is served as that says.
func TestRegionsWithDifferentFiles(t *testing.T) {
	u := newFleet(t, "testdata/skew.yaml")
	old, err := os.ReadFile(u.config)
	if err != nil {
		t.Fatal(err)
	}
	both := []polder.RegionName{"fr", "nl"}
	for _, region := range both {
		u.writeTo(u.configOf(region), string(old))
	}
	u.runApart(both)
	for _, entry := range both {
		u.want(entry, "moved.example.com", "fr")
		u.want(entry, "still.example.com", "nl")
	}
	_, first, _, err := u.call("fr", "narrowed.example.com")
	if err != nil || first.Region == "" {
		t.Fatalf("narrowed is not served: %v", err)
	}
	wide, narrow := polder.RegionName(first.Region), polder.RegionName("fr")
	if wide == "fr" {
		narrow = "nl"
	}
	file := func(narrowed, moved string) string {
		return strings.NewReplacer("allow: [fr, nl]", "allow: ["+narrowed+"]", "allow: [fr] }", "allow: ["+moved+"] }").Replace(string(old))
	}
	for region, policy := range map[polder.RegionName]string{wide: "fr, nl", narrow: string(narrow)} {
		u.writeTo(u.configOf(region), file(policy, string(region))) // each says that "moved" is its own
	}
	disputed := func(region polder.RegionName) bool {
		status, err := u.status(region)
		if err != nil || len(status.Skew) != 1 || !status.Skew[0].Told {
			return false
		}
		return slices.Equal(status.Skew[0].Services, []polder.ServiceName{"moved", "narrowed"})
	}
	for _, region := range both {
		eventually(t, string(region)+" knows what the other one sees otherwise", func() bool { return disputed(region) })
	}
	for _, entry := range both {
		eventually(t, "narrowed is served in the region that both files permit, through "+string(entry), func() bool {
			return u.answers(entry, "narrowed.example.com", string(narrow))
		})
		eventually(t, "moved is refused by "+string(entry), func() bool {
			_, _, _, err := u.call(entry, "moved.example.com")
			return err != nil && strings.Contains(err.Error(), "internal error")
		})
		u.want(entry, "still.example.com", "nl")
	}
	eventually(t, "the region whose own file permits it has neither instance nor key", func() bool {
		return len(u.service(wide, "narrowed").Instances) == 0 && !strings.Contains(u.envoy(wide, "/config_dump"), `"name": "narrowed.example.com"`)
	})
	for _, region := range both {
		if !disputed(region) || !u.service(region, "moved").Disputed || !u.service(region, "narrowed").Disputed || u.service(region, "still").Disputed {
			t.Errorf("%s does not say which services are disputed", region)
		}
	}
	_, text, _ := run(t, "status", "--state", u.state)
	for _, want := range []string{"fr, nl: peers disagree about the policy of moved", "fr, nl: peers disagree about the policy of narrowed",
		"fr: peer nl-1 of nl sees the policies of 2 services otherwise", "nl: peer fr-1 of fr sees the policies of 2 services otherwise"} {
		if !strings.Contains(text, want) {
			t.Errorf("polder status does not say %q:\n%s", want, text)
		}
	}
	if strings.Contains(text, "policy of still") {
		t.Errorf("polder status says that still is disputed:\n%s", text)
	}

	for _, region := range both {
		u.writeTo(u.configOf(region), file(string(narrow), "nl"))
	}
	for _, entry := range both {
		eventually(t, string(entry)+" agrees again", func() bool {
			status, err := u.status(entry)
			return err == nil && len(status.Skew) == 0 && !u.service(entry, "moved").Disputed && !u.service(entry, "narrowed").Disputed
		})
		eventually(t, "moved is served where it went, through "+string(entry), func() bool { return u.answers(entry, "moved.example.com", "nl") })
		u.want(entry, "narrowed.example.com", string(narrow))
		u.want(entry, "still.example.com", "nl")
	}
}

// configOf is where a region that runs apart from the others has its file.
func (u *fleetUnderTest) configOf(region polder.RegionName) string {
	return filepath.Join(filepath.Dir(u.config), string(region)+".yaml")
}

// runApart starts one polder run per region, each with a file of its own, and waits
// until they know each other.
func (u *fleetUnderTest) runApart(regions []polder.RegionName) {
	u.t.Helper()
	u.listen = map[polder.RegionName]polder.Listen{}
	var join []string
	for _, region := range regions {
		u.listen[region] = polder.Listen{HTTPS: freePort(u.t), HTTP: freePort(u.t), Peer: freePort(u.t), Gossip: freePort(u.t)}
		join = append(join, "--join", u.listen[region].Gossip)
	}
	root := filepath.Join(u.state, "authority/root.pem")
	for _, region := range regions {
		l := u.listen[region]
		c := command(u.t, append([]string{"run", "--region", string(region), "--config", u.configOf(region), "--state", u.state, "--tools", u.tools,
			"--https", l.HTTPS, "--http", l.HTTP, "--peer", l.Peer, "--gossip", l.Gossip}, join...)...)
		u.runUntilEnd(c, region)
		if region == regions[0] { // it makes the authority that all have in common
			eventually(u.t, "there is an authority", func() bool { _, err := os.Stat(root); return err == nil })
		}
	}
	text, err := os.ReadFile(root)
	if err != nil {
		u.t.Fatal(err)
	}
	u.roots = x509.NewCertPool()
	u.roots.AppendCertsFromPEM(text)
	u.http = &http.Client{Timeout: patience, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: u.roots},
		DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", "127.0.0.1:"+address[strings.LastIndexByte(address, ':')+1:])
		},
	}}
	for _, region := range regions {
		eventually(u.t, "region "+string(region)+" serves and knows the others", func() bool {
			status, err := u.status(region)
			return err == nil && status.Serving() && together(status, len(regions))
		})
	}
}

// runUntilEnd starts a region's process and stops it at the end of the test.
func (u *fleetUnderTest) runUntilEnd(c *exec.Cmd, region polder.RegionName) {
	u.t.Helper()
	log, err := os.Create(filepath.Join(filepath.Dir(u.config), string(region)+".log")) // not in the state folder, where tests search for secrets
	if err != nil {
		u.t.Fatal(err)
	}
	c.Stdout, c.Stderr = log, log
	if err := c.Start(); err != nil {
		u.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { c.Wait(); close(ended) }()
	u.t.Cleanup(func() {
		c.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(patience):
			c.Process.Kill()
			u.t.Errorf("region %s does not stop", region)
		}
		if text, err := os.ReadFile(log.Name()); err == nil && u.t.Failed() {
			u.t.Logf("region %s:\n%s", region, text[max(0, len(text)-4000):])
		}
		log.Close()
	})
}
