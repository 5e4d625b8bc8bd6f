package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/bench/testbed"
	"github.com/polder/polder/gateway"
)

// partitioned are services: one for each side of the cut, and one for both.
const partitioned = `  west: { hosts: [west.example.com], residency: { allow: [fr] }, run: { command: [./bin/billing], directory: %[1]q, ready: /healthz } }
  east: { hosts: [east.example.com], residency: { allow: [pl] }, run: { command: [./bin/billing], directory: %[1]q, ready: /healthz } }
  both: { hosts: [both.example.com], residency: { allow: [EU] }, run: { command: [./bin/billing], directory: %[1]q, ready: /healthz }, scale: { keep-alive: 1h } }
`

// partition is a site that is cut in two.
type partition struct {
	*testing.T
	site *testbed.Site
}

// TestPartition cuts Paris off from Amsterdam and Warsaw, with real peers, for longer
// than it takes to give a region up.
//
//  1. Each side serves what it may, and what belongs to the other ends with an error
//     and nothing else.
//  2. Nothing of the other side is deleted: certificates, configuration.
//  3. When it heals, all peers hold the same rows again, ledgers are whole, and of a
//     service that ran on both sides one instance is left.
func TestPartition(t *testing.T) {
	dir := t.TempDir()
	short, err := os.MkdirTemp("", "pdr") // paths of sockets are short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(short) })
	command := filepath.Join(dir, "polder")
	if said, err := exec.Command("go", "build", "-o", command, "../../cmd/polder").CombinedOutput(); err != nil {
		t.Fatalf("building polder: %v\n%s", err, said)
	}
	o := testbed.DefaultOptions()
	o.Polder, o.Dir, o.Peers = command, short, 1
	o.Tools, _ = filepath.Abs("../../.tools")
	samples, _ := filepath.Abs("../../examples/billing")
	o.Services = fmt.Sprintf(partitioned, samples)
	site, err := testbed.New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- site.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if t.Failed() {
			for _, p := range site.Peers {
				said, _ := os.ReadFile(p.LogFile())
				t.Logf("%s said:\n%s", p.Name, said)
			}
		}
	})
	p := &partition{t, site}
	p.well()
	for _, service := range []string{"west", "east", "both"} {
		for _, entry := range site.Peers {
			p.eventually(service+" answers through "+entry.Name, func() bool { return p.call(entry, service) != "" })
		}
	}
	kept := p.kept()

	heal := site.Shape(testbed.Link{From: "fr", To: "nl", Loss: 1}, testbed.Link{From: "nl", To: "fr", Loss: 1},
		testbed.Link{From: "fr", To: "pl", Loss: 1}, testbed.Link{From: "pl", To: "fr", Loss: 1})
	fr, nl, pl := site.Peers[0], site.Peers[1], site.Peers[2]
	p.eventually("each side sees the other as gone, and itself", func() bool {
		return p.sees(fr, "fr") && p.sees(nl, "nl", "pl") && p.sees(pl, "nl", "pl")
	})
	p.eventually("each side gives the other side's services up", func() bool {
		return p.verdict(fr, "east") == "unavailable" && p.verdict(nl, "west") == "unavailable" && p.verdict(pl, "west") == "unavailable"
	})
	for _, c := range []struct {
		entry   *testbed.Peer
		service string
		in      []string // regions that may answer; none: an error
	}{
		{fr, "west", []string{"fr"}}, {fr, "both", []string{"fr"}}, {fr, "east", nil},
		{nl, "east", []string{"pl"}}, {nl, "both", []string{"nl", "pl"}}, {nl, "west", nil},
		{pl, "east", []string{"pl"}}, {pl, "both", []string{"nl", "pl"}}, {pl, "west", nil},
	} {
		if len(c.in) == 0 {
			if region := p.call(c.entry, c.service); region != "" {
				t.Errorf("%s through %s is answered from %s across the cut", c.service, c.entry.Name, region)
			}
			continue
		}
		p.eventually(c.service+" answers on its side, through "+c.entry.Name, func() bool { return slices.Contains(c.in, p.call(c.entry, c.service)) })
	}
	if n := p.instances("both"); n < 2 {
		t.Errorf("%d instances of the service for both sides run: this shows nothing of what is left", n)
	}
	for file := range kept {
		if _, err := os.Stat(file); err != nil {
			t.Errorf("the cut cost a file: %v", err)
		}
	}

	heal()
	p.well()
	p.eventually("all peers hold the same rows", func() bool {
		first := p.rows(fr)
		return first != "" && p.rows(nl) == first && p.rows(pl) == first
	})
	p.eventually("one instance is left of the service that ran on both sides", func() bool { return p.instances("both") == 1 })
	for _, entry := range site.Peers {
		for _, service := range []string{"west", "east", "both"} {
			p.eventually(service+" answers again through "+entry.Name, func() bool { return p.call(entry, service) != "" })
		}
		if said, err := exec.Command(command, "audit", "ledger", "verify", "--state", entry.Layout.State).CombinedOutput(); err != nil {
			t.Errorf("the ledger of %s is not whole: %v: %s", entry.Name, err, said)
		}
	}
	// A slow machine lets a peer seem lost for a moment, and has a second one started.
	p.eventually("calls through three gateways leave one instance of a service", func() bool { return p.instances("both") == 1 })
	for file := range kept {
		if _, err := os.Stat(file); err != nil {
			t.Errorf("healing cost a file: %v", err)
		}
	}
}

// eventually waits until the answer is yes, for at most two minutes.
func (p *partition) eventually(what string, ok func() bool) {
	p.Helper()
	deadline := time.NewTimer(2 * time.Minute)
	defer deadline.Stop()
	again := time.NewTicker(100 * time.Millisecond)
	defer again.Stop()
	for !ok() {
		select {
		case <-again.C:
		case <-deadline.C:
			p.Fatalf("not within two minutes: %s", what)
		}
	}
}

func (p *partition) well() {
	p.Helper()
	ctx, cancel := context.WithTimeout(p.Context(), startLimit)
	defer cancel()
	if err := p.site.Await(ctx); err != nil {
		p.Fatal(err)
	}
}

// call calls a service through a peer's entrypoint, as somebody in its region, and
// gives the region that answered; "" for an error.
func (p *partition) call(entry *testbed.Peer, service string) string {
	dial := p.site.Dial(entry.Region)
	client := &http.Client{Timeout: patience, Transport: &http.Transport{
		DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: p.site.Roots},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return dial(ctx, network, entry.Address.String()+":443")
		},
	}}
	response, err := client.Get("https://" + service + "." + testbed.Zone + "/")
	if err != nil {
		return ""
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	var answer struct{ Service, Region string }
	if err != nil || response.StatusCode != http.StatusOK || json.Unmarshal(text, &answer) != nil {
		return ""
	}
	if answer.Service != service {
		p.Errorf("%s through %s: answered for %s", service, entry.Name, answer.Service)
	}
	return answer.Region
}

func (p *partition) status(of *testbed.Peer) gateway.Status {
	status, err := of.Status(p.Context())
	if err != nil {
		p.Fatal(err)
	}
	return status
}

// sees tells whether these regions, and no others, are in good health to a peer.
func (p *partition) sees(of *testbed.Peer, regions ...polder.RegionName) bool {
	for _, other := range p.status(of).Peers {
		if other.Healthy != slices.Contains(regions, other.Region) {
			return false
		}
	}
	return true
}

func (p *partition) verdict(at *testbed.Peer, service polder.ServiceName) string {
	for _, s := range p.status(at).Services {
		if s.Service == service {
			return string(s.Verdict)
		}
	}
	return ""
}

// rows are all that a peer knows of the peers, as far as it does not depend on who
// looks; "" while somebody is not in good health.
func (p *partition) rows(of *testbed.Peer) string {
	text := ""
	for _, r := range p.status(of).Peers {
		if !r.Healthy {
			return ""
		}
		text += fmt.Sprintln(r.Peer, r.Region, r.Address, r.Warm, r.Busy, r.Digest, r.Policy)
	}
	return text
}

// instances counts those of a service at all peers.
func (p *partition) instances(service polder.ServiceName) (n int) {
	for _, peer := range p.site.Peers {
		for _, s := range p.status(peer).Services {
			if s.Service == service {
				n += len(s.Instances)
			}
		}
	}
	return n
}

// kept lists the files that no cut may cost: certificates and configurations.
func (p *partition) kept() map[string]bool {
	files := map[string]bool{}
	for _, peer := range p.site.Peers {
		for _, dir := range []string{peer.Layout.Certificates(), peer.Layout.LastGood(), peer.Layout.Authority()} {
			err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
				if err == nil && !entry.IsDir() && !strings.HasSuffix(path, ".tmp") {
					files[path] = true
				}
				return err
			})
			if err != nil {
				p.Fatal(err)
			}
		}
	}
	if len(files) == 0 {
		p.Fatal("no certificates and no configuration: this shows nothing")
	}
	return files
}
