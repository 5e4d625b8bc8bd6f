package authority_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway/authority"
	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"golang.org/x/sync/errgroup"
	"pgregory.net/rapid"
)

// TestLeafInHandshake has clients call the hosts over real TLS.
func TestLeafInHandshake(t *testing.T) {
	dir := t.TempDir()
	a := open(t, filepath.Join(dir, "authority"))
	i := issuer(t, a, "fr", filepath.Join(dir, "fr"))
	leaf, err := i.Leaf([]polder.Host{"billing.example.com", "*.shop.example.com"})
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(a.Root())
	strangers := x509.NewCertPool()
	strangers.AppendCertsFromPEM(open(t, filepath.Join(dir, "another")).Root())
	for _, c := range []struct {
		host string
		pool *x509.CertPool
		want string // in the client's error; "" for a handshake that succeeds
	}{
		{"billing.example.com", roots, ""},
		{"BILLING.example.com", roots, ""},
		{"a.shop.example.com", roots, ""},
		{"a.b.shop.example.com", roots, "not a.b.shop"},
		{"shop.example.com", roots, "not shop.example.com"},
		{"billing.example.com", strangers, "unknown authority"},
	} {
		err := handshake(t, leaf, &tls.Config{ServerName: c.host, RootCAs: c.pool})
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", c.host, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: error %v, want one that says %q", c.host, err, c.want)
		}
	}
	cert := parse(t, leaf.CertPEM)
	if life := cert.NotAfter.Sub(cert.NotBefore); life < 90*24*time.Hour || life > 91*24*time.Hour {
		t.Errorf("leaf lives for %s, want 90 days", life)
	}
	if cert.IsCA {
		t.Error("leaf may sign certificates")
	}
}

// handshake connects once to a server that shows the pair, and returns the
// client's error.
func handshake(t *testing.T, pair authority.Pair, config *tls.Config) error {
	t.Helper()
	certificate, err := pair.TLS()
	if err != nil {
		t.Fatal(err)
	}
	server, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{certificate}})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	var group errgroup.Group
	group.Go(func() error {
		connection, err := server.Accept()
		if err != nil {
			return err
		}
		defer connection.Close()
		return connection.(*tls.Conn).HandshakeContext(t.Context())
	})
	connection, err := (&tls.Dialer{Config: config}).DialContext(t.Context(), "tcp", server.Addr().String())
	if err == nil {
		connection.Close()
	}
	group.Wait() // the server's error follows from the client's
	return err
}

func TestLeafIsKept(t *testing.T) {
	dir := t.TempDir()
	a := open(t, filepath.Join(dir, "authority"))
	i := issuer(t, a, "fr", filepath.Join(dir, "fr"))
	first := leaf(t, i, "a.example.com", "b.example.com")
	if again := leaf(t, i, "b.example.com", "a.example.com", "b.example.com"); !bytes.Equal(again.CertPEM, first.CertPEM) {
		t.Error("the same hosts in another order got another certificate")
	}
	if other := leaf(t, i, "a.example.com"); bytes.Equal(other.CertPEM, first.CertPEM) {
		t.Error("fewer hosts got the same certificate")
	}
	restarted := issuer(t, open(t, filepath.Join(dir, "authority")), "fr", filepath.Join(dir, "fr"))
	if again := leaf(t, restarted, "a.example.com", "b.example.com"); !bytes.Equal(again.KeyPEM, first.KeyPEM) {
		t.Error("a restart made a new key")
	}
	if _, err := i.Leaf(nil); err == nil {
		t.Error("issued a certificate without names")
	}
}

// TestDamagedLeafIsReplaced: a leaf has no value of its own.
func TestDamagedLeafIsReplaced(t *testing.T) {
	for name, damage := range map[string]func(file string) error{
		"truncated":          func(file string) error { return os.Truncate(file, 300) },
		"emptied":            func(file string) error { return os.Truncate(file, 0) },
		"readable by others": func(file string) error { return os.Chmod(file, 0o644) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			a := open(t, filepath.Join(dir, "authority"))
			i := issuer(t, a, "fr", filepath.Join(dir, "fr"))
			first := leaf(t, i, "a.example.com")
			files, err := filepath.Glob(filepath.Join(dir, "fr", "hosts", "*.pem"))
			if err != nil || len(files) != 1 {
				t.Fatalf("files %v, error %v, want one file", files, err)
			}
			if err := damage(files[0]); err != nil {
				t.Fatal(err)
			}
			second := leaf(t, i, "a.example.com")
			verify(t, second, a.Root(), "a.example.com", time.Now())
			if bytes.Equal(first.KeyPEM, second.KeyPEM) {
				t.Error("the key that others may have read is still in use")
			}
			if info, err := os.Stat(files[0]); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("the new file: %v, %v, want mode 0600", info.Mode(), err)
			}
		})
	}
}

// TestNewRootReplacesLeaves: after the authority was started anew, no leaf of
// the old one is handed out.
func TestNewRootReplacesLeaves(t *testing.T) {
	dir := t.TempDir()
	leaf(t, issuer(t, open(t, filepath.Join(dir, "authority")), "fr", filepath.Join(dir, "fr")), "a.example.com")
	if err := os.RemoveAll(filepath.Join(dir, "authority")); err != nil {
		t.Fatal(err)
	}
	a := open(t, filepath.Join(dir, "authority"))
	verify(t, leaf(t, issuer(t, a, "fr", filepath.Join(dir, "fr")), "a.example.com"), a.Root(), "a.example.com", time.Now())
}

func TestForeignFolderIsRefused(t *testing.T) {
	dir := t.TempDir()
	a := open(t, filepath.Join(dir, "authority"))
	leaf(t, issuer(t, a, "fr", filepath.Join(dir, "fr")), "a.example.com")
	_, err := a.Issuer("nl", filepath.Join(dir, "fr"))
	if err == nil || !strings.Contains(err.Error(), "belongs to region fr") {
		t.Errorf("region nl got the folder of fr: %v", err)
	}
}

// TestKeysStayInTheirRegion: whatever is issued and removed in whatever order,
// a key is on disk below the folder of the region that it was issued in, and
// nowhere else; and only while the region keeps it.
func TestKeysStayInTheirRegion(t *testing.T) {
	regions := []polder.RegionName{"fr", "nl", "pl"}
	rapid.Check(t, func(rt *rapid.T) {
		dir := tempDir(rt)
		a := open(t, filepath.Join(dir, "authority"))
		issuers := map[polder.RegionName]*authority.Issuer{}
		for _, region := range regions {
			issuers[region] = issuer(t, a, region, filepath.Join(dir, "regions", string(region)))
		}
		held := map[polder.RegionName]map[string][]polder.Host{} // key → hosts
		steps := rapid.IntRange(1, 8).Draw(rt, "steps")
		for range steps {
			region := rapid.SampledFrom(regions).Draw(rt, "region")
			if held[region] == nil {
				held[region] = map[string][]polder.Host{}
			}
			hosts := rapid.SliceOfNDistinct(rapid.SampledFrom([]polder.Host{"a.test", "b.test", "*.c.test"}), 1, 2, rapid.ID).Draw(rt, "hosts")
			if rapid.IntRange(0, 3).Draw(rt, "what") > 0 {
				held[region][string(leaf(t, issuers[region], hosts...).KeyPEM)] = hosts
				continue
			}
			before := len(held[region])
			keep := [][]polder.Host{hosts}
			for key, had := range held[region] {
				if !sameHosts(had, hosts) {
					delete(held[region], key)
				}
			}
			removed, err := issuers[region].Keep(keep)
			if err != nil || removed != before-len(held[region]) {
				rt.Fatalf("Keep removed %d (%v), want %d", removed, err, before-len(held[region]))
			}
		}
		found := privateKeys(rt, filepath.Join(dir, "regions"))
		for region, keys := range held {
			for key := range keys {
				places := found[key]
				delete(found, key)
				if len(places) != 1 || !strings.HasPrefix(places[0], string(region)+"/") {
					rt.Fatalf("a key of region %s lies in %v", region, places)
				}
			}
		}
		if len(found) != 0 {
			rt.Fatalf("keys that nobody holds: %v", slices.Concat(mapValues(found)...))
		}
		if shared := privateKeys(rt, filepath.Join(dir, "authority")); len(shared) != 2 {
			rt.Fatalf("the shared folder holds %d keys, want the two roots' only", len(shared))
		}
	})
}

// TestPeerIdentity: peers recognise each other by name, and the two roots do
// not vouch for each other's certificates.
func TestPeerIdentity(t *testing.T) {
	dir := t.TempDir()
	a := open(t, filepath.Join(dir, "authority"))
	i := issuer(t, a, "fr", filepath.Join(dir, "fr"))
	identity, err := i.Peer("fr-1")
	if err != nil {
		t.Fatal(err)
	}
	bundle, err := x509bundle.Parse(a.TrustDomain(), identity.TrustPEM)
	if err != nil {
		t.Fatal(err)
	}
	id, _, err := x509svid.Verify([]*x509.Certificate{parse(t, identity.CertPEM)}, bundle)
	if err != nil {
		t.Fatal(err)
	}
	if want := "spiffe://polder.internal/region/fr/peer/fr-1"; id.String() != want || identity.ID.String() != want {
		t.Errorf("verified as %s, named %s, want %s", id, identity.ID, want)
	}
	if again, err := i.Peer("fr-1"); err != nil || !bytes.Equal(again.KeyPEM, identity.KeyPEM) {
		t.Errorf("asked again, the peer got another key (%v)", err)
	}
	if other, err := i.Peer("fr-2"); err != nil || bytes.Equal(other.KeyPEM, identity.KeyPEM) {
		t.Errorf("another peer got the same key (%v)", err)
	}

	services, peers := x509.NewCertPool(), x509.NewCertPool()
	services.AppendCertsFromPEM(a.Root())
	peers.AppendCertsFromPEM(identity.TrustPEM)
	anyUsage := []x509.ExtKeyUsage{x509.ExtKeyUsageAny}
	if _, err := parse(t, identity.CertPEM).Verify(x509.VerifyOptions{Roots: services, KeyUsages: anyUsage}); err == nil {
		t.Error("the services' root vouches for a peer")
	}
	if _, err := parse(t, leaf(t, i, "a.example.com").CertPEM).Verify(x509.VerifyOptions{Roots: peers, KeyUsages: anyUsage}); err == nil {
		t.Error("the peers' root vouches for a service")
	}
}

func TestPeerIDs(t *testing.T) {
	domain := spiffeid.RequireTrustDomainFromString("example.org")
	for _, c := range []struct {
		region polder.RegionName
		peer   string
		ok     bool
	}{
		{"fr", "fr-1", true},
		{"fr", "host.example.com", true},
		{"fr", "", false},
		{"", "fr-1", false},
		{"fr", "../../nl/peer/nl-1", false}, // another region's name
		{"fr/peer/x", "y", false},
		{"fr", "a b", false},
		{"fr", "..", false},
	} {
		id, err := authority.PeerID(domain, c.region, c.peer)
		if (err == nil) != c.ok {
			t.Errorf("PeerID(%q, %q) = %s, %v, want ok %v", c.region, c.peer, id, err, c.ok)
		}
		if err != nil {
			continue
		}
		region, peer, err := authority.ParsePeerID(id)
		if err != nil || region != c.region || peer != c.peer {
			t.Errorf("ParsePeerID(%s) = %q, %q, %v", id, region, peer, err)
		}
	}
	for _, text := range []string{"spiffe://example.org", "spiffe://example.org/region/fr", "spiffe://example.org/zone/fr/peer/x", "spiffe://example.org/region/fr/peer/x/y"} {
		if region, peer, err := authority.ParsePeerID(spiffeid.RequireFromString(text)); err == nil {
			t.Errorf("ParsePeerID(%s) = %q, %q, want an error", text, region, peer)
		}
	}
}

func leaf(t testingT, i *authority.Issuer, hosts ...polder.Host) authority.Pair {
	t.Helper()
	pair, err := i.Leaf(hosts)
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

// privateKeys finds every private key below a folder, with the places (relative
// to the folder) where it lies.
func privateKeys(t testingT, dir string) map[string][]string {
	found := map[string][]string{}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		if at := bytes.Index(text, []byte("-----BEGIN PRIVATE KEY-----")); at >= 0 {
			place, _ := filepath.Rel(dir, path)
			found[string(text[at:])] = append(found[string(text[at:])], place)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func sameHosts(a, b []polder.Host) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}

func mapValues(m map[string][]string) [][]string {
	var all [][]string
	for _, v := range m {
		all = append(all, v)
	}
	return all
}

// tempDir is a folder for one example of a property.
func tempDir(t *rapid.T) string {
	dir, err := os.MkdirTemp("", "authority")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			panic(fmt.Sprintf("remove %s: %v", dir, err))
		}
	})
	return dir
}
