package authority_test

import (
	"crypto/x509"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/polder/polder/gateway/authority"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// TestClientIsNobodyElse holds that a client's certificate names it, that nobody
// takes it for a server's, and that its name does not begin as those of a region's
// peers and nodes do, by which peers recognise each other.
func TestClientIsNobodyElse(t *testing.T) {
	dir := t.TempDir()
	a := open(t, filepath.Join(dir, "authority"))
	i := issuer(t, a, "fr", filepath.Join(dir, "fr"))
	identity, err := i.Client("checkout")
	if err != nil {
		t.Fatal(err)
	}
	cert := parse(t, identity.CertPEM)
	if len(cert.URIs) != 1 || cert.URIs[0].String() != identity.ID.String() {
		t.Errorf("the certificate names %v, want %s", cert.URIs, identity.ID)
	}
	if region, name, err := authority.ParseClientID(identity.ID); region != "fr" || name != "checkout" || err != nil {
		t.Errorf("%s is read as %s of %s, %v", identity.ID, name, region, err)
	}
	if shared := "spiffe://" + a.TrustDomain().Name() + "/region/"; strings.HasPrefix(identity.ID.String(), shared) {
		t.Errorf("%s begins as the names of peers do", identity.ID)
	}
	if _, _, err := authority.ParseNodeID(identity.ID); err == nil {
		t.Error("a client's identity is taken for a node's")
	}
	peer, err := authority.PeerID(a.TrustDomain(), "fr", "fr-1")
	if err != nil {
		t.Fatal(err)
	}
	for _, other := range []spiffeid.ID{peer, a.TrustDomain().ID()} {
		if _, _, err := authority.ParseClientID(other); err == nil {
			t.Errorf("%s is taken for a client's identity", other)
		}
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(identity.TrustPEM)
	for usage, lawful := range map[x509.ExtKeyUsage]bool{x509.ExtKeyUsageClientAuth: true, x509.ExtKeyUsageServerAuth: false} {
		if _, err := cert.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{usage}}); (err == nil) != lawful {
			t.Errorf("verified for usage %d: %v, want it to hold: %v", usage, err, lawful)
		}
	}
	if again, err := i.Client("checkout"); err != nil || !slices.Equal(again.CertPEM, identity.CertPEM) {
		t.Errorf("asked again before it is due: another certificate, %v", err)
	}
}

// TestDoorIsFoundByItsName holds that the certificate of a peer's door carries the
// name by which it was looked for, beside the peer's own.
func TestDoorIsFoundByItsName(t *testing.T) {
	dir := t.TempDir()
	a := open(t, filepath.Join(dir, "authority"))
	i := issuer(t, a, "fr", filepath.Join(dir, "fr"))
	for _, name := range []string{"10.0.0.1", "2001:db8::1", "edge.example.net"} {
		pair, err := i.Door("fr-1", name)
		if err != nil {
			t.Fatal(err)
		}
		cert := parse(t, pair.CertPEM)
		if err := cert.VerifyHostname(name); err != nil {
			t.Error(err)
		}
		if err := cert.VerifyHostname("10.0.0.2"); err == nil {
			t.Errorf("the door of %s is taken for 10.0.0.2", name)
		}
		if want := "spiffe://polder.internal/region/fr/peer/fr-1"; len(cert.URIs) != 1 || cert.URIs[0].String() != want {
			t.Errorf("the door of %s is named %v, want %s", name, cert.URIs, want)
		}
	}
}
