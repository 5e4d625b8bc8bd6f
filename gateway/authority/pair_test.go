package authority_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway/authority"
)

// write puts the pair into two files, as production has them.
func write(t *testing.T, pair authority.Pair) (certFile, keyFile string) {
	t.Helper()
	dir := t.TempDir()
	certFile, keyFile = filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	for file, text := range map[string][]byte{certFile: pair.CertPEM, keyFile: pair.KeyPEM} {
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certFile, keyFile
}

func TestLoadPair(t *testing.T) {
	dir := t.TempDir()
	i := issuer(t, open(t, filepath.Join(dir, "authority")), "fr", filepath.Join(dir, "fr"))
	one, other := leaf(t, i, "a.example.com"), leaf(t, i, "b.example.com")
	certFile, keyFile := write(t, one)
	_, otherKey := write(t, other)

	pair, err := authority.LoadPair(certFile, keyFile)
	if err != nil || !bytes.Equal(pair.KeyPEM, one.KeyPEM) || !pair.NotAfter.Equal(one.NotAfter) {
		t.Errorf("LoadPair = %v, %v, want %v", pair, err, one)
	}
	for name, files := range map[string][2]string{
		"another key":    {certFile, otherKey},
		"exchanged":      {keyFile, certFile},
		"no certificate": {certFile + ".gone", keyFile},
		"no key":         {certFile, keyFile + ".gone"},
	} {
		_, err := authority.LoadPair(files[0], files[1])
		if err == nil || !(strings.Contains(err.Error(), files[0]) || strings.Contains(err.Error(), files[1])) {
			t.Errorf("%s: error %v, want one that names the file", name, err)
		}
	}
}

func TestCheck(t *testing.T) {
	dir := t.TempDir()
	i := issuer(t, open(t, filepath.Join(dir, "authority")), "fr", filepath.Join(dir, "fr"))
	pair := leaf(t, i, "a.example.com", "*.shop.example.com")
	now := time.Now()
	for _, c := range []struct {
		name  string
		pair  authority.Pair
		hosts []polder.Host
		now   time.Time
		want  []string
	}{
		{"named", pair, []polder.Host{"a.example.com", "*.shop.example.com", "b.shop.example.com"}, now, nil},
		{"not named", pair, []polder.Host{"a.example.com", "b.example.com", "c.example.com"}, now, []string{"b.example.com", "c.example.com"}},
		{"a wildcard needs its own name", pair, []polder.Host{"*.example.com"}, now, []string{"*.example.com"}},
		{"before its time", pair, nil, now.Add(-48 * time.Hour), []string{"not valid before"}},
		{"expired", pair, nil, now.Add(91 * 24 * time.Hour), []string{"expired", "renew"}},
		{"empty", authority.Pair{}, nil, now, []string{"no certificate"}},
	} {
		err := c.pair.Check(c.hosts, c.now)
		if (err != nil) != (len(c.want) > 0) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
		for _, want := range c.want {
			if err != nil && !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v does not say %q", c.name, err, want)
			}
		}
	}
}

// TestPairHidesItsKey prints pairs and identities in every way at hand.
func TestPairHidesItsKey(t *testing.T) {
	dir := t.TempDir()
	i := issuer(t, open(t, filepath.Join(dir, "authority")), "fr", filepath.Join(dir, "fr"))
	pair := leaf(t, i, "a.example.com")
	identity, err := i.Peer("fr-1")
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	asJSON, asText := slog.New(slog.NewJSONHandler(&out, nil)), slog.New(slog.NewTextHandler(&out, nil))
	for _, value := range []any{pair, &pair, identity, &identity, []authority.Pair{pair}, map[string]any{"pair": pair}, struct{ P authority.Pair }{pair}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			fmt.Fprintf(&out, verb+"\n", value)
		}
		asJSON.Info("issued", "pair", value)
		asText.Info("issued", "pair", value)
		if err := json.NewEncoder(&out).Encode(value); err != nil {
			t.Fatal(err)
		}
	}
	printed := out.String()
	if !strings.Contains(printed, "a.example.com") || !strings.Contains(printed, "spiffe://") {
		t.Errorf("the names are missing in\n%s", printed)
	}
	for _, key := range [][]byte{pair.KeyPEM, identity.KeyPEM} {
		body := string(bytes.Split(key, []byte("\n"))[1])
		for how, secret := range map[string]string{
			"plain":     body,
			"base64":    base64.StdEncoding.EncodeToString([]byte(body))[:32],
			"hex":       fmt.Sprintf("%x", body),
			"numbers":   strings.Trim(fmt.Sprintf("%d", []byte(body)), "[]"),
			"go syntax": strings.TrimSuffix(strings.TrimPrefix(fmt.Sprintf("%#v", []byte(body)), "[]byte{"), "}"),
		} {
			if strings.Contains(printed, secret) {
				t.Errorf("the key is shown (%s)", how)
			}
		}
	}
}

func TestGossipKeys(t *testing.T) {
	dir := t.TempDir()
	a := open(t, dir)
	keys := a.GossipKeys()
	if len(keys) != 1 || len(keys[0]) != 32 {
		t.Fatalf("keys %x, want one of 32 bytes", keys)
	}
	clear(keys[0])
	if bytes.Equal(a.GossipKeys()[0], keys[0]) {
		t.Error("a caller can change the authority's key")
	}
	file := filepath.Join(dir, "gossip.key")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	primary := bytes.Repeat([]byte{7}, 32)
	rotated := append([]byte(base64.StdEncoding.EncodeToString(primary)+"\n\n"), text...)
	if err := os.WriteFile(file, rotated, 0o600); err != nil {
		t.Fatal(err)
	}
	both, err := authority.LoadGossipKeys(file)
	if err != nil || len(both) != 2 || !bytes.Equal(both[0], primary) {
		t.Errorf("after a new key was put in front: %x, %v", both, err)
	}
}
