package authority

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	"github.com/polder/polder"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

// sealContext keeps a signature over a row from meaning anything elsewhere, such
// as in a TLS handshake, where the same key signs.
const sealContext = "polder row 1\x00"

// Sign signs a message of the peer to all others, and returns the certificate
// (DER) by which they know whose signature it is.
func (i Identity) Sign(message []byte) (certificate, signature []byte, err error) {
	block, _ := pem.Decode(i.KeyPEM)
	if block == nil || i.leaf == nil {
		return nil, nil, errors.New("the peer has no identity")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, nil, fmt.Errorf("key of %s: %w", i.ID, err)
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok {
		return nil, nil, fmt.Errorf("key of %s is of type %T; an ECDSA key is needed", i.ID, parsed)
	}
	signature, err = ecdsa.SignASN1(rand.Reader, key, sealed(message))
	return i.leaf.Raw, signature, err
}

// Verify tells which peer of which region signed a message, if the root that
// vouches for all peers vouches for its certificate now.
func (i Identity) Verify(certificate, signature, message []byte) (peer string, region polder.RegionName, err error) {
	cert, err := x509.ParseCertificate(certificate)
	if err != nil {
		return "", "", fmt.Errorf("certificate: %w", err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(i.TrustPEM)
	if _, err := cert.Verify(x509.VerifyOptions{
		Roots: roots, CurrentTime: time.Now(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}); err != nil {
		return "", "", fmt.Errorf("certificate: %w", err)
	}
	id, err := x509svid.IDFromCert(cert)
	if err != nil {
		return "", "", fmt.Errorf("certificate: %w", err)
	}
	if id.TrustDomain() != i.ID.TrustDomain() {
		return "", "", fmt.Errorf("certificate is of %s, which is not in trust domain %s", id, i.ID.TrustDomain())
	}
	key, ok := cert.PublicKey.(*ecdsa.PublicKey)
	if !ok || !ecdsa.VerifyASN1(key, sealed(message), signature) {
		return "", "", fmt.Errorf("signature is not that of %s", id)
	}
	return peerOf(id)
}

func peerOf(id spiffeid.ID) (string, polder.RegionName, error) {
	region, peer, err := ParsePeerID(id)
	return peer, region, err
}

func sealed(message []byte) []byte {
	sum := sha256.Sum256(append([]byte(sealContext), message...))
	return sum[:]
}
