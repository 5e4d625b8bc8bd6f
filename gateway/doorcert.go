package gateway

import (
	"crypto/tls"
	"net"
	"sync"
	"time"

	"github.com/polder/polder/gateway/authority"
)

// doorNames bounds how many names the door has certificates for at a time. There are
// seldom more than two: the address that is listened on, and a DNS name.
const doorNames = 16

// doorCertificates show the peer's identity with the name by which somebody looks for
// it: gRPC recognises its control plane by host, as browsers do, and by no SPIFFE
// ID. That any name is signed gives nobody anything: the keys stay here, those who
// trust this authority know that it signs, and all but gRPC's control plane look for
// SPIFFE IDs. Safe for concurrent use.
type doorCertificates struct {
	issue func(name string) (authority.Pair, error)

	mu    sync.Mutex
	pairs map[string]doorCertificate
}

type doorCertificate struct {
	tls   *tls.Certificate
	renew time.Time
}

// get gives the certificate for whoever sent a ClientHello: of the name in it, or of
// the address that it was sent to.
func (d *doorCertificates) get(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	name := hello.ServerName
	if name == "" {
		host, _, err := net.SplitHostPort(hello.Conn.LocalAddr().String())
		if err != nil {
			return nil, err
		}
		name = host
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if c, ok := d.pairs[name]; ok && time.Now().Before(c.renew) {
		return c.tls, nil
	}
	pair, err := d.issue(name)
	if err != nil {
		return nil, err
	}
	certificate, err := pair.TLS()
	if err != nil {
		return nil, err
	}
	if d.pairs == nil || len(d.pairs) >= doorNames {
		d.pairs = map[string]doorCertificate{}
	}
	d.pairs[name] = doorCertificate{&certificate, pair.RenewAt()}
	return &certificate, nil
}
