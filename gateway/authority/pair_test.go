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

	"github.com/polder/polder/gateway/authority"
)

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
