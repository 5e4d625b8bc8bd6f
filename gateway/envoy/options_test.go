package envoy

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"
)

func TestOptions(t *testing.T) {
	bootstrap := func(path string, mode int) []byte {
		return fmt.Appendf(nil, `{"admin":{"address":{"pipe":{"path":%q,"mode":%d}}}}`, path, mode)
	}
	good := func() Options {
		return Options{
			Node: "fr-1", Binary: "envoy", Bootstrap: bootstrap("/run/polder/admin.sock", 0o600), Dir: "state",
			Concurrency: 2, DrainTime: time.Second, Grace: time.Second, Log: slog.New(slog.DiscardHandler),
		}
	}
	for _, c := range []struct {
		name   string
		change func(*Options)
		want   []string // in the error; none for options that are good
	}{
		{"good", func(*Options) {}, nil},
		{"longest socket", func(o *Options) { o.Bootstrap = bootstrap("/"+strings.Repeat("x", 106), 0o600) }, nil},
		{"socket too long", func(o *Options) { o.Bootstrap = bootstrap("/"+strings.Repeat("x", 107), 0o600) }, []string{"108 bytes", "107", "shorter folder"}},
		{"no room to park the socket", func(o *Options) { o.Bootstrap = bootstrap("/"+strings.Repeat("x", 95)+"/a.sock", 0o600) }, []string{"shorter folder"}},
		{"relative socket", func(o *Options) { o.Bootstrap = bootstrap("admin.sock", 0o600) }, []string{"absolute"}},
		{"open socket", func(o *Options) { o.Bootstrap = bootstrap("/admin.sock", 0o666) }, []string{"0666", "0600"}},
		{"socket of no mode", func(o *Options) { o.Bootstrap = bootstrap("/admin.sock", 0) }, []string{"0600"}},
		{"admin on a port", func(o *Options) {
			o.Bootstrap = []byte(`{"admin":{"address":{"socket_address":{"address":"127.0.0.1","port_value":9901}}}}`)
		}, []string{"admin.address.pipe.path"}},
		{"no JSON", func(o *Options) { o.Bootstrap = []byte("admin: {}") }, []string{"bootstrap: invalid character"}},
		{"empty", func(o *Options) { *o = Options{} }, []string{"bootstrap", "concurrency is 0", "drain time is 0s", "node, binary, dir, log and grace"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := good()
			c.change(&o)
			_, err := NewSupervisor(o)
			if (err != nil) != (len(c.want) > 0) {
				t.Errorf("NewSupervisor: %v, want %q", err, c.want)
			}
			for _, want := range c.want {
				if err != nil && !strings.Contains(err.Error(), want) {
					t.Errorf("%v does not say %q", err, want)
				}
			}
		})
	}
}

// TestSame: which options make an Envoy another one.
func TestSame(t *testing.T) {
	const admin = `"admin":{"address":{"pipe":{"path":"/a.sock","mode":384}}}`
	base := Options{
		Node: "fr-1", Binary: "envoy", Bootstrap: []byte(`{` + admin + `,"node":{"id":"fr-1","cluster":"fr"}}`), Dir: "state",
		Concurrency: 2, DrainTime: time.Second, Grace: time.Second, Log: slog.New(slog.DiscardHandler),
	}
	digest := func(change func(*Options)) string {
		o := base
		change(&o)
		s, err := NewSupervisor(o)
		if err != nil {
			t.Fatal(err)
		}
		return s.meta(s.socket).Digest
	}
	for _, c := range []struct {
		name   string
		change func(*Options)
		same   bool
	}{
		{"order and spaces", func(o *Options) {
			o.Bootstrap = []byte(`{ "node": {"cluster":"fr", "id":"fr-1"}, ` + admin + "}\n")
		}, true},
		{"where the program lies", func(o *Options) { o.Binary = "/usr/bin/envoy" }, true},
		{"our patience", func(o *Options) { o.Grace = time.Minute }, true},
		{"bootstrap", func(o *Options) { o.Bootstrap = []byte(`{` + admin + `,"node":{"id":"fr-2","cluster":"fr"}}`) }, false},
		{"workers", func(o *Options) { o.Concurrency = 3 }, false},
		{"drain time", func(o *Options) { o.DrainTime = time.Minute }, false},
	} {
		if same := digest(c.change) == digest(func(*Options) {}); same != c.same {
			t.Errorf("%s: same %v, want %v", c.name, same, c.same)
		}
	}
}
