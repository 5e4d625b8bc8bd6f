package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	xdscredentials "google.golang.org/grpc/credentials/xds"
	healthgrpc "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	grpcxds "google.golang.org/grpc/xds"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway"
)

// clientFleet is a fleet with gRPC programs that call without an Envoy: grpc-go's own
// xDS client, in this process.
type clientFleet struct {
	*fleetUnderTest
	ctx context.Context
	at  map[string]string // the regions' addresses, as in the configuration
}

func newClientFleet(t *testing.T) *clientFleet {
	t.Helper()
	return newClientFleetOf(t, "testdata/clients.yaml")
}

func newClientFleetOf(t *testing.T, config string) *clientFleet {
	t.Helper()
	u := clientFleetAt(t, config)
	u.start()
	return u
}

// clientFleetAt is one that does not run yet.
func clientFleetAt(t *testing.T, config string) *clientFleet {
	t.Helper()
	u := &clientFleet{fleetUnderTest: newFleet(t, config), at: map[string]string{}}
	text, err := os.ReadFile(u.config)
	if err != nil {
		t.Fatal(err)
	}
	var pairs []string
	for _, name := range []string{"FR_XDS", "FR_CLIENTS", "NL_XDS", "NL_CLIENTS"} {
		for u.at[name] == "" || slices.Contains(pairs, u.at[name]) {
			u.at[name] = freePort(t)
		}
		pairs = append(pairs, name, u.at[name])
	}
	u.write(strings.NewReplacer(pairs...).Replace(string(text)))
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	u.ctx = ctx
	return u
}

// bootstrap has polder write what a client starts with, and gives the folder.
func (u *clientFleet) bootstrap(region, name string) string {
	u.t.Helper()
	out := filepath.Join(filepath.Dir(u.config), "client-"+name)
	if code, _, errs := run(u.t, "client", "bootstrap", "--region", region, "--config", u.config, "--state", u.state, "--out", out, name); code != 0 {
		u.t.Fatalf("client bootstrap: exit %d: %s", code, errs)
	}
	return out
}

// program is one client as grpc-go runs it.
type program struct {
	u       *clientFleet
	options []grpc.DialOption
}

// program starts with a bootstrap, changed by pairs of what is replaced by what.
func (u *clientFleet) program(folder string, changes ...string) *program {
	u.t.Helper()
	text, err := os.ReadFile(filepath.Join(folder, "bootstrap.json"))
	if err != nil {
		u.t.Fatal(err)
	}
	resolver, err := grpcxds.NewXDSResolverWithConfigForTesting([]byte(strings.NewReplacer(changes...).Replace(string(text))))
	if err != nil {
		u.t.Fatal(err)
	}
	secured, err := xdscredentials.NewClientCredentials(xdscredentials.ClientOptions{FallbackCreds: insecure.NewCredentials()})
	if err != nil {
		u.t.Fatal(err)
	}
	return &program{u, []grpc.DialOption{grpc.WithResolvers(resolver), grpc.WithTransportCredentials(secured)}}
}

// service is a service's client, by xDS.
func (p *program) service(name string) *callee {
	p.u.t.Helper()
	return &callee{p.u, name, healthgrpc.NewHealthClient(p.dial(name))}
}

// dial resolves a service by xDS, once it is called.
func (p *program) dial(name string) *grpc.ClientConn {
	p.u.t.Helper()
	conn, err := grpc.NewClient("xds:///"+name+".example.com", p.options...)
	if err != nil {
		p.u.t.Fatal(err)
	}
	p.u.t.Cleanup(func() { conn.Close() })
	return conn
}

// callee is a service that somebody calls.
type callee struct {
	u    *clientFleet
	name string
	rpc  healthgrpc.HealthClient
}

// call makes one call, which only an instance of the service answers well, and tells
// the address that answered.
func (c *callee) call() (from string, err error) {
	ctx, cancel := context.WithTimeout(c.u.ctx, patience)
	defer cancel()
	// By this, an Envoy is told to send a call again; this client would not.
	ctx = metadata.AppendToOutgoingContext(ctx, "x-request-id", rand.Text())
	other := new(peer.Peer)
	answer, err := c.rpc.Check(ctx, &healthgrpc.HealthCheckRequest{Service: c.name}, grpc.Peer(other))
	if err == nil && answer.Status != healthgrpc.HealthCheckResponse_SERVING {
		err = status.Errorf(codes.DataLoss, "the answer is %v", answer.Status)
	}
	if err != nil {
		return "", err
	}
	return other.Addr.String(), nil
}

// must makes a call that may not fail.
func (c *callee) must() string {
	c.u.t.Helper()
	from, err := c.call()
	if err != nil {
		c.u.t.Fatalf("calling %s: %v", c.name, err)
	}
	return from
}

// straight calls until an instance of the region answers by itself. No call may fail.
func (c *callee) straight(region polder.RegionName) string {
	c.u.t.Helper()
	instance := ""
	eventually(c.u.t, "calls for "+c.name+" go straight to an instance in "+string(region), func() bool {
		instance = c.must()
		return slices.ContainsFunc(c.u.service(region, polder.ServiceName(c.name)).Instances, // it may sleep again
			func(i gateway.InstanceStatus) bool { return i.Address == instance })
	})
	return instance
}

// watch opens a stream with nothing more on it than that it has begun, and tells the
// address where it is.
func (c *callee) watch() (at string, leave func()) {
	c.u.t.Helper()
	ctx, leave := context.WithCancel(c.u.ctx)
	if other, ok := peer.FromContext(c.begin(ctx).Context()); ok {
		at = other.Addr.String()
	}
	return at, leave
}

// watchEnd opens such a stream, and gives why it ends, if it does before the test.
func (c *callee) watchEnd() (ended <-chan error) {
	c.u.t.Helper()
	stream, end := c.begin(c.u.ctx), make(chan error, 1)
	go func() {
		_, err := stream.Recv() // what it says next is its end
		end <- err
	}()
	return end
}

// begin opens a stream, and returns when it has begun.
func (c *callee) begin(ctx context.Context) healthgrpc.Health_WatchClient {
	c.u.t.Helper()
	stream, err := c.rpc.Watch(ctx, &healthgrpc.HealthCheckRequest{Service: c.name})
	if err == nil {
		_, err = stream.Recv()
	}
	if err != nil {
		c.u.t.Fatalf("a stream of %s: %v", c.name, err)
	}
	return stream
}

// refused makes calls until one finds nobody, and fails the test if none does, or one
// is answered after that. Any goroutine may call it.
func (c *callee) refused(why string) {
	deadline := time.Now().Add(patience)
	for {
		from, err := c.call()
		if status.Code(err) == codes.Unavailable {
			break
		}
		if time.Now().After(deadline) {
			c.u.t.Errorf("%s: answered from %s, %v", why, from, err)
			return
		}
	}
	if from, err := c.call(); status.Code(err) != codes.Unavailable {
		c.u.t.Errorf("%s: answered from %s, %v", why, from, err)
	}
}

// ready counts the ready instances of a service in a region.
func (u *clientFleet) ready(region polder.RegionName, name polder.ServiceName) (n int) {
	u.t.Helper()
	for _, i := range u.service(region, name).Instances {
		if i.State == polder.Ready {
			n++
		}
	}
	return n
}

// TestClients has gRPC programs call the services of running regions without an Envoy.
//
//  1. polder client bootstrap writes what they start with, for their owner only.
//  2. The first call starts the service, through the activator; later ones go straight
//     to the instance, and the load reports tell of them.
//  3. A program in nl gets nothing of a service that is pinned to fr, and the other way
//     round; and nothing of one that speaks no HTTP/2.
//  4. An identity of another region, and one that calls itself something else, get
//     nothing.
//  5. A program that leaves the configuration is cut off, and another lives on.
func TestClients(t *testing.T) {
	u := newClientFleet(t)
	folder := u.bootstrap("fr", "checkout")
	for _, name := range []string{"bootstrap.json", "identity.pem", "trust.pem"} {
		if info, err := os.Stat(filepath.Join(folder, name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Fatalf("%s: %v %v; want a file of mode 0600", name, info, err)
		}
	}
	checkout := u.program(folder)
	billing := checkout.service("billing")
	if from := billing.must(); from != u.at["FR_CLIENTS"] {
		t.Errorf("the first call was answered by %s, want the activator at %s", from, u.at["FR_CLIENTS"])
	}
	billing.straight("fr")
	eventually(t, "the load reports tell of calls that went straight to the instance", func() bool {
		billing.must()
		return u.service("fr", "billing").Totals.Direct > 0
	})
	eventually(t, "status lists the client", func() bool {
		_, text, _ := run(t, "status", "--state", u.state)
		return strings.Contains(text, "checkout") && strings.Contains(text, "without an Envoy")
	})
	checkout.service("catalog").straight("fr")

	branch := u.program(u.bootstrap("nl", "branch"))
	branch.service("catalog").straight("nl")
	branch.service("dutch").straight("nl")
	astray := u.program(filepath.Join(filepath.Dir(u.config), "client-branch"), u.at["NL_XDS"], u.at["FR_XDS"])
	disguised := u.program(folder, `"checkout"`, `"reports"`)
	var none sync.WaitGroup // gRPC waits for 15 s before it takes silence for an answer
	for _, c := range []struct {
		callee *callee
		why    string
	}{
		{branch.service("billing"), "a client in nl has nobody for a service that is pinned to fr"},
		{checkout.service("dutch"), "a client in fr has nobody for a service that is pinned to nl"},
		{checkout.service("old"), "a client has nobody for a service that speaks no HTTP/2"},
		{astray.service("catalog"), "a client of nl gets nothing from fr"},
		{disguised.service("catalog"), "a client that calls itself another gets nothing"},
	} {
		none.Go(func() { c.callee.refused(c.why) })
	}
	none.Wait()
	for _, reason := range []string{"this is region fr", "its certificate is for node"} {
		eventually(t, "status of fr tells who was refused: "+reason, func() bool { return u.refusedFor("fr", reason) })
	}

	reports := u.program(u.bootstrap("fr", "reports"))
	reports.service("billing").must()
	text, err := os.ReadFile(u.config)
	if err != nil {
		t.Fatal(err)
	}
	u.write(strings.Replace(string(text), "clients: [checkout, reports]", "clients: [reports]", 1))
	billing.refused("a client that is no longer listed calls nobody")
	checkout.service("catalog").refused("nor does it find another service")
	reports.service("billing").must()
	eventually(t, "status says what to write to let it in", func() bool {
		_, text, _ := run(t, "status", "--state", u.state)
		return strings.Contains(text, "write checkout into regions.fr.clients")
	})
}

// TestClientsKeepAwake holds that an instance which only clients without an Envoy use
// is not put to sleep, that it is when they are done, and that no call fails however
// close to that it comes.
func TestClientsKeepAwake(t *testing.T) {
	u := newClientFleet(t)
	checkout := u.program(u.bootstrap("fr", "checkout"))
	idle := checkout.service("catalog")
	awhile := func() { // another service with the same patience falls asleep, more than once
		for range 2 {
			idle.must()
			eventually(t, "a service that nobody uses sleeps", func() bool { return u.ready("fr", "catalog") == 0 })
		}
	}
	for _, name := range []string{"billing", "inherits"} {
		service := checkout.service(name)
		instance, leave := "", func() {}
		eventually(t, "a stream of "+name+" is at its instance", func() bool { // which may have fallen asleep since it was called
			instance = service.straight("fr")
			at := ""
			at, leave = service.watch()
			if at != instance {
				leave()
			}
			return at == instance
		})
		awhile()
		if u.ready("fr", polder.ServiceName(name)) != 1 {
			t.Errorf("%s was put to sleep under an open stream", name)
		}
		if from := service.must(); from != instance {
			t.Errorf("%s is at %s now, and was at %s", name, from, instance)
		}
		leave()
		eventually(t, name+" sleeps once its callers are done", func() bool { return u.ready("fr", polder.ServiceName(name)) == 0 })
		starts := u.service("fr", polder.ServiceName(name)).Totals.Starts
		awhile()
		if again := u.service("fr", polder.ServiceName(name)).Totals.Starts; again != starts {
			t.Errorf("%s was woken %d times by clients that only know of it", name, again-starts)
		}
	}
	billing := checkout.service("billing")
	for pause := time.Second; pause < 4*time.Second; pause += 250 * time.Millisecond {
		billing.must()
		<-time.After(pause) // calls come at any distance from the moment at which it falls asleep
	}
	if totals := u.service("fr", "billing").Totals; totals.Starts < 2 {
		t.Errorf("billing was started %d times; the calls were to come while it fell asleep", totals.Starts)
	}
}

// TestClientsAtTheActivator holds who is let in there, and that it goes by the host
// that is called and by nothing else that a caller says.
func TestClientsAtTheActivator(t *testing.T) {
	u := newClientFleet(t)
	folder := u.bootstrap("fr", "checkout")
	dial := func(config *tls.Config, host string) healthgrpc.HealthClient {
		conn, err := grpc.NewClient(u.at["FR_CLIENTS"], grpc.WithTransportCredentials(credentials.NewTLS(config)), grpc.WithAuthority(host))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return healthgrpc.NewHealthClient(conn)
	}
	check := func(c healthgrpc.HealthClient, service string, headers ...string) error {
		ctx, cancel := context.WithTimeout(metadata.AppendToOutgoingContext(u.ctx, headers...), patience)
		defer cancel()
		_, err := c.Check(ctx, &healthgrpc.HealthCheckRequest{Service: service})
		return err
	}
	identity, err := tls.LoadX509KeyPair(filepath.Join(folder, "identity.pem"), filepath.Join(folder, "identity.pem"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if pem, err := os.ReadFile(filepath.Join(folder, "trust.pem")); err != nil || !roots.AppendCertsFromPEM(pem) {
		t.Fatal(err)
	}
	known := func() *tls.Config {
		return &tls.Config{Certificates: []tls.Certificate{identity}, InsecureSkipVerify: true, VerifyConnection: func(state tls.ConnectionState) error {
			_, err := state.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: roots})
			return err
		}}
	}
	if err := check(dial(known(), "billing.example.com"), "billing"); err != nil {
		t.Fatal(err)
	}
	if err := check(dial(known(), "billing.example.com"), "billing", "x-polder-service", "catalog", "x-polder-host", "catalog.example.com"); err != nil {
		t.Errorf("a caller that names another service in a header: %v, want it led to billing", err)
	}
	for _, host := range []string{"dutch.example.com", "old.example.com", "stranger.example.com", "billing.example.com:443", "BILLING.example.com", "billing"} {
		err := check(dial(known(), host), "billing")
		if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "unknown-service") {
			t.Errorf("called as %s: %v, want unknown-service", host, err)
		}
	}
	nobody := known()
	nobody.Certificates = nil
	old := known()
	old.MaxVersion = tls.VersionTLS12
	foreign := known()
	branch := u.bootstrap("nl", "branch")
	if foreign.Certificates[0], err = tls.LoadX509KeyPair(filepath.Join(branch, "identity.pem"), filepath.Join(branch, "identity.pem")); err != nil {
		t.Fatal(err)
	}
	for who, config := range map[string]*tls.Config{"nobody": nobody, "a caller of TLS 1.2": old, "a client of another region": foreign} {
		if err := check(dial(config, "billing.example.com"), "billing"); status.Code(err) != codes.Unavailable || strings.Contains(err.Error(), "unknown-service") {
			t.Errorf("%s: %v, want no connection", who, err)
		}
	}
}

// TestClientBootstrap holds what the command refuses, and that the bootstrap is what
// gRPC reads: JSON with the name, the region, and files that lie where they will.
func TestClientBootstrap(t *testing.T) {
	u := newClientFleet(t)
	out := filepath.Join(filepath.Dir(u.config), "out")
	try := func(more ...string) (int, string) {
		code, _, errs := run(t, append([]string{"client", "bootstrap", "--config", u.config, "--state", u.state, "--out", out}, more...)...)
		return code, errs
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--region", "fr", "branch"}, `no client "branch" in region fr: write it into regions.fr.clients`},
		{[]string{"--region", "pl", "checkout"}, `region "pl"`},
		{[]string{"--region", "fr", "--home", "relative", "checkout"}, "absolute path"},
		{[]string{"--region", "fr", "--control", "10.0.0.1", "checkout"}, "write it like 10.0.0.1:7444"},
		{[]string{"--region", "fr", "--state", t.TempDir(), "checkout"}, "there is no authority"},
	} {
		if code, errs := try(c.args...); code == 0 || !strings.Contains(errs, c.want) {
			t.Errorf("%v: exit %d: %s; want it to say %q", c.args, code, errs, c.want)
		}
	}
	if code, errs := try("--region", "fr", "--home", "/etc/checkout", "--control", "edge.example.net:7444", "checkout"); code != 0 {
		t.Fatalf("exit %d: %s", code, errs)
	}
	text, err := os.ReadFile(filepath.Join(out, "bootstrap.json"))
	if err != nil {
		t.Fatal(err)
	}
	var b struct {
		Servers []struct {
			URI string `json:"server_uri"`
		} `json:"xds_servers"`
		Node struct {
			ID       string
			Locality struct{ Region string }
		}
		Providers map[string]struct{ Config map[string]string } `json:"certificate_providers"`
	}
	if err := json.Unmarshal(text, &b); err != nil {
		t.Fatal(err)
	}
	if b.Node.ID != "checkout" || b.Node.Locality.Region != "fr" || len(b.Servers) != 1 || b.Servers[0].URI != "edge.example.net:7444" ||
		b.Providers["polder"].Config["certificate_file"] != "/etc/checkout/identity.pem" {
		t.Errorf("the bootstrap is\n%s", text)
	}
	// By a DNS name the control plane is recognised as well.
	_, port, _ := strings.Cut(u.at["FR_XDS"], ":")
	u.program(u.bootstrap("fr", "checkout"), u.at["FR_XDS"], "localhost:"+port).service("billing").must()
}
