package authority

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/polder/polder"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

// DialConfig is the TLS configuration for connecting to another peer's listener:
// it shows the own certificate, and takes no other peer for the one that is meant.
func (i Identity) DialConfig(region polder.RegionName, peer string) (*tls.Config, error) {
	own, err := i.TLS()
	if err != nil {
		return nil, fmt.Errorf("identity of %s: %w", i.ID, err)
	}
	want, err := PeerID(i.ID.TrustDomain(), region, peer)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(i.TrustPEM)
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{own},
		// The name of a peer is no DNS name; VerifyConnection checks instead.
		InsecureSkipVerify: true,
		VerifyConnection: func(state tls.ConnectionState) error {
			if len(state.PeerCertificates) == 0 {
				return errors.New("the peer shows no certificate")
			}
			cert := state.PeerCertificates[0]
			if _, err := cert.Verify(x509.VerifyOptions{
				Roots: roots, CurrentTime: time.Now(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
			}); err != nil {
				return err
			}
			id, err := x509svid.IDFromCert(cert)
			if err == nil && id != want {
				err = fmt.Errorf("%s answers where %s is meant to", id, want)
			}
			return err
		},
	}, nil
}
