package gateway

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway/ledger"
	"github.com/polder/polder/gateway/source"
	"github.com/polder/polder/regions/law"
)

// configurationRecord is what the ledger keeps of a change of the configuration.
type configurationRecord struct {
	Source  string             `json:"source"`
	Digest  string             `json:"digest"`       // of its files
	By      *source.Provenance `json:"by,omitempty"` // who wrote it, and the commit it is of
	Faults  int                `json:"faults,omitempty"`
	Changes []policyChange     `json:"changes,omitempty"`
	More    int                `json:"more,omitempty"`
}

// policyChange is a service or region that appeared, went, or changed. Of a
// service Before and After are its policy; "" where there is none.
type policyChange struct {
	Service polder.ServiceName `json:"service,omitempty"`
	Region  polder.RegionName  `json:"region,omitempty"`
	Before  string             `json:"before,omitempty"`
	After   string             `json:"after,omitempty"`
	Other   bool               `json:"other,omitempty"` // only what is no policy changed
}

// configured tells which configuration is in force, and what changed by it.
func (j *journal) configured(before, after *polder.Model, d polder.Difference, status ConfigStatus, by source.Provenance) {
	changes := policyChanges(before, after, d)
	j.mu.Lock()
	j.hidden = newRedaction(j.here, before, after)
	j.mu.Unlock()
	j.record(ledger.Configuration, configurationRecord{
		Source: status.Source, Digest: status.Digest, By: &by, Faults: len(status.Faults),
		Changes: changes[:min(len(changes), maxListed)], More: max(0, len(changes)-maxListed),
	})
}

// policyChanges compares two models that differ so; before may be nil. A change of a
// region can change what a service's policy means without a change of its words, so
// policies are compared as the law resolves them.
func policyChanges(before, after *polder.Model, d polder.Difference) []policyChange {
	if before == nil {
		before = &polder.Model{}
	}
	var list []policyChange
	wasRegion, isRegion := map[polder.RegionName]polder.Region{}, map[polder.RegionName]polder.Region{}
	for _, r := range before.Regions {
		wasRegion[r.Name] = r
	}
	for _, r := range after.Regions {
		isRegion[r.Name] = r
	}
	for _, name := range union(wasRegion, isRegion) {
		if c := (policyChange{Region: name, Before: carried(wasRegion, name), After: carried(isRegion, name)}); !reflect.DeepEqual(wasRegion[name], isRegion[name]) {
			c.Other = c.Before == c.After
			list = append(list, c)
		}
	}
	differ := d.Services
	if !reflect.DeepEqual(wasRegion, isRegion) {
		differ = servicesOf(before, after)
	}
	for _, name := range differ {
		c := policyChange{Service: name}
		if a, had := before.Service(name); had {
			c.Before = Policy(a, before.Regions)
		}
		if b, has := after.Service(name); has {
			c.After = Policy(b, after.Regions)
		}
		if _, is := slices.BinarySearch(d.Services, name); !is && c.Before == c.After {
			continue
		}
		c.Other = c.Before == c.After
		list = append(list, c)
	}
	return list
}

// servicesOf lists the services of either model, sorted.
func servicesOf(before, after *polder.Model) []polder.ServiceName {
	names := make([]polder.ServiceName, 0, len(before.Services)+len(after.Services))
	for _, services := range [][]polder.Service{before.Services, after.Services} {
		for _, s := range services {
			names = append(names, s.Name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func union(a, b map[polder.RegionName]polder.Region) []polder.RegionName {
	all := maps.Clone(a)
	maps.Copy(all, b)
	return slices.Sorted(maps.Keys(all))
}

func carried(regions map[polder.RegionName]polder.Region, name polder.RegionName) string {
	r, ok := regions[name]
	if !ok {
		return ""
	}
	return "carries " + words(r.Jurisdictions)
}

// Policy says a service's residency in words, resolved against the regions that
// exist.
func Policy(s polder.Service, regions []polder.Region) string {
	permission := law.Permit(s.Residency, regions)
	var b strings.Builder
	fmt.Fprintf(&b, "%s: may be opened and served in %s", words(s.Hosts), words(permission.Allowed()))
	standby, glass := permission.Standby(), permission.Glass()
	switch broken, is := permission.Broken(); {
	case len(standby) > 0:
		fmt.Fprintf(&b, "; while none of them is alive, in %s", words(standby))
	case is:
		fmt.Fprintf(&b, "; while none of them is alive, in %s by a broken glass, from %s until %s (%s)", words(glass),
			broken.From.Format(time.RFC3339), broken.Until.Format(time.RFC3339), broken.Reason)
	case len(glass) > 0:
		fmt.Fprintf(&b, "; while none of them is alive, in %s once somebody breaks the glass", words(glass))
	default:
		b.WriteString("; nowhere else, also when none of them is alive")
	}
	if s.Residency.Elsewhere == polder.PassThrough {
		b.WriteString("; callers elsewhere are passed on unopened")
	} else {
		b.WriteString("; callers elsewhere are refused")
	}
	if s.Residency.Keys == polder.KeysResident {
		b.WriteString("; its key stays in the gateways of allowed regions")
	}
	b.WriteString(telemetryWords(s.Residency.Telemetry))
	return b.String()
}

// telemetryWords says where records may be kept, unless it is as it is by default.
func telemetryWords(t polder.Telemetry) string {
	if t == polder.DefaultTelemetry() {
		return ""
	}
	var parts []string
	for _, kind := range polder.Records() {
		switch t.Of(kind) {
		case polder.KeptServing:
			parts = append(parts, string(kind)+" wherever it is served")
		case polder.KeptAllowed:
			parts = append(parts, string(kind)+" in allowed regions")
		default:
			parts = append(parts, string(kind)+" nowhere")
		}
	}
	return "; records are kept: " + strings.Join(parts, ", ")
}

func words[T ~string](list []T) string {
	if len(list) == 0 {
		return "none"
	}
	parts := make([]string, len(list))
	for i, w := range list {
		parts[i] = string(w)
	}
	return strings.Join(parts, ", ")
}
