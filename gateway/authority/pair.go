package authority

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/polder/polder"
)

// Pair is a certificate with its key, as Envoy and crypto/tls take them. It
// shows itself in logs and messages without the key.
type Pair struct {
	CertPEM   []byte // the certificate first, then intermediates
	KeyPEM    []byte // secret
	NotBefore time.Time
	NotAfter  time.Time

	leaf *x509.Certificate
}

// LoadPair reads a certificate and its key from files, as production brings
// them along: the certificate first in its file, its intermediates behind it.
// A key that does not belong to the certificate is an error; whether the
// certificate is valid, and for which hosts, is what Check tells.
func LoadPair(certFile, keyFile string) (Pair, error) {
	cert, errCert := os.ReadFile(certFile)
	key, errKey := os.ReadFile(keyFile)
	if err := errors.Join(errCert, errKey); err != nil {
		return Pair{}, fmt.Errorf("load a certificate: %w", err)
	}
	pair, err := newPair(cert, key)
	if err != nil {
		return Pair{}, fmt.Errorf("load certificate %s with key %s: %w", certFile, keyFile, err)
	}
	return pair, nil
}

func newPair(cert, key []byte) (Pair, error) {
	both, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return Pair{}, err
	}
	return Pair{CertPEM: cert, KeyPEM: key, NotBefore: both.Leaf.NotBefore, NotAfter: both.Leaf.NotAfter, leaf: both.Leaf}, nil
}

// RenewAt is when to ask for a new certificate: after two thirds of its life.
func (p Pair) RenewAt() time.Time {
	return p.NotBefore.Add(p.NotAfter.Sub(p.NotBefore) * 2 / 3)
}

// Check tells what keeps the pair from serving all these hosts at the given
// time: a host that it does not name, or its dates. A wildcard host is served
// only by a certificate that names the wildcard itself.
func (p Pair) Check(hosts []polder.Host, now time.Time) error {
	if p.leaf == nil {
		return errors.New("no certificate")
	}
	var faults []error
	for _, host := range hosts {
		if err := p.leaf.VerifyHostname(string(host)); err != nil {
			faults = append(faults, fmt.Errorf("certificate does not name host %s: it names %v", host, p.leaf.DNSNames))
		}
	}
	if now.Before(p.NotBefore) {
		faults = append(faults, fmt.Errorf("certificate is not valid before %s", p.NotBefore.Format(time.RFC3339)))
	}
	if now.After(p.NotAfter) {
		faults = append(faults, fmt.Errorf("certificate expired at %s: renew it", p.NotAfter.Format(time.RFC3339)))
	}
	return errors.Join(faults...)
}

// TLS returns the pair as crypto/tls takes it.
func (p Pair) TLS() (tls.Certificate, error) { return tls.X509KeyPair(p.CertPEM, p.KeyPEM) }

// String names the pair without its key.
func (p Pair) String() string {
	if p.leaf == nil {
		return "no certificate"
	}
	names := p.leaf.DNSNames
	for _, uri := range p.leaf.URIs {
		names = append(names[:len(names):len(names)], uri.String())
	}
	return fmt.Sprintf("certificate %x for %v until %s", p.leaf.SerialNumber, names, p.NotAfter.Format(time.RFC3339))
}

// Format is String for every verb, so that no message of package fmt holds the key.
func (p Pair) Format(out fmt.State, _ rune) { io.WriteString(out, p.String()) }

// MarshalText is String, so that no JSON holds the key.
func (p Pair) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// LogValue is String, so that no log holds the key.
func (p Pair) LogValue() slog.Value { return slog.StringValue(p.String()) }
