package main

import (
	"strings"
	"testing"

	wire "github.com/miekg/dns"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway"
	"github.com/polder/polder/internal/freeport"
)

const named = `regions:
  fr: { jurisdiction: [FR], location: [48.86, 2.35], public: [127.0.0.1] }
services:
  billing:
    hosts: [billing.example.com]
    residency: { allow: [fr] }
    run: { command: [./bin/billing], directory: SAMPLES/billing }
`

// TestDNS asks a region in production where a sleeping service is: it is told, and
// the service wakes before anybody connects.
func TestDNS(t *testing.T) {
	address := freePort(t)
	layout := runRegion(t, named, address)
	client := gateway.NewClient(layout)
	defer client.Close()
	q := new(wire.Msg).SetQuestion("billing.example.com.", wire.TypeA)
	eventually(t, "the region says where billing is", func() bool {
		m, _, err := new(wire.Client).Exchange(q, address)
		return err == nil && len(m.Answer) == 1 && strings.HasSuffix(m.Answer[0].String(), "127.0.0.1")
	})
	eventually(t, "billing is awake, and nobody has called", func() bool {
		m, _, err := new(wire.Client).Exchange(q, address) // a resolver whose first query was lost
		if err != nil || m.Rcode != wire.RcodeSuccess {
			return false
		}
		status, err := client.Status(t.Context())
		if err != nil {
			return false
		}
		service, ok := find(status, "billing")
		return ok && len(service.Instances) == 1 && service.Instances[0].State == polder.Ready && service.Totals.Cold == 0
	})
}

// freePort is an address of this machine on which nobody listens now.
func freePort(t *testing.T) string {
	t.Helper()
	address, err := freeport.Choose(true)
	if err != nil {
		t.Fatal(err)
	}
	return address.String()
}
