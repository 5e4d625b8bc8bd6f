package main

import (
	"net/http"
	"strings"
	"syscall"
	"testing"

	"github.com/polder/polder"
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
//  3. When the home dies, under open-loop load, the others agree on another one.
//  4. When a service is called often it is served where its callers are.
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
	for pid, label := range u.pids() {
		if label == "region "+string(home) || strings.HasPrefix(label, "Envoy of "+string(home)) {
			if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
				t.Fatal(err)
			}
			defer syscall.Kill(pid, syscall.SIGCONT)
		}
	}
	eventually(t, "amber is served elsewhere", func() bool {
		code, a, _, err := u.call(entry, "amber.example.com")
		return err == nil && code == http.StatusOK && a.Region != string(home)
	})
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
