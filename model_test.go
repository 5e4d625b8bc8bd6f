package polder

import (
	"path"
	"slices"
)

// tester is what testing.T, testing.F and rapid.T have in common.
type tester interface {
	Helper()
	Errorf(format string, args ...any)
}

// checkModel holds a model against what every reader of one relies on. It is
// written apart from the validation, on purpose.
func checkModel(t tester, m *Model) {
	t.Helper()
	if m == nil {
		t.Errorf("there is no model")
		return
	}
	sorted := slices.IsSortedFunc(m.Regions, func(a, b Region) int { return compare(a.Name, b.Name) }) &&
		slices.IsSortedFunc(m.Tenants, func(a, b Tenant) int { return compare(a.Name, b.Name) }) &&
		slices.IsSortedFunc(m.Services, func(a, b Service) int { return compare(a.Name, b.Name) })
	if !sorted {
		t.Errorf("the model is not sorted")
	}
	if len(m.Regions) == 0 {
		t.Errorf("the model has no region")
	}
	for _, r := range m.Regions {
		if r.Location.Latitude < -90 || r.Location.Latitude > 90 || r.Location.Longitude < -180 || r.Location.Longitude > 180 {
			t.Errorf("region %s lies nowhere: %v", r.Name, r.Location)
		}
	}
	for _, tenant := range m.Tenants {
		if b := tenant.Budget; b != nil && (m.Prices == nil || m.Prices.Currency != b.Currency) {
			t.Errorf("the budget of tenant %s cannot be counted", tenant.Name)
		}
	}
	seen := make(map[ServiceName]bool)
	hosts := make(map[Host]ServiceName)
	for _, s := range m.Services {
		if seen[s.Name] {
			t.Errorf("service %s is there twice", s.Name)
		}
		seen[s.Name] = true
		if len(s.Hosts) == 0 {
			t.Errorf("service %s has no host", s.Name)
		}
		for _, h := range s.Hosts {
			if other, ok := hosts[h]; ok {
				t.Errorf("host %s belongs to %s and to %s", h, other, s.Name)
			}
			hosts[h] = s.Name
		}
		if _, ok := m.Tenant(s.Tenant); s.Tenant != "" && !ok {
			t.Errorf("service %s has the unknown tenant %s", s.Name, s.Tenant)
		}
		if b := s.Scale.Budget; b != nil && (m.Prices == nil || m.Prices.Currency != b.Currency) {
			t.Errorf("the budget of service %s cannot be counted", s.Name)
		}
		checkResidency(t, m, s)
		checkAnswers(t, s)
	}
}

func checkResidency(t tester, m *Model, s Service) {
	t.Helper()
	allowed := make(map[RegionName]bool)
	for _, p := range s.Residency.Allow {
		found := false
		for _, r := range m.Regions {
			if RegionName(p) == r.Name || slices.Contains(r.Jurisdictions, Jurisdiction(p)) {
				found, allowed[r.Name] = true, true
			}
		}
		if !found {
			t.Errorf("service %s allows %s, which is nowhere", s.Name, p)
		}
	}
	if len(allowed) == 0 {
		t.Errorf("service %s may run nowhere", s.Name)
	}
	if s.Residency.Elsewhere != PassThrough && s.Residency.Elsewhere != Refuse {
		t.Errorf("service %s has elsewhere %q", s.Name, s.Residency.Elsewhere)
	}
	f := s.Residency.Failover
	standIn := f.Class == FailoverListed || f.Class == FailoverBreakGlass
	if standIn != (len(f.Regions) > 0) || !standIn && f.Class != FailoverClosed || f.Broken != nil && f.Class != FailoverBreakGlass {
		t.Errorf("service %s has failover %+v", s.Name, f)
	}
	if b := f.Broken; b != nil && (!b.Until.After(b.From) || b.Until.Sub(b.From) > MaxBroken || b.Reason == "") {
		t.Errorf("service %s has the broken glass %+v", s.Name, b)
	}
	if k := s.Residency.Keys; k != KeysOnDemand && k != KeysResident {
		t.Errorf("service %s has keys %q", s.Name, k)
	}
	for _, kind := range Records() {
		if kept := s.Residency.Telemetry.Of(kind); kept != KeptServing && kept != KeptAllowed && kept != KeptNowhere {
			t.Errorf("service %s keeps %s %q", s.Name, kind, kept)
		}
	}
	for _, name := range f.Regions {
		if _, ok := m.Region(name); !ok || allowed[name] {
			t.Errorf("service %s fails over to %s (known: %v, allowed: %v)", s.Name, name, ok, allowed[name])
		}
	}
	for name := range s.Endpoints {
		if !allowed[name] && !slices.Contains(f.Regions, name) {
			t.Errorf("service %s has endpoints in %s, which its residency does not allow", s.Name, name)
		}
	}
}

func checkAnswers(t tester, s Service) {
	t.Helper()
	if (s.Run == nil) == (len(s.Endpoints) == 0) {
		t.Errorf("service %s has not exactly one of run and endpoints", s.Name)
	}
	for name, addrs := range s.Endpoints {
		for _, a := range addrs {
			if !a.IsValid() || a.Port() == 0 {
				t.Errorf("service %s has the endpoint %v in %s", s.Name, a, name)
			}
		}
	}
	if r := s.Run; r != nil && (len(r.Command) == 0 || r.Command[0] == "" || path.Clean(r.Directory) != r.Directory || r.Memory < 0) {
		t.Errorf("service %s has run %+v", s.Name, r)
	}
	c := s.Scale
	if c.Min < 0 || c.Max < 1 || c.Min > c.Max || c.Concurrency < 1 || (c.KeepAlive < 0 && c.KeepAlive != AutoKeepAlive) {
		t.Errorf("service %s has scale %+v", s.Name, c)
	}
	if s.Timeout <= 0 || s.At.Line < 1 {
		t.Errorf("service %s has timeout %s and stands at %v", s.Name, s.Timeout, s.At)
	}
}
