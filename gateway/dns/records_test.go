package dns

import (
	"bytes"
	"io"
	"testing"

	wire "github.com/miekg/dns"
)

func TestRecords(t *testing.T) {
	list := Records(seen(t, countries, "fr", "nl", "pl"))
	text := func(write func(io.Writer, []Record) error) string {
		var b bytes.Buffer
		if err := write(&b, list); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	zone := text(WriteZone)
	const want = "*.open.example.com.\t15\tIN\tA\t192.0.2.1\n"
	if !bytes.HasPrefix([]byte(zone), []byte(want)) {
		t.Errorf("got\n%s\nwant it to begin with\n%s", zone, want)
	}
	// What is written can be read, and holds what was meant.
	got := map[string]int{}
	parser := wire.NewZoneParser(bytes.NewReader([]byte(zone)), "", "")
	for rr, ok := parser.Next(); ok; rr, ok = parser.Next() {
		got[rr.Header().Name+wire.TypeToString[rr.Header().Rrtype]]++
	}
	if err := parser.Err(); err != nil {
		t.Fatal(err)
	}
	for name, n := range map[string]int{
		"open.example.com.A": 3, "open.example.com.AAAA": 2, "open.example.com.HTTPS": 1, "secret.example.com.A": 1, "standby.example.com.A": 1,
		"pinned.example.com.A": 1, "strange.example.net.A": 3,
	} {
		if got[name] != n {
			t.Errorf("%d records %s, want %d", got[name], name, n)
		}
	}
	for _, part := range []string{`"apiVersion": "externaldns.k8s.io/v1alpha1"`, `"dnsName": "secret.example.com"`, `"recordTTL": 15`} {
		if !bytes.Contains([]byte(text(WriteEndpoints)), []byte(part)) {
			t.Errorf("the resource lacks %s", part)
		}
	}
}
