package gateway

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway/ledger"
)

// TestLedgersNameOnlyWhomTheyMay holds what a region's ledger says of services
// that their policies hide from it.
func TestLedgersNameOnlyWhomTheyMay(t *testing.T) {
	service := func(name polder.ServiceName, kept polder.Kept, hosts ...polder.Host) polder.Service {
		return polder.Service{Name: name, Hosts: hosts, Residency: polder.Residency{Allow: []polder.Place{"fr"},
			Failover: polder.Failover{Class: polder.FailoverListed, Regions: []polder.RegionName{"nl"}}, Telemetry: polder.Telemetry{Ledger: kept}}}
	}
	m := &polder.Model{Regions: testRegions, Services: []polder.Service{
		service("secret", polder.KeptAllowed, "secret.example.com", "*.secret.example.com"), service("open", polder.KeptServing, "open.example.com"),
	}}
	data := violationRecord{
		Services: []polder.ServiceName{"open", "secret"},
		Path:     []string{"scope host/SECRET.example.com", "cluster service/secret", "virtual host open"},
		Address:  "secret a.secret.example.com", Reason: "leads to secret. It is open.example.com's",
	}
	write := func(here polder.RegionName) string {
		text, err := json.Marshal(newRedaction(here, nil, m).apply(data))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	name, host, below := ledger.Pseudonym("secret"), ledger.Pseudonym("secret.example.com"), ledger.Pseudonym("*.secret.example.com")
	for _, want := range []string{
		`"open","` + name + `"`, `scope host/` + host, `service/` + name, below, `leads to ` + name + `. It is open.example.com's`,
	} {
		if got := write("nl"); !strings.Contains(got, want) {
			t.Errorf("nl writes %s, want %s in it", got, want)
		}
	}
	if got := write("nl"); strings.Contains(strings.ToLower(got), "secret.example.com") {
		t.Errorf("nl names the host: %s", got)
	}
	if got := write("fr"); strings.Contains(got, name) || !strings.Contains(got, `"open","secret"`) {
		t.Errorf("fr, where the service is allowed, writes %s", got)
	}
}
