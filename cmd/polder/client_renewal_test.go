package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway/authority"
	"github.com/polder/polder/xds"
)

// TestClientRenewal renews what a running gRPC program proves itself with, while it
// calls without a pause and has a stream open.
//
//  1. polder client bootstrap writes another certificate into place. When the old one
//     has expired, the control plane's stream begins again with the new one, and the
//     program finds and wakes a service that it never called.
//  2. Polder dies and comes back with another certificate of its own. The program
//     takes it for what it is, and finds a further service.
//  3. No call fails meanwhile, and the stream to the instance is the first one still.
//  4. A program whose new certificate is of a foreign authority keeps what it was told,
//     and gets nothing more; one with the expired certificate gets nothing at all.
func TestClientRenewal(t *testing.T) {
	u := newClientFleet(t)
	folder := u.bootstrap("fr", "checkout")
	expires := time.Now().Add(25 * time.Second).Truncate(time.Second)
	old := signedClient(t, u.layout("fr").Authority(), "fr", "checkout", expires)
	u.put(folder, old)
	robbed := filepath.Join(filepath.Dir(u.config), "robbed")
	if err := os.CopyFS(robbed, os.DirFS(folder)); err != nil {
		t.Fatal(err)
	}
	soon := []string{`"600s"`, `"1s"`} // gRPC looks at the files more often
	checkout := u.program(folder, soon...)
	billing := checkout.service("billing")
	other := u.program(robbed, append(soon, folder, robbed)...)
	told := other.service("billing")
	told.straight("fr")
	instance := billing.straight("fr")
	ended := billing.watchEnd()
	begun := u.clientStreams("checkout")
	calls := billing.callOn()

	if err := os.RemoveAll(filepath.Join(u.layout("fr").Certificates(), "peers")); err != nil { // as if they were due
		t.Fatal(err)
	}
	u.bootstrap("fr", "checkout")
	u.put(robbed, signedClient(t, t.TempDir(), "fr", "checkout", expires.Add(time.Hour)))
	eventually(t, "the stream of the renewed program has begun again, and the other's has not", func() bool {
		now := u.clientStreams("checkout")
		return len(now) == 1 && !slices.Contains(begun, now[0])
	})
	if now := time.Now(); now.Before(expires) {
		t.Errorf("the streams ended %v before their certificate", expires.Sub(now))
	}
	checkout.service("catalog").must()
	// Go's TLS does not even show a certificate of an authority that was not asked for.
	eventually(t, "status tells of whoever has none of this authority", func() bool { return u.refusedFor("fr", "didn't provide a certificate") })

	before := u.mustStatus("fr")
	u.kill(before.PID)
	eventually(t, "fr is back, and the program with its streams for billing and catalog", func() bool {
		s, err := u.status("fr")
		return err == nil && s.PID != before.PID && len(u.clientStreams("checkout")) == 2
	})
	checkout.service("inherits").must()
	if from := billing.must(); from != instance {
		t.Errorf("billing is at %s now, and was at %s", from, instance)
	}
	if n, err := calls(); err != nil {
		t.Errorf("one of %d calls failed: %v", n, err)
	}
	select {
	case err := <-ended:
		t.Errorf("the stream to the instance has ended: %v", err)
	default:
	}

	var none sync.WaitGroup
	expired := filepath.Join(filepath.Dir(u.config), "expired")
	if err := os.CopyFS(expired, os.DirFS(folder)); err != nil {
		t.Fatal(err)
	}
	u.put(expired, old)
	late := u.program(expired, folder, expired).service("billing")
	none.Go(func() { late.refused("a client whose certificate has expired gets nothing") })
	none.Go(func() { other.service("catalog").refused("a client with a foreign certificate gets nothing more") })
	none.Wait()
	if from := told.must(); from != instance {
		t.Errorf("what a program was told before led it to %s, want %s", from, instance)
	}
	// The program may hear that it is refused before the door has noted it.
	eventually(t, "status tells of the expired certificate", func() bool { return u.refusedFor("fr", "expired") })
}

// signedClient signs a client's certificate by hand, with the authority in a folder,
// and gives it with its key as a program's file has them.
func signedClient(t *testing.T, dir, region, name string, until time.Time) []byte {
	t.Helper()
	ca, err := authority.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	root, err := tls.LoadX509KeyPair(filepath.Join(dir, "peers.pem"), filepath.Join(dir, "peers-key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, errCert := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(7), NotBefore: time.Now().Add(-time.Hour), NotAfter: until,
		URIs:     []*url.URL{{Scheme: "spiffe", Host: ca.TrustDomain().Name(), Path: "/client/" + region + "/" + name}},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, root.Leaf, key.Public(), root.PrivateKey)
	raw, errKey := x509.MarshalPKCS8PrivateKey(key)
	if err := errors.Join(errCert, errKey); err != nil {
		t.Fatal(err)
	}
	return slices.Concat(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}))
}

// put renames an identity into the place of a program's present one.
func (u *clientFleet) put(folder string, identity []byte) {
	u.t.Helper()
	u.writeTo(filepath.Join(folder, xds.ClientIdentityFile), string(identity))
}

// clientStreams tells since when each stream of a client in fr is connected. gRPC has
// one for each name that a program calls.
func (u *clientFleet) clientStreams(name string) (since []time.Time) {
	s, err := u.status("fr")
	if err != nil {
		return nil
	}
	for _, n := range s.Nodes {
		if n.Client && n.Node == name && !n.Since.IsZero() {
			since = append(since, n.Since)
		}
	}
	return since
}

// refusedFor tells whether a region says that it refused somebody for a reason.
func (u *clientFleet) refusedFor(region polder.RegionName, reason string) bool {
	s, err := u.status(region)
	if err != nil {
		return false
	}
	for _, r := range s.RefusedNodes {
		if strings.Contains(r.Reason, reason) {
			return true
		}
	}
	return false
}

// callOn calls without a pause until the result stops it, which tells how many calls
// there were, and what the first that failed said.
func (c *callee) callOn() (stop func() (int, error)) {
	type outcome struct {
		calls int
		err   error
	}
	stopped, done := make(chan struct{}), make(chan outcome, 1)
	go func() {
		var o outcome
		for ; o.err == nil; o.calls++ {
			select {
			case <-stopped:
				done <- o
				return
			case <-time.After(5 * time.Millisecond):
			}
			_, o.err = c.call()
		}
		done <- o
	}()
	return func() (int, error) {
		close(stopped)
		o := <-done
		return o.calls, o.err
	}
}
