package authority_test

import (
	"encoding/pem"
	"strings"
	"testing"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway/authority"
)

func identity(t *testing.T, a *authority.Authority, region polder.RegionName, peer string) authority.Identity {
	t.Helper()
	issuer, err := a.Issuer(region, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	i, err := issuer.Peer(peer)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// What a peer signs is known to be its own by every other peer of the same
// authority, and by nobody if anything about it is changed.
func TestSignedByAPeer(t *testing.T) {
	ours, theirs := open(t, t.TempDir()), open(t, t.TempDir())
	fr, nl, stranger := identity(t, ours, "fr", "fr-1"), identity(t, ours, "nl", "nl-2"), identity(t, theirs, "fr", "fr-1")
	message := []byte("a row")
	certificate, signature, err := nl.Sign(message)
	if err != nil {
		t.Fatal(err)
	}
	if peer, region, err := fr.Verify(certificate, signature, message); err != nil || peer != "nl-2" || region != "nl" {
		t.Errorf("signed by peer %q of %q, %v; want nl-2 of nl", peer, region, err)
	}
	if len(certificate) > 1024 {
		t.Errorf("the certificate takes %d bytes of every row", len(certificate))
	}
	frCertificate, _, err := fr.Sign(message)
	if err != nil {
		t.Fatal(err)
	}
	strange, strangeSignature, err := stranger.Sign(message)
	if err != nil {
		t.Fatal(err)
	}
	host, err := mustIssuer(t, ours, "fr").Leaf([]polder.Host{"a.example.com"})
	if err != nil {
		t.Fatal(err)
	}
	hostCertificate, _ := pem.Decode(host.CertPEM)
	for name, tt := range map[string]struct {
		certificate, signature, message []byte
		want                            string
	}{
		"another message":     {certificate, signature, []byte("a Row"), "signature is not that of"},
		"another certificate": {frCertificate, signature, message, "signature is not that of"},
		"another authority":   {strange, strangeSignature, message, "unknown authority"},
		"a host's":            {hostCertificate.Bytes, signature, message, "certificate"},
		"no certificate":      {[]byte("nonsense"), signature, message, "certificate"},
		"no signature":        {certificate, nil, message, "signature is not that of"},
	} {
		if peer, _, err := fr.Verify(tt.certificate, tt.signature, tt.message); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: signed by %q, %v; want an error with %q", name, peer, err, tt.want)
		}
	}
	if _, _, err := (authority.Identity{}).Sign(message); err == nil {
		t.Error("nobody signed")
	}
}

func mustIssuer(t *testing.T, a *authority.Authority, region polder.RegionName) *authority.Issuer {
	t.Helper()
	issuer, err := a.Issuer(region, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return issuer
}
