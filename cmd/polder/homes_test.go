package main

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway"
	"github.com/polder/polder/gateway/authority"
)

var everywhere = []polder.RegionName{"fr", "nl", "pl"}

// warm counts a service's ready instances at the named peers.
func (u *fleetUnderTest) warm(service polder.ServiceName, peers ...polder.RegionName) int {
	u.t.Helper()
	n := 0
	for _, peer := range peers {
		for _, i := range u.service(peer, service).Instances {
			if i.State == polder.Ready {
				n++
			}
		}
	}
	return n
}

// TestHomes is three regions that hardly anybody calls:
//
//  1. A service that may be everywhere has one warm instance between all three
//     gateways, and each of them answers from it, in its region.
//  2. One that is to be always warm is warm in every region.
//  3. When the Envoy of the home is stuck, which only those see who connect to it,
//     and when the home is gone, the others agree on another one.
//  4. When it is back, the regions agree again on one warm instance, and the
//     ledgers are whole.
func TestHomes(t *testing.T) {
	u := startUp(t, "testdata/homes.yaml")
	homes := map[string]string{}
	for _, service := range []string{"amber", "beryl", "coral"} {
		for _, entry := range everywhere {
			code, a, _, err := u.call(entry, service+".example.com")
			if err != nil || code != http.StatusOK {
				t.Fatalf("%s through %s: %d, %v", service, entry, code, err)
			}
			if homes[service] == "" {
				homes[service] = a.Region
			}
			if a.Region != homes[service] {
				t.Errorf("%s through %s is answered in %s, and in %s before", service, entry, a.Region, homes[service])
			}
		}
		if n := u.warm(polder.ServiceName(service), everywhere...); n != 1 {
			t.Errorf("%s has %d warm instances in three regions, want one", service, n)
		}
	}
	for _, entry := range everywhere {
		u.want(entry, "local.example.com", string(entry))
		u.want(entry, "pinned.example.com", "fr")
	}

	home := polder.RegionName(homes["amber"])
	entry := everywhere[0]
	if entry == home {
		entry = everywhere[1]
	}
	elsewhere := func() bool {
		code, a, _, err := u.call(entry, "amber.example.com")
		return err == nil && code == http.StatusOK && a.Region != string(home)
	}
	suspected := func() bool {
		status, err := u.status(entry)
		return err == nil && slices.ContainsFunc(status.Peers, func(p gateway.PeerStatus) bool { return p.Region == home && p.Suspected })
	}
	resume := u.signal(syscall.SIGSTOP, "Envoy of "+string(home)+"-1")
	eventually(t, "the home's Envoy is suspected, of which its Polder and the membership know nothing", suspected)
	eventually(t, "amber is served elsewhere, for its home's Envoy is stuck", elsewhere)
	resume()
	eventually(t, "the home is trusted again", func() bool { return !suspected() })

	resume = u.signal(syscall.SIGSTOP, "Envoy of "+string(home)+"-1", "region "+string(home))
	eventually(t, "amber is served elsewhere, for its home is gone", elsewhere)
	resume()
	eventually(t, "all see each other again", func() bool {
		for _, region := range everywhere {
			if status, err := u.status(region); err != nil || !together(status, len(everywhere)) {
				return false
			}
		}
		return true
	})
	eventually(t, "one warm instance of amber is left of those on either side, and all know where", func() bool {
		at := polder.RegionName("")
		for _, region := range everywhere {
			if u.warm("amber", region) > 0 {
				at = region
			}
		}
		for _, region := range everywhere {
			if home := u.service(region, "amber").Home; region == at && home != "" || region != at && home != string(at)+"-1" {
				return false
			}
		}
		return u.warm("amber", everywhere...) == 1
	})
	answered := map[string]bool{}
	for _, region := range everywhere {
		code, a, _, err := u.call(region, "amber.example.com")
		if err != nil || code != http.StatusOK {
			t.Errorf("amber through %s: %d, %v", region, code, err)
		}
		answered[a.Instance] = true
	}
	if len(answered) != 1 {
		t.Errorf("amber is answered by %v, want one instance", answered)
	}
	if code, out, errs := run(t, "audit", "ledger", "verify", "--state", u.state); code != exitDone {
		t.Errorf("the ledgers after it: exit %d\n%s%s", code, out, errs)
	}
}

// signal stops the processes with these labels; call what it returns to let them
// go on.
func (u *fleetUnderTest) signal(signal syscall.Signal, labels ...string) (resume func()) {
	u.t.Helper()
	var stopped []int
	for pid, label := range u.pids() {
		if slices.Contains(labels, label) {
			if err := syscall.Kill(pid, signal); err != nil {
				u.t.Fatal(err)
			}
			stopped = append(stopped, pid)
		}
	}
	if len(stopped) != len(labels) {
		u.t.Fatalf("%d processes are called %v", len(stopped), labels)
	}
	resume = func() {
		for _, pid := range stopped {
			syscall.Kill(pid, syscall.SIGCONT)
		}
	}
	u.t.Cleanup(resume)
	return resume
}

// TestPeersOfARegion runs one region with two peers: each has its Envoy, either
// answers for every service, and a service is warm at one of them.
func TestPeersOfARegion(t *testing.T) {
	u := startUp(t, "testdata/pair.yaml", "--peers", "2")
	pair := []polder.RegionName{"fr", "fr-2"}
	for _, service := range []string{"amber", "beryl"} {
		first := u.want("fr", service+".example.com", "fr")
		second := u.want("fr-2", service+".example.com", "fr")
		if first.Instance != second.Instance {
			t.Errorf("%s: instance %s answers through fr-1, and %s through fr-2", service, first.Instance, second.Instance)
		}
		if n := u.warm(polder.ServiceName(service), pair...); n != 1 {
			t.Errorf("%s has %d warm instances at two peers, want one", service, n)
		}
	}
	for _, peer := range pair {
		status, err := u.status(peer)
		if err != nil || len(status.Peers) != 2 || !status.Peers[0].Healthy || !status.Peers[1].Healthy {
			t.Errorf("%s sees %+v, %v; want two healthy peers", peer, status.Peers, err)
		}
	}
}

// TestKeysOfTheMembershipChange brings in a new key and takes the old one out, in
// the three steps that docs/regions.md names, while both peers run.
func TestKeysOfTheMembershipChange(t *testing.T) {
	u := startUp(t, "testdata/pair.yaml", "--peers", "2")
	pair := []polder.RegionName{"fr", "fr-2"}
	file := authority.GossipKeysFile(u.layout("fr").Authority())
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	old, fresh := strings.TrimSpace(string(before)), base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{7}, 32))
	last := ""
	for _, step := range []string{old + "\n" + fresh, "no key", fresh + "\n" + old, fresh} {
		if err := os.WriteFile(file, []byte(step+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if step == "no key" {
			continue // it is reported, and those in force stay
		}
		eventually(t, "both peers hold the keys of this step, and see each other", func() bool {
			ids := ""
			for _, peer := range pair {
				status, err := u.status(peer)
				if err != nil || !together(status, 2) || len(status.Keys) != strings.Count(step, "\n")+1 || ids != "" && ids != fmt.Sprint(status.Keys) {
					return false
				}
				ids = fmt.Sprint(status.Keys)
			}
			if ids == last {
				return false
			}
			last = ids
			return true
		})
	}
	// What is told now is told with the new key alone.
	first := u.want("fr", "amber.example.com", "fr")
	eventually(t, "both know where amber is warm", func() bool {
		for _, peer := range pair {
			status, err := u.status(peer)
			if err != nil || !slices.ContainsFunc(status.Peers, func(p gateway.PeerStatus) bool { return slices.Contains(p.Warm, "amber") }) {
				return false
			}
		}
		return true
	})
	if second := u.want("fr-2", "amber.example.com", "fr"); second.Instance != first.Instance {
		t.Errorf("amber is answered by %s and by %s", first.Instance, second.Instance)
	}
}
