package gateway

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"golang.org/x/time/rate"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway/authority"
	"github.com/polder/polder/xds"
	"github.com/polder/polder/xds/server"
)

const (
	// doorHandshake bounds a remote Envoy's TLS handshake.
	doorHandshake = 10 * time.Second
	// doorRate and doorBurst bound how many connections are let in a second, so
	// that a thousand Envoys which come back at one moment leave the processor for
	// those that work. The others wait in the kernel's queue; nobody is refused.
	doorRate  = 200
	doorBurst = 50
	// doorHandshakes bounds the handshakes under way at a time.
	doorHandshakes = 64
)

// door lets the region's Envoys on other machines in, by mTLS: to the control
// plane, or, when they say so in ALPN, to the activator. Whoever shows no
// certificate of this installation's peers and nodes is not let in at all. Programs
// that call without an Envoy come to the same control plane's address, and have a
// door of their own behind it. Safe for concurrent use.
type door struct {
	// Fixed after construction.
	log      *slog.Logger
	region   polder.RegionName
	keys     *keyring
	guests   guests
	listed   func(name string) bool // the configuration names it; asked often
	refusals *refusals
	accepts  *rate.Limiter
	shown    func(*tls.ClientHelloInfo) (*tls.Certificate, error) // the door's own certificate
	clients  *door                                                // of clients without an Envoy, who come here as well; may be nil
	calls    bool                                                 // whoever comes to it by itself comes to call
	farewell time.Duration                                        // how long those who are no longer listed keep the control plane

	control, activator *inbox

	mu        sync.Mutex
	open      map[*doorConn]string // by name
	listener  net.Listener         // while it runs
	dismissed bool                 // nobody is let in to the control plane any more
}

// guests are one kind of those whom a door lets in.
type guests struct {
	what  string                                                               // in messages
	parse func(spiffeid.ID) (region polder.RegionName, name string, err error) // what a certificate names
	write string                                                               // format of what to write to list one, of the region and the name
}

var (
	nodeGuests   = guests{"node", authority.ParseNodeID, "regions.%[1]s.nodes.%[2]s"}
	clientGuests = guests{"client", authority.ParseClientID, "%[2]s into regions.%[1]s.clients"}
)

func newDoor(log *slog.Logger, region polder.RegionName, keys *keyring, kind guests, listed func(string) bool, refused *refusals, at net.Addr) *door {
	return &door{
		log: log, region: region, keys: keys, guests: kind, listed: listed, refusals: refused, accepts: rate.NewLimiter(doorRate, doorBurst),
		shown:   func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return keys.peerCertificate() },
		control: newInbox(at), activator: newInbox(at), open: map[*doorConn]string{},
	}
}

// run accepts until ctx ends, and closes the listener. It returns when every
// handshake has ended.
func (d *door) run(ctx context.Context, listener net.Listener) error {
	defer context.AfterFunc(ctx, func() { listener.Close() })()
	d.mu.Lock()
	d.listener = listener
	d.mu.Unlock()
	defer d.control.Close()
	defer d.activator.Close()
	var handshakes sync.WaitGroup
	defer handshakes.Wait()
	slots := make(chan struct{}, doorHandshakes)
	for {
		if d.accepts.Wait(ctx) != nil {
			return nil
		}
		conn, err := listener.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				conn.Close()
			}
			return nil
		case errors.Is(err, net.ErrClosed): // shut; who is inside stays
			<-ctx.Done()
			return nil
		case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE), errors.Is(err, syscall.ECONNABORTED):
			d.log.Warn("a connection from another machine is not accepted", "reason", err)
			continue
		case err != nil:
			return fmt.Errorf("accepting connections from other machines at %s: %w", listener.Addr(), err)
		}
		slots <- struct{}{}
		handshakes.Go(func() {
			defer func() { <-slots }()
			d.admit(ctx, conn)
		})
	}
}

// admit does the handshake and hands the connection to whom it is for.
func (d *door) admit(ctx context.Context, conn net.Conn) {
	bounded, cancel := context.WithTimeout(ctx, doorHandshake)
	defer cancel()
	inside := tls.Server(conn, d.config())
	if err := inside.HandshakeContext(bounded); err != nil {
		d.refusals.add(Refusal{From: conn.RemoteAddr().String(), Reason: "its certificate is not accepted: " + err.Error()})
		conn.Close()
		return
	}
	state := inside.ConnectionState()
	switch {
	case d.clients != nil && d.clients.guests.are(state):
		d.clients.enter(ctx, inside, d.clients.control)
	case d.calls || state.NegotiatedProtocol == xds.ActivatorProtocol:
		d.enter(ctx, inside, d.activator)
	default:
		d.enter(ctx, inside, d.control)
	}
}

// are tells whether a certificate is one of the kind's, whoever it names.
func (g guests) are(state tls.ConnectionState) bool {
	id, err := identityIn(state)
	if err != nil {
		return false
	}
	_, _, err = g.parse(id)
	return err == nil
}

// enter hands a connection over, if its owner may be here.
func (d *door) enter(ctx context.Context, inside *tls.Conn, to *inbox) {
	state := inside.ConnectionState()
	is, err := d.identify(state)
	switch {
	case to == d.control:
		// That it may not be here is told to it in words, once it speaks.
		tracked := d.track(inside, is.Node, d.farewell)
		if tracked == nil {
			inside.Close() // before gRPC says a word: then its client tries the next address
			return
		}
		tracked.endAt(state.PeerCertificates[0].NotAfter)
		to.put(ctx, tracked)
	case err != nil:
		d.refusals.add(Refusal{From: inside.RemoteAddr().String(), Certificate: certificateName(state), Reason: err.Error()})
		inside.Close()
	default:
		to.put(ctx, d.track(inside, is.Node, 0))
	}
}

// config demands a certificate that the peers' authority has signed, and shows
// the peer's own. Both are those of the moment, so that they can be renewed.
func (d *door) config() *tls.Config {
	protocols := []string{"h2", xds.ActivatorProtocol}
	if d.calls {
		protocols = protocols[:1]
	}
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		NextProtos:             protocols,
		ClientAuth:             tls.RequireAndVerifyClientCert,
		ClientCAs:              d.keys.trust(),
		GetCertificate:         d.shown,
		SessionTicketsDisabled: true, // a resumed session would outlive the list of nodes
	}
}

// identify tells who is at the other end, if it may be here.
func (d *door) identify(state tls.ConnectionState) (server.Identity, error) {
	id, err := identityIn(state)
	if err != nil {
		return server.Identity{}, fmt.Errorf("its certificate names no %s: %w", d.guests.what, err)
	}
	region, name, err := d.guests.parse(id)
	switch {
	case err != nil:
		return server.Identity{}, err
	case id.TrustDomain().Name() != d.keys.trustDomain():
		return server.Identity{}, fmt.Errorf("its certificate is of the trust domain %s; this is %s", id.TrustDomain(), d.keys.trustDomain())
	case region != d.region:
		return server.Identity{}, fmt.Errorf("its certificate is for region %s; this is region %s", region, d.region)
	case !d.listed(name):
		return server.Identity{}, fmt.Errorf("the configuration has no %s %q in region %s: write %s to let it in", d.guests.what, name, d.region,
			fmt.Sprintf(d.guests.write, d.region, name))
	}
	return server.Identity{Region: region, Node: name}, nil
}

// identityIn is the one SPIFFE ID in the certificate of the other end.
func identityIn(state tls.ConnectionState) (spiffeid.ID, error) {
	if len(state.PeerCertificates) == 0 || len(state.PeerCertificates[0].URIs) != 1 {
		return spiffeid.ID{}, errors.New("it has not exactly one URI")
	}
	return spiffeid.FromURI(state.PeerCertificates[0].URIs[0])
}

// sweep ends the connections of those who are no longer listed.
func (d *door) sweep() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for conn, name := range d.open {
		switch {
		case d.listed(name):
		case conn.farewell > 0:
			conn.endLocked(time.Now().Add(conn.farewell))
		default:
			go conn.Close() // may write a last alert
		}
	}
}

// dismiss ends the connections to the control plane, and lets no more of them in. It
// is for doors whose guests have a farewell: they go to another peer.
func (d *door) dismiss() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.dismissed = true
	for conn := range d.open {
		if conn.farewell > 0 {
			conn.endLocked(time.Now())
		}
	}
}

// shut listens no more. Who is inside stays.
func (d *door) shut() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.listener != nil {
		d.listener.Close()
	}
}

// track remembers a connection that is let in; nil for one that comes to the control
// plane after dismiss.
func (d *door) track(conn *tls.Conn, name string, farewell time.Duration) *doorConn {
	tracked := &doorConn{Conn: conn, tls: conn, door: d, farewell: farewell}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.dismissed && farewell > 0 {
		return nil
	}
	d.open[tracked] = name
	return tracked
}

// doorConn is a connection that came through the door. To its servers it looks
// like one in clear.
type doorConn struct {
	net.Conn
	tls      *tls.Conn // the same, as what it is
	door     *door
	farewell time.Duration // that it lasts when its owner is no longer listed
	ends     *time.Timer   // closes it; nil when nothing does. Guarded by door.mu
	endsAt   time.Time     // likewise
}

// endAt closes the connection at that time.
func (c *doorConn) endAt(when time.Time) {
	c.door.mu.Lock()
	defer c.door.mu.Unlock()
	c.endLocked(when)
}

// endLocked closes the connection at that time, unless it ends sooner anyway.
// Called with door.mu held.
func (c *doorConn) endLocked(when time.Time) {
	if c.ends != nil {
		if !when.Before(c.endsAt) {
			return
		}
		c.ends.Stop()
	}
	c.endsAt = when
	c.ends = time.AfterFunc(time.Until(when), func() { c.Close() })
}

// SyscallConn gives the socket, by which the activator sees callers leave.
func (c *doorConn) SyscallConn() (syscall.RawConn, error) {
	return c.tls.NetConn().(syscall.Conn).SyscallConn()
}

func (c *doorConn) Close() error {
	c.door.mu.Lock()
	delete(c.door.open, c)
	if c.ends != nil {
		c.ends.Stop()
	}
	c.door.mu.Unlock()
	return c.Conn.Close()
}

// certificateName is what a certificate calls its owner, for messages.
func certificateName(state tls.ConnectionState) string {
	switch {
	case len(state.PeerCertificates) == 0:
		return ""
	case len(state.PeerCertificates[0].URIs) == 0:
		return state.PeerCertificates[0].Subject.String()
	}
	return state.PeerCertificates[0].URIs[0].String()
}

// inbox is a listener whose connections come from elsewhere.
type inbox struct {
	at     net.Addr
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newInbox(at net.Addr) *inbox {
	return &inbox{at: at, conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (i *inbox) put(ctx context.Context, conn net.Conn) {
	select {
	case i.conns <- conn:
	case <-i.closed:
		conn.Close()
	case <-ctx.Done():
		conn.Close()
	}
}

func (i *inbox) Accept() (net.Conn, error) {
	select {
	case conn := <-i.conns:
		return conn, nil
	case <-i.closed:
		return nil, net.ErrClosed
	}
}

func (i *inbox) Close() error   { i.once.Do(func() { close(i.closed) }); return nil }
func (i *inbox) Addr() net.Addr { return i.at }

// trust are the authorities of peers and nodes.
func (k *keyring) trust() *x509.CertPool {
	k.mu.RLock()
	defer k.mu.RUnlock()
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(k.identity.TrustPEM)
	return pool
}

// peerCertificate is the peer's own.
func (k *keyring) peerCertificate() (*tls.Certificate, error) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	certificate, err := k.identity.TLS()
	return &certificate, err
}
