package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/polder/polder"
)

// TestCanaryOnTheWire is three regions on a network of their own, each in its
// namespace, with every frame between them captured:
//
//  1. A pinned service is called through every region, with a word in path, header
//     and body, and answers with it: the word and the key are in no frame, and what
//     goes between gateways is TLS from the first byte on.
//  2. With all its backends dead, callers get a labelled 503 through every region.
//  3. With its region cut off, the others refuse: a TLS alert, and a labelled 503 in
//     plain HTTP. Nothing of it is sent anywhere.
//  4. Word and key are in no file, dump, log or process of the other regions.
func TestCanaryOnTheWire(t *testing.T) {
	regions := []polder.RegionName{"fr", "nl", "pl"}
	w := newCable(t, regions...)
	if w == nil {
		return
	}
	u := newFleet(t, three)
	u.onCable(w, regions)
	word := "canary-" + rand.Text()
	for _, entry := range regions {
		eventually(t, "billing answers through "+string(entry), func() bool {
			code, _, err := u.sing(entry, "billing.example.com", word)
			return err == nil && code == http.StatusOK
		})
		code, header, err := u.sing(entry, "broken.example.com", word)
		if err != nil || code != http.StatusServiceUnavailable || header.Get("x-polder-reason") == "" {
			t.Errorf("dead backends through %s: got %d, %v, headers %v; want a labelled 503", entry, code, err, header)
		}
	}
	key := u.keyOf("fr", "billing.example.com")
	secrets := map[string][]byte{
		"the word": []byte(word), "the word in base64": []byte(base64.StdEncoding.EncodeToString([]byte(word))[:24]),
		"the key in PEM": key.text, "the key in DER": key.bytes,
	}
	w.wantSilence(secrets)
	passed := 0
	for f, stream := range streams(w.captured()) {
		if f.to.Port() != peerPort && f.from.Port() != peerPort || len(stream) == 0 {
			continue
		}
		passed++
		if err := tlsRecords(stream); err != nil {
			t.Errorf("between gateways, %v to %v: %v", f.from, f.to, err)
		}
	}
	if passed < 4 { // each way of a connection from nl and from pl
		t.Errorf("only %d streams between gateways were captured: this shows nothing", passed)
	}

	w.cut("fr")
	for _, entry := range []polder.RegionName{"nl", "pl"} {
		eventually(t, "billing is refused by "+string(entry), func() bool {
			_, _, err := u.sing(entry, "billing.example.com", word)
			return err != nil && strings.Contains(err.Error(), "internal error")
		})
		u.refusesInPlain(entry, "billing.example.com")
		u.absent(entry, secrets)
	}
	w.wantSilence(secrets)
}

const peerPort = 7443

// onCable starts one polder run per region, each in its namespace.
func (u *fleetUnderTest) onCable(w *cable, regions []polder.RegionName) {
	u.t.Helper()
	u.listen = map[polder.RegionName]polder.Listen{}
	at := map[string]polder.RegionName{} // by address of an entrypoint
	var join []string
	for i, region := range regions {
		address := func(port int) string { return net.JoinHostPort(w.address[region].String(), fmt.Sprint(port)) }
		u.listen[region] = polder.Listen{HTTPS: address(8443 + i), HTTP: address(8080), Peer: address(peerPort), Gossip: address(7946)}
		at[fmt.Sprint(8443+i)] = region
		join = append(join, "--join", u.listen[region].Gossip)
	}
	for _, region := range regions {
		l := u.listen[region]
		u.runIn(w, region, append(join, "--https", l.HTTPS, "--http", l.HTTP, "--peer", l.Peer, "--gossip", l.Gossip)...)
		if region == regions[0] { // it makes the authority that all have in common
			eventually(u.t, "there is an authority", func() bool { _, err := os.Stat(filepath.Join(u.state, "authority/root.pem")); return err == nil })
		}
	}
	root, err := os.ReadFile(filepath.Join(u.state, "authority/root.pem"))
	if err != nil {
		u.t.Fatal(err)
	}
	u.roots = x509.NewCertPool()
	u.roots.AppendCertsFromPEM(root)
	u.http = &http.Client{Timeout: patience, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: u.roots},
		DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
			host, port, err := net.SplitHostPort(address)
			if err != nil {
				return nil, err
			}
			if region, known := at[port]; known {
				return w.dial(ctx, region, u.listen[region].HTTPS)
			}
			for region, a := range w.address {
				if a.String() == host {
					return w.dial(ctx, region, address)
				}
			}
			return nil, fmt.Errorf("nobody is at %s", address)
		},
	}}
	for _, region := range regions {
		eventually(u.t, "region "+string(region)+" serves and knows the others", func() bool {
			status, err := u.status(region)
			return err == nil && status.Serving() && together(status, len(regions))
		})
	}
}

// runIn starts one region and stops it at the end of the test.
func (u *fleetUnderTest) runIn(w *cable, region polder.RegionName, args ...string) {
	u.t.Helper()
	c := command(u.t, append([]string{"run", "--region", string(region), "--config", u.config, "--state", u.state, "--tools", "../../.tools"}, args...)...)
	inside := exec.Command("ip", append([]string{"netns", "exec", w.prefix + string(region)}, c.Args...)...)
	inside.Env = c.Env
	u.runUntilEnd(inside, region)
}

// wantSilence fails the test if any of the secrets is in any frame, or in a stream
// put together from frames; and if the capture hears nothing.
func (w *cable) wantSilence(secrets map[string][]byte) {
	w.t.Helper()
	heard := "heard-" + rand.Text()
	conn, err := w.dialUDP("nl", net.JoinHostPort(w.address["pl"].String(), "9"))
	if err != nil {
		w.t.Fatal(err)
	}
	defer conn.Close()
	eventually(w.t, "the capture hears what is said", func() bool {
		conn.Write([]byte(heard))
		return len(w.holding([]byte(heard))) > 0
	})
	for name, secret := range secrets {
		if where := w.holding(secret); len(where) > 0 {
			w.t.Errorf("%s went between regions: %v", name, where)
		}
	}
}
