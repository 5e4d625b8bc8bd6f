package proof_test

import (
	"testing"

	"github.com/polder/polder"
	"github.com/polder/polder/xds/proof"
)

// TestSecrets holds which names Envoy may be given a secret for, as callers
// write them.
func TestSecrets(t *testing.T) {
	w := mutantWorld(t)
	for _, c := range []struct {
		name    string
		lawful  bool
		service polder.ServiceName // that the violation names
		why     string
	}{
		{"billing.example.com", true, "", "served here"},
		{"BILLING.Example.com", true, "", "a ClientHello may have any case"},
		{"billing.example.com.", true, "", "and a dot at the end"},
		{"deep.down.billing.example.com", true, "", "below a wildcard that is served here"},
		{"peer/identity", true, "", "mTLS between gateways"},
		{"peer/trust", true, "", "mTLS between gateways"},
		{"dutch.example.com", false, "dutch", "allowed elsewhere only"},
		{"DUTCH.example.com", false, "dutch", "allowed elsewhere only, in any case"},
		{"inner.billing.example.com", false, "inner", "its own host, though a wildcard above it is served here"},
		{"vault.example.com", false, "vault", "refused here"},
		{"standby.example.com", false, "standby", "standby, and an allowed region lives"},
		{"nobody.example.com", false, "", "nobody's"},
		{"*.billing.example.com", false, "", "no caller may send a wildcard"},
		{"*", false, "", "no name"},
		{"-", false, "", "what Envoy asks for when there was no name"},
		{"", false, "", "no name"},
		{"service/billing", false, "", "no host"},
		{"peer/identity.example.com", false, "", "no host"},
	} {
		found := proof.CheckSecret(w.book(), c.name)
		if c.lawful != (len(found) == 0) {
			t.Errorf("secret %q (%s): got %v", c.name, c.why, found)
		}
		for _, v := range found {
			if c.service != "" && (len(v.Services) != 1 || v.Services[0] != c.service) || c.service == "" && len(v.Services) > 0 {
				t.Errorf("secret %q: the violation names %v, want %q", c.name, v.Services, c.service)
			}
		}
	}
	w.alive["pl"] = false
	if found := proof.CheckSecret(w.book(), "standby.example.com"); len(found) > 0 {
		t.Errorf("standby while no allowed region lives: got %v", found)
	}
}
