package gateway

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway/authority"
	"github.com/polder/polder/internal/faketime"
	"github.com/polder/polder/xds"
	"github.com/polder/polder/xds/server"
)

// doorRig is a door of region fr with a control plane behind it that has one
// listener, and knows the node fr-2.
type doorRig struct {
	t        *testing.T
	dir      string // of the authority
	ca       *authority.Authority
	issuer   *authority.Issuer
	keys     *keyring
	door     *door
	server   *server.Server
	refusals *refusals
	address  string
	delisted atomic.Bool
}

func newDoorRig(t *testing.T) *doorRig {
	t.Helper()
	return newDoorRigWith(t, 0)
}

// newDoorRigWith is one whose guests have a farewell.
func newDoorRigWith(t *testing.T, farewell time.Duration) *doorRig {
	t.Helper()
	dir := t.TempDir()
	ca, err := authority.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	r := &doorRig{t: t, dir: dir, ca: ca, refusals: &refusals{log: slog.New(slog.DiscardHandler)}}
	r.issuer = r.issuerOf("fr")
	identity, err := r.issuer.Peer("fr-1")
	if err != nil {
		t.Fatal(err)
	}
	r.keys = newKeyring(r.issuer)
	r.keys.setIdentity(identity)
	r.server = server.New(server.Options{Log: slog.New(slog.DiscardHandler)})
	r.server.Apply(r.listener(443), nil)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.address = listener.Addr().String()
	listed := func(node string) bool { return node == "fr-2" && !r.delisted.Load() }
	r.door = newDoor(slog.New(slog.DiscardHandler), "fr", r.keys, nodeGuests, listed, r.refusals, listener.Addr())
	r.door.farewell = farewell
	control := grpc.NewServer(r.door.guard()...)
	r.server.Register(control)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 2)
	go func() { ended <- r.door.run(ctx, listener) }()
	go func() { ended <- control.Serve(r.door.control) }()
	t.Cleanup(func() {
		control.Stop()
		cancel()
		for range 2 {
			if err := <-ended; err != nil && !errors.Is(err, net.ErrClosed) {
				t.Error(err)
			}
		}
	})
	return r
}

func (r *doorRig) issuerOf(region polder.RegionName) *authority.Issuer {
	r.t.Helper()
	issuer, err := r.ca.Issuer(region, filepath.Join(r.t.TempDir(), "certificates"))
	if err != nil {
		r.t.Fatal(err)
	}
	return issuer
}

func (r *doorRig) listener(port uint16) []xds.Resource {
	return xds.Node(nil, xds.NodeConfig{Region: "fr", HTTPS: netip.AddrPortFrom(netip.IPv6Unspecified(), port)})[:1]
}

// connect opens a stream as whoever has the certificate, calls itself node of a
// region, and asks for all listeners.
func (r *doorRig) connect(certificate tls.Certificate, node, region string) (discovery.AggregatedDiscoveryService_DeltaAggregatedResourcesClient, error) {
	r.t.Helper()
	config := &tls.Config{
		InsecureSkipVerify: true, // who Polder is, is Envoy's to verify
		// Shown even where nobody asked for one of its authority.
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &certificate, nil },
	}
	conn, err := grpc.NewClient(r.address, grpc.WithTransportCredentials(credentials.NewTLS(config)))
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { conn.Close() })
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	r.t.Cleanup(cancel)
	stream, err := discovery.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
	if err != nil {
		return nil, err
	}
	err = stream.Send(&discovery.DeltaDiscoveryRequest{TypeUrl: xds.TypeListener,
		Node: &core.Node{Id: node, Locality: &core.Locality{Region: region}}})
	if errors.Is(err, io.EOF) {
		err = nil // Recv says why
	}
	return stream, err
}

func (r *doorRig) node(issuer *authority.Issuer, name string) tls.Certificate {
	r.t.Helper()
	identity, err := issuer.Node(name)
	if err != nil {
		r.t.Fatal(err)
	}
	certificate, err := identity.TLS()
	if err != nil {
		r.t.Fatal(err)
	}
	return certificate
}

// signed makes a certificate of the peers' authority by hand, as it was or will be.
func (r *doorRig) signed(id string, from, to time.Time) tls.Certificate {
	r.t.Helper()
	rootPEM, errRoot := os.ReadFile(filepath.Join(r.dir, "peers.pem"))
	keyPEM, errKey := os.ReadFile(filepath.Join(r.dir, "peers-key.pem"))
	if err := errors.Join(errRoot, errKey); err != nil {
		r.t.Fatal(err)
	}
	root, err := tls.X509KeyPair(rootPEM, keyPEM)
	if err != nil {
		r.t.Fatal(err)
	}
	uri, err := url.Parse(id)
	if err != nil {
		r.t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		r.t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(7), NotBefore: from, NotAfter: to, URIs: []*url.URL{uri},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, root.Leaf, key.Public(), root.PrivateKey)
	if err != nil {
		r.t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// TestForgedIdentitiesGetNothing tries to be a node of the region in every way
// that is not true. Each gets an error and no resource, and is remembered.
func TestForgedIdentitiesGetNothing(t *testing.T) {
	r := newDoorRig(t)
	foreign := newDoorRig(t)
	now := time.Now()
	peer, err := r.issuer.Peer("fr-1")
	if err != nil {
		t.Fatal(err)
	}
	asPeer, err := peer.TLS()
	if err != nil {
		t.Fatal(err)
	}
	const fr2 = "spiffe://polder.internal/region/fr/node/fr-2"
	good := r.node(r.issuer, "fr-2")
	for _, c := range []struct {
		name         string
		certificate  tls.Certificate
		node, region string
		reason       string
	}{
		{"another node's name", good, "fr-3", "fr", `says that it is node "fr-3" of region "fr"; its certificate is for node "fr-2"`},
		{"another region", good, "fr-2", "nl", `of region "nl"; its certificate is for node "fr-2" of region "fr"`},
		{"no name", good, "", "", "says that it is node"},
		{"a node of another region", r.node(r.issuerOf("nl"), "fr-2"), "fr-2", "fr", "its certificate is for region nl; this is region fr"},
		{"a node that is not listed", r.node(r.issuer, "fr-9"), "fr-9", "fr", "write regions.fr.nodes.fr-9"},
		{"a peer", asPeer, "fr-1", "fr", "is no node's identity"},
		{"another trust domain", r.signed("spiffe://other.example/region/fr/node/fr-2", now.Add(-time.Hour), now.Add(time.Hour)), "fr-2", "fr", "trust domain other.example"},
		{"an expired certificate", r.signed(fr2, now.Add(-2*time.Hour), now.Add(-time.Hour)), "fr-2", "fr", "expired"},
		{"a certificate of the future", r.signed(fr2, now.Add(time.Hour), now.Add(2*time.Hour)), "fr-2", "fr", "not yet valid"},
		{"a foreign authority", foreign.node(foreign.issuer, "fr-2"), "fr-2", "fr", "unknown authority"},
		{"no certificate", tls.Certificate{}, "fr-2", "fr", "didn't provide a certificate"},
	} {
		t.Run(c.name, func(t *testing.T) {
			stream, err := r.connect(c.certificate, c.node, c.region)
			if err == nil {
				var response *discovery.DeltaDiscoveryResponse
				if response, err = stream.Recv(); err == nil {
					t.Fatalf("got %d resources", len(response.Resources))
				}
			}
			if code := status.Code(err); code != codes.PermissionDenied && code != codes.Unavailable {
				t.Errorf("got %v", err)
			}
			eventually(t, "the refusal is remembered", func() bool {
				return slices.ContainsFunc(r.refusals.all(), func(x Refusal) bool { return strings.Contains(x.Reason, c.reason) })
			})
		})
	}
	if len(r.server.Nodes()) > 0 {
		t.Errorf("the control plane knows nodes: %+v", r.server.Nodes())
	}
	stream, err := r.connect(good, "fr-2", "fr")
	if err != nil {
		t.Fatal(err)
	}
	if response, err := stream.Recv(); err != nil || len(response.Resources) != 1 {
		t.Errorf("the true fr-2 gets %v %v", response, err)
	}
}

// TestIdentityIsRenewedUnderAnOpenStream renews the peer's own certificate: the
// stream lives, and whoever connects after it is shown the new one.
func TestIdentityIsRenewedUnderAnOpenStream(t *testing.T) {
	r := newDoorRig(t)
	good := r.node(r.issuer, "fr-2")
	stream, err := r.connect(good, "fr-2", "fr")
	if err != nil {
		t.Fatal(err)
	}
	response, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	shown := func() string {
		conn, err := tls.Dial("tcp", r.address, &tls.Config{Certificates: []tls.Certificate{good}, InsecureSkipVerify: true, NextProtos: []string{"h2"}})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].SerialNumber.String()
	}
	before := shown()
	renewed, err := r.issuerOf("fr").Peer("fr-1") // from an empty folder, so it is made anew
	if err != nil {
		t.Fatal(err)
	}
	r.keys.setIdentity(renewed)
	if shown() == before {
		t.Error("a new connection is shown the old certificate")
	}
	if err := stream.Send(&discovery.DeltaDiscoveryRequest{TypeUrl: xds.TypeListener, ResponseNonce: response.Nonce}); err != nil {
		t.Fatal(err)
	}
	r.server.Apply(r.listener(8443), nil)
	if response, err := stream.Recv(); err != nil || len(response.Resources) != 1 {
		t.Errorf("the stream from before gets %v %v, want the change", response, err)
	}
}

// TestANodeThatIsNoLongerListedIsCutOff ends the stream of a node that leaves
// the configuration.
func TestANodeThatIsNoLongerListedIsCutOff(t *testing.T) {
	r := newDoorRig(t)
	stream, err := r.connect(r.node(r.issuer, "fr-2"), "fr-2", "fr")
	if err != nil {
		t.Fatal(err)
	}
	response, err := stream.Recv()
	if err == nil {
		err = stream.Send(&discovery.DeltaDiscoveryRequest{TypeUrl: xds.TypeListener, ResponseNonce: response.Nonce})
	}
	if err != nil {
		t.Fatal(err)
	}
	r.door.sweep() // cuts nobody who is listed
	r.server.Apply(r.listener(8443), nil)
	if _, err := stream.Recv(); err != nil {
		t.Fatalf("while it is listed: %v", err)
	}
	r.delisted.Store(true)
	r.door.sweep()
	if response, err := stream.Recv(); err == nil {
		t.Errorf("it still gets %v", response)
	}
}

// TestACertificateThatEndsEndsItsStream lets a stream live as long as the
// certificate that opened it.
func TestACertificateThatEndsEndsItsStream(t *testing.T) {
	r := newDoorRig(t)
	now := time.Now()
	short := r.signed("spiffe://polder.internal/region/fr/node/fr-2", now.Add(-time.Hour), now.Add(3*time.Second))
	stream, err := r.connect(short, "fr-2", "fr")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	if response, err := stream.Recv(); err == nil {
		t.Errorf("after its certificate's end it gets %v", response)
	}
}

// TestWhoIsDismissedIsNotLetInAgain ends a stream by sending its guest away, and lets
// the guest in no more: the address can be connected to until the door is shut.
func TestWhoIsDismissedIsNotLetInAgain(t *testing.T) {
	r := newDoorRigWith(t, clientFarewell)
	certificate := r.node(r.issuer, "fr-2")
	stream, err := r.connect(certificate, "fr-2", "fr")
	if err == nil {
		_, err = stream.Recv()
	}
	if err != nil {
		t.Fatal(err)
	}
	r.door.dismiss()
	if response, err := stream.Recv(); err == nil {
		t.Errorf("after it was sent away it gets %v", response)
	}
	again, err := r.connect(certificate, "fr-2", "fr")
	if err == nil {
		_, err = again.Recv()
	}
	if status.Code(err) != codes.Unavailable {
		t.Errorf("it came again: %v; want no connection", err)
	}
	conn, err := net.Dial("tcp", r.address)
	if err != nil {
		t.Fatalf("before the door is shut: %v", err)
	}
	conn.Close()
	r.door.shut()
	if conn, err := net.Dial("tcp", r.address); err == nil {
		conn.Close()
		t.Error("a door that is shut takes a connection")
	}
}

// TestControlPlaneEndsWithItsDoor: a region that stops closes the door and ends the
// control plane behind it, in any order, and neither is a fault.
func TestControlPlaneEndsWithItsDoor(t *testing.T) {
	r := &Region{options: Options{Log: slog.New(slog.DiscardHandler)}}
	for range 100 {
		behind := newInbox(&net.TCPAddr{})
		ctx, cancel := context.WithCancel(t.Context())
		for range 1000 { // so that it takes a while until all have been told
			context.AfterFunc(ctx, func() {})
		}
		ended := make(chan error, 1)
		go func() { ended <- r.serveControl(ctx, behind, func(grpc.ServiceRegistrar) {}) }()
		go func() {
			<-ctx.Done()
			behind.Close()
		}()
		cancel()
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
	}
}

// crowdAtTheDoor is a listener at which everybody has come at once.
type crowdAtTheDoor struct {
	inbox
	accepted atomic.Int64
}

func (c *crowdAtTheDoor) Accept() (net.Conn, error) {
	select {
	case <-c.closed:
		return nil, net.ErrClosed
	default:
	}
	c.accepted.Add(1)
	ours, theirs := net.Pipe()
	theirs.Close()
	return ours, nil
}

// TestACrowdIsLetInAtABoundedRate lets everybody connect at one moment, as
// after a restart of Polder: they are let in one after the other.
func TestACrowdIsLetInAtABoundedRate(t *testing.T) {
	r := newDoorRig(t)
	faketime.Test(t, func(t *testing.T) {
		crowd := &crowdAtTheDoor{inbox: inbox{closed: make(chan struct{})}}
		d := newDoor(slog.New(slog.DiscardHandler), "fr", r.keys, nodeGuests, func(string) bool { return true }, &refusals{log: slog.New(slog.DiscardHandler)}, nil)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- d.run(ctx, crowd) }()
		synctest.Wait()
		if n := crowd.accepted.Load(); n != doorBurst {
			t.Errorf("%d are let in at once, want %d", n, doorBurst)
		}
		for second := int64(1); second <= 3; second++ {
			<-time.After(time.Second)
			synctest.Wait()
			if n := crowd.accepted.Load(); n < doorRate*second || n > doorBurst+doorRate*second+1 {
				t.Errorf("%d are let in after %d s, want %d more each second", n, second, doorRate)
			}
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
