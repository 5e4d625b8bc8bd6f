package authority

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"time"
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
