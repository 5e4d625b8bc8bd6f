package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"github.com/polder/polder/gateway"
	"github.com/polder/polder/xds/server"
)

// TestNode runs a region with one Envoy beside its Polder and one that knows
// Polder by mTLS alone, as on another machine.
//
//  1. polder node bootstrap writes what it starts with, for its owner only.
//  2. It serves a cold call through the activator, and warm ones after it.
//  3. A renewed identity is taken while its stream lives on.
//  4. A bootstrap that says it is another node gets nothing, and status says who.
//  5. A node that leaves the configuration is cut off.
func TestNode(t *testing.T) {
	u, ports := newNodeFleet(t, "testdata/node.yaml")
	u.start()
	out := u.issue(t, "fr-2")
	for _, name := range []string{"bootstrap.json", "identity.json", "trust.json"} {
		info, err := os.Stat(filepath.Join(out, name))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Fatalf("%s: %v %v; want a file of mode 0600", name, info, err)
		}
	}
	u.runEnvoy(t, out)
	u.opened(t, "fr-2", ports.https)
	u.wantAt(t, ports.https, "billing.example.com")
	for range 3 {
		u.wantAt(t, ports.https, "billing.example.com")
		u.want("fr", "billing.example.com", "fr")
	}
	if totals := u.service("fr", "billing").Totals; totals.Starts != 1 {
		t.Errorf("after calls at both: %+v, want one start", totals)
	}
	eventually(t, "the load reports of fr-2 tell of its calls, which go through the activator", func() bool {
		u.wantAt(t, ports.https, "billing.example.com")
		return u.service("fr", "billing").Totals.Activated > 0
	})

	since, before := u.node("fr-2").Since, serials(t, out)
	if err := os.RemoveAll(filepath.Join(u.layout("fr").Certificates(), "peers")); err != nil { // as if they were due
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(u.layout("fr").Certificates(), "peers"), 0o700); err != nil {
		t.Fatal(err)
	}
	u.issue(t, "fr-2")
	eventually(t, "fr-2 has taken the renewed identity", func() bool { return serials(t, out) != before })
	if now := u.node("fr-2").Since; !now.Equal(since) {
		t.Errorf("the stream of fr-2 began at %v and again at %v: the renewal broke it", since, now)
	}
	u.wantAt(t, ports.https, "billing.example.com")

	forged := filepath.Join(filepath.Dir(u.config), "forged")
	forge(t, out, forged)
	u.runEnvoy(t, forged)
	eventually(t, "the forged node is refused", func() bool {
		s, err := u.status("fr")
		return err == nil && len(s.RefusedNodes) > 0 && s.RefusedNodes[0].Node == "fr-3"
	})
	if n := u.node("fr-3"); listens(n) {
		t.Errorf("the forged node was given %+v", n)
	}
	if _, text, _ := run(t, "status", "--state", u.state); !strings.Contains(text, "which says that it is node fr-3") || !strings.Contains(text, "other machine") {
		t.Errorf("status does not tell of the forged node:\n%s", text)
	}

	text, err := os.ReadFile(u.config)
	if err != nil {
		t.Fatal(err)
	}
	u.write(strings.Replace(string(text), "fr-2:", "fr-4:", 1))
	eventually(t, "fr-2 is cut off", func() bool {
		s, err := u.status("fr")
		if err != nil {
			return false
		}
		for _, n := range s.Nodes {
			if n.Node == "fr-2" && !n.Since.IsZero() {
				return false
			}
		}
		for _, r := range s.RefusedNodes {
			if r.Node == "fr-2" && strings.Contains(r.Reason, "regions.fr.nodes.fr-2") {
				return true
			}
		}
		return false
	})
	u.want("fr", "billing.example.com", "fr")
}

// opened waits until a node has its listeners, and then until it takes connections:
// Envoy acknowledges a listener before it has warmed it and its workers have it.
func (u *fleetUnderTest) opened(t *testing.T, node, entry string) {
	t.Helper()
	eventually(t, node+" has its listeners", func() bool { n := u.node(node); return n.Remote && listens(n) })
	eventually(t, node+" takes connections", func() bool {
		conn, err := net.Dial("tcp", entry)
		if err != nil {
			return false
		}
		return conn.Close() == nil
	})
}

// TestNodeHTTP3: what an Envoy on another machine does over QUIC is what the one
// beside Polder does.
//
//  1. A service whose key is resident here is served, and announced over TCP.
//  2. One whose key is on demand, one that another region must open, one that is
//     refused here, and a name of nobody are refused: the handshake ends at once.
//  3. Over TCP, what another region must open is passed on to it, and nobody is told
//     of HTTP/3 on the way, although that region serves it to its own callers.
func TestNodeHTTP3(t *testing.T) {
	u, ports := newNodeFleet(t, "testdata/node-http3.yaml")
	u.start()
	u.runEnvoy(t, u.issue(t, "fr-2"))
	u.opened(t, "fr-2", ports.https)
	config := &tls.Config{RootCAs: u.roots, NextProtos: []string{http3.NextProtoH3}}
	over := func(host string) *tls.Config {
		c := config.Clone()
		c.ServerName = host
		return c
	}
	for _, entry := range []string{ports.https, u.listen["fr"].HTTPS} {
		conn := u.quicAt(t, entry, over("quick.example.com"))
		u.askOver(t, conn, "quick.example.com")
		conn.CloseWithError(0, "")
		for _, host := range []string{"billing.example.com", "dutch.example.com", "a.dutch.example.com", "closed.example.com", "nobody.example.com"} {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			conn, err := quic.DialAddr(ctx, entry, over(host), &quic.Config{HandshakeIdleTimeout: patience})
			cancel()
			if err == nil {
				conn.CloseWithError(0, "")
				t.Errorf("%s was opened over QUIC at %s", host, entry)
			}
			var refused *quic.TransportError
			if !errors.As(err, &refused) || !refused.Remote {
				t.Errorf("%s at %s: %v, want the other end to refuse it", host, entry, err)
			}
		}
	}
	conn := u.quicAt(t, u.listen["nl"].HTTPS, over("dutch.example.com"))
	u.askOver(t, conn, "dutch.example.com")
	conn.CloseWithError(0, "")
	for _, c := range []struct {
		entry, host string
		announced   bool
	}{
		{ports.https, "quick.example.com", true},
		{ports.https, "billing.example.com", false},
		{ports.https, "dutch.example.com", false},
		{ports.https, "a.dutch.example.com", false},
		{u.listen["nl"].HTTPS, "dutch.example.com", true},
	} {
		want := ""
		if c.announced {
			_, port, _ := net.SplitHostPort(c.entry)
			want = fmt.Sprintf(`h3=":%s"; ma=86400`, port)
		}
		if got := u.wantAt(t, c.entry, c.host).Get("Alt-Svc"); got != want {
			t.Errorf("%s at %s: alt-svc is %q, want %q", c.host, c.entry, got, want)
		}
	}
}

// issue has polder write what a node starts with, and gives the folder.
func (u *fleetUnderTest) issue(t *testing.T, node string) string {
	t.Helper()
	out := filepath.Join(filepath.Dir(u.config), node)
	if code, _, errs := run(t, "node", "bootstrap", "--region", "fr", "--config", u.config, "--state", u.state, "--out", out, node); code != 0 {
		t.Fatalf("node bootstrap: exit %d: %s", code, errs)
	}
	return out
}

// nodePorts are where the second Envoy of the test's region listens.
type nodePorts struct{ https, http string }

func newNodeFleet(t *testing.T, config string) (*fleetUnderTest, nodePorts) {
	t.Helper()
	u := newFleet(t, config)
	text, err := os.ReadFile(u.config)
	if err != nil {
		t.Fatal(err)
	}
	ports := nodePorts{freePort(t), freePort(t)}
	u.write(strings.NewReplacer("XDS", freePort(t), "NODE_HTTPS", ports.https, "NODE_HTTP", ports.http,
		"SPARE_HTTPS", freePort(t), "SPARE_HTTP", freePort(t)).Replace(string(text)))
	return u, ports
}

// runEnvoy starts an Envoy as the documentation says, until the test ends.
func (u *fleetUnderTest) runEnvoy(t *testing.T, folder string) {
	t.Helper()
	binary, err := filepath.Abs("../../.tools/envoy-1.40.0/envoy")
	if err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(folder, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	c := exec.Command(binary, "--config-path", filepath.Join(folder, gateway.BootstrapFile), "--disable-hot-restart", "--concurrency", "1")
	c.Stdout, c.Stderr = log, log
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Process.Kill()
		c.Wait()
		if t.Failed() {
			if text, err := os.ReadFile(filepath.Join(folder, "log")); err == nil {
				t.Logf("Envoy of %s:\n%s", folder, text[max(0, len(text)-8000):])
			}
		}
	})
}

// node returns what the region says of one of its Envoys.
func (u *fleetUnderTest) node(name string) server.NodeStatus {
	u.t.Helper()
	status, err := u.status("fr")
	if err != nil {
		u.t.Fatal(err)
	}
	for _, n := range status.Nodes {
		if n.Node == name {
			return n
		}
	}
	return server.NodeStatus{}
}

func listens(n server.NodeStatus) bool {
	for _, t := range n.Types {
		if strings.HasSuffix(t.Type, "Listener") && t.Accepted >= 2 && t.Pending == 0 {
			return true
		}
	}
	return false
}

// wantAt calls a host at an entrypoint, fails the test unless it answers, and gives
// the header of the answer.
func (u *fleetUnderTest) wantAt(t *testing.T, entry, host string) http.Header {
	t.Helper()
	_, port, _ := net.SplitHostPort(entry)
	request, err := http.NewRequest(http.MethodGet, "https://"+host+":"+port+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Close = true
	response, err := u.http.Do(request)
	if err != nil {
		t.Fatalf("%s at %s: %v", host, entry, err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusOK {
		t.Fatalf("%s at %s: got %s %v", host, entry, response.Status, response.Header)
	}
	return response.Header
}

// serials are those of the certificates that Envoy shows its Polder.
func serials(t *testing.T, folder string) string {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(folder, "admin.sock"))
	}}}
	response, err := client.Get("http://envoy/certs")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var certs struct {
		Certificates []struct {
			Chain []struct {
				Serial string `json:"serial_number"`
			} `json:"cert_chain"`
		}
	}
	if err := json.NewDecoder(response.Body).Decode(&certs); err != nil {
		t.Fatal(err)
	}
	identity, err := os.ReadFile(filepath.Join(folder, "identity.json"))
	if err != nil || len(identity) == 0 {
		t.Fatal(err)
	}
	list := map[string]bool{}
	for _, c := range certs.Certificates {
		for _, link := range c.Chain {
			list[link.Serial] = true
		}
	}
	return fmt.Sprint(list)
}

// forge makes a bootstrap that calls itself fr-3 with the identity of fr-2.
func forge(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Mkdir(to, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"bootstrap.json", "identity.json", "trust.json"} {
		text, err := os.ReadFile(filepath.Join(from, name))
		if err != nil {
			t.Fatal(err)
		}
		changed := strings.ReplaceAll(strings.ReplaceAll(string(text), from, to), `"id":"fr-2"`, `"id":"fr-3"`)
		if err := os.WriteFile(filepath.Join(to, name), []byte(changed), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
