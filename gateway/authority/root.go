package authority

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"time"
)

// root is a self-signed certificate with its key.
type root struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// rootSpec is what distinguishes one root from another.
type rootSpec struct {
	file    string // names the files: FILE.pem and FILE-key.pem
	subject string
	usages  []x509.ExtKeyUsage
	id      *url.URL // SPIFFE ID of the trust domain; nil for a root of hosts
}

func (r *root) pem() []byte { return encodePEM("CERTIFICATE", r.cert.Raw) }

// due tells whether the root's certificate must be renewed.
func (r *root) due(now time.Time) bool { return !now.Before(r.cert.NotAfter.Add(-rootMargin)) }

// loadRoot reads a root from dir. It creates the root when neither of its files
// is there, and signs a new certificate with the old key when the certificate
// is gone or due. The caller holds the folder's lock.
func loadRoot(dir string, spec rootSpec, now time.Time) (*root, error) {
	certFile := filepath.Join(dir, spec.file+".pem")
	keyFile := filepath.Join(dir, spec.file+"-key.pem")
	cert, errCert := readCertificate(certFile)
	key, errKey := readKey(keyFile)
	certMissing, keyMissing := errors.Is(errCert, fs.ErrNotExist), errors.Is(errKey, fs.ErrNotExist)
	switch {
	case errCert != nil && !certMissing:
		return nil, errCert
	case errKey != nil && !keyMissing:
		return nil, errKey
	case keyMissing && !certMissing:
		return nil, fmt.Errorf("%s is there without its key %s: restore the key, or remove the certificate to start a new authority, which clients must trust anew", certFile, keyFile)
	case keyMissing:
		var err error
		if key, err = newKey(keyFile); err != nil {
			return nil, err
		}
	case !certMissing:
		if !key.PublicKey.Equal(cert.PublicKey) {
			return nil, fmt.Errorf("%s and %s do not belong together: restore the pair, or remove both to start a new authority, which clients must trust anew", certFile, keyFile)
		}
		if r := (&root{cert: cert, key: key}); !r.due(now) {
			return r, nil
		}
	}
	return signRoot(certFile, spec, key, now)
}

// signRoot writes a new certificate for the key. Its name follows from the key,
// so a renewed root takes its predecessor's place in every chain.
func signRoot(file string, spec rootSpec, key *ecdsa.PrivateKey, now time.Time) (*root, error) {
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	print := sha256.Sum256(public)
	template := &x509.Certificate{
		Subject:               pkix.Name{Organization: []string{"Polder"}, CommonName: fmt.Sprintf("%s %x", spec.subject, print[:4])},
		NotBefore:             now.Add(-clockSkew),
		NotAfter:              now.Add(rootLife),
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		ExtKeyUsage:           spec.usages,
	}
	if spec.id != nil {
		template.URIs = []*url.URL{spec.id}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, fmt.Errorf("sign %s: %w", file, err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("sign %s: %w", file, err)
	}
	r := &root{cert: cert, key: key}
	return r, writeFile(file, r.pem(), 0o644)
}

// issue signs the template for a new key. The caller gives names and usages.
func (r *root) issue(template *x509.Certificate, life time.Duration, now time.Time) (Pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Pair{}, err
	}
	template.Subject = pkix.Name{Organization: []string{"Polder"}}
	template.NotBefore = now.Add(-clockSkew)
	template.NotAfter = now.Add(life)
	template.BasicConstraintsValid = true
	template.KeyUsage = x509.KeyUsageDigitalSignature
	der, err := x509.CreateCertificate(rand.Reader, template, r.cert, &key.PublicKey, r.key)
	if err != nil {
		return Pair{}, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return Pair{}, err
	}
	return newPair(encodePEM("CERTIFICATE", der), encodePEM("PRIVATE KEY", private))
}

// newKey creates a key in a new file.
func newKey(file string) (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("create %s: %w", file, err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("create %s: %w", file, err)
	}
	return key, writeFile(file, encodePEM("PRIVATE KEY", der), 0o600)
}

// readKey reads an ECDSA key that its owner alone can read.
func readKey(file string) (*ecdsa.PrivateKey, error) {
	text, err := readSecret(file)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("%s holds no PEM block: restore it from a backup", file)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: restore it from a backup", file, err)
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%s holds a key of type %T; an ECDSA key is needed", file, parsed)
	}
	return key, nil
}

func readCertificate(file string) (*x509.Certificate, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("%s holds no PEM block: restore it from a backup", file)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: restore it from a backup", file, err)
	}
	return cert, nil
}

func encodePEM(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}
