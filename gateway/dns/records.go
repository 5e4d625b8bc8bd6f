package dns

import (
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"

	wire "github.com/miekg/dns"

	"github.com/polder/polder"
)

// Record is one host with all addresses at which its callers may enter.
type Record struct {
	Host      polder.Host         `json:"host"`
	Service   polder.ServiceName  `json:"service"`
	TTL       uint32              `json:"ttl"` // seconds
	Regions   []polder.RegionName `json:"regions"`
	Addresses []netip.Addr        `json:"addresses"`
}

// Records lists what other name servers may answer for all hosts, by host: the
// law's choice, and no choice by distance. A host of which no region has an
// address has none.
func Records(w World) []Record {
	d := newDirectory(w)
	var list []Record
	for _, s := range w.Model.Services {
		entries := w.Entries(s)
		var addresses []netip.Addr
		for _, name := range entries {
			r, _ := w.Model.Region(name)
			addresses = append(addresses, r.Public...)
		}
		for _, h := range s.Hosts {
			list = append(list, Record{Host: h, Service: s.Name, TTL: d.ttl, Regions: entries, Addresses: addresses})
		}
	}
	slices.SortFunc(list, func(a, b Record) int { return strings.Compare(string(a.Host), string(b.Host)) })
	return list
}

// WriteZone writes records as a piece of a zone file (RFC 1035), with names that
// are complete.
func WriteZone(w io.Writer, list []Record) error {
	for _, r := range list {
		header := wire.RR_Header{Name: wire.Fqdn(string(r.Host)), Class: wire.ClassINET, Ttl: r.TTL}
		if len(r.Addresses) == 0 {
			if _, err := fmt.Fprintf(w, "; %s: no region that its callers may enter by has a public address\n", r.Host); err != nil {
				return err
			}
			continue
		}
		all := polder.Region{Public: r.Addresses}
		for _, kind := range []uint16{wire.TypeA, wire.TypeAAAA, wire.TypeHTTPS} {
			for _, rr := range records(header, kind, all, false) { // not all of these take QUIC for ever
				if _, err := fmt.Fprintln(w, rr.String()); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// endpoints is the custom resource that external-dns reads (its source "crd").
type endpoints struct {
	APIVersion string            `json:"apiVersion"`
	Kind       string            `json:"kind"`
	Metadata   map[string]string `json:"metadata"`
	Spec       struct {
		Endpoints []endpoint `json:"endpoints"`
	} `json:"spec"`
}

type endpoint struct {
	Name    string   `json:"dnsName"`
	TTL     uint32   `json:"recordTTL"`
	Type    string   `json:"recordType"`
	Targets []string `json:"targets"`
}

// WriteEndpoints writes records as a DNSEndpoint for external-dns, as JSON. It
// knows no records of type HTTPS.
func WriteEndpoints(w io.Writer, list []Record) error {
	resource := endpoints{APIVersion: "externaldns.k8s.io/v1alpha1", Kind: "DNSEndpoint", Metadata: map[string]string{"name": "polder"}}
	resource.Spec.Endpoints = []endpoint{}
	for _, r := range list {
		by := map[string][]string{}
		for _, a := range r.Addresses {
			kind := "A"
			if a.Is6() {
				kind = "AAAA"
			}
			by[kind] = append(by[kind], a.String())
		}
		for _, kind := range []string{"A", "AAAA"} {
			if targets := by[kind]; len(targets) > 0 {
				resource.Spec.Endpoints = append(resource.Spec.Endpoints, endpoint{string(r.Host), r.TTL, kind, targets})
			}
		}
	}
	out := json.NewEncoder(w)
	out.SetIndent("", "  ")
	return out.Encode(resource)
}
