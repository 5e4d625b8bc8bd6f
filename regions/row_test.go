package regions

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/polder/polder"
)

func plainRow() polder.PeerRow {
	return polder.PeerRow{
		Peer: "fr-1", Region: "fr", Epoch: 3, Sequence: 7, Address: "10.0.0.1:9443",
		Healthy: true, Warm: []polder.ServiceName{"billing", "billing-eu", "catalog"}, Digest: "sha256:ab12",
		Busy: []polder.ServiceName{"billing-eu"}, Load: 40, Policy: "sha256:cd34",
	}
}

func TestCheck(t *testing.T) {
	long := strings.Repeat("a", 64)
	tests := map[string]struct {
		change func(*polder.PeerRow)
		want   string // part of the error; "" means none
	}{
		"as it should be":        {func(*polder.PeerRow) {}, ""},
		"no listener":            {func(r *polder.PeerRow) { r.Address = "" }, ""},
		"IPv6 address":           {func(r *polder.PeerRow) { r.Address = "[::1]:9443" }, ""},
		"no peer":                {func(r *polder.PeerRow) { r.Peer = "" }, "peer name"},
		"peer in capitals":       {func(r *polder.PeerRow) { r.Peer = "FR-1" }, "peer name"},
		"peer too long":          {func(r *polder.PeerRow) { r.Peer = long }, "peer name"},
		"region ends in a dash":  {func(r *polder.PeerRow) { r.Region = "fr-" }, "region name"},
		"region with a newline":  {func(r *polder.PeerRow) { r.Region = "fr\nx" }, "region name"},
		"epoch nought":           {func(r *polder.PeerRow) { r.Epoch = 0 }, "count from 1"},
		"sequence nought":        {func(r *polder.PeerRow) { r.Sequence = 0 }, "count from 1"},
		"epoch beyond the bound": {func(r *polder.PeerRow) { r.Epoch = 1 << 62 }, "below 2^62"},
		"sequence beyond":        {func(r *polder.PeerRow) { r.Sequence = 1 << 63 }, "below 2^62"},
		"address by name":        {func(r *polder.PeerRow) { r.Address = "fr.example.com:9443" }, ""},
		"IPv6 without brackets":  {func(r *polder.PeerRow) { r.Address = "2001:db8::1:9443" }, "in brackets"},
		"brackets left open":     {func(r *polder.PeerRow) { r.Address = "[::1:9443" }, "in brackets"},
		"name in brackets":       {func(r *polder.PeerRow) { r.Address = "[fr]:9443" }, "in brackets"},
		"address without port":   {func(r *polder.PeerRow) { r.Address = "10.0.0.1" }, "not host:port"},
		"address, port nought":   {func(r *polder.PeerRow) { r.Address = "10.0.0.1:0" }, "port from 1"},
		"address, named port":    {func(r *polder.PeerRow) { r.Address = "10.0.0.1:https" }, "port from 1"},
		"address without host":   {func(r *polder.PeerRow) { r.Address = ":9443" }, "needs a host"},
		"address with a space":   {func(r *polder.PeerRow) { r.Address = "10.0.0.1 :9443" }, "printable ASCII"},
		"digest too long":        {func(r *polder.PeerRow) { r.Digest = strings.Repeat("a", 129) }, "digest"},
		"digest with a bell":     {func(r *polder.PeerRow) { r.Digest = "a\a" }, "digest"},
		"policy too long":        {func(r *polder.PeerRow) { r.Policy = strings.Repeat("a", 129) }, "digest of policies"},
		"load beyond all":        {func(r *polder.PeerRow) { r.Load = 101 }, "want 0 to 100"},
		"busy and not warm":      {func(r *polder.PeerRow) { r.Busy = []polder.ServiceName{"orders"} }, "not warm"},
		"busy not sorted":        {func(r *polder.PeerRow) { r.Busy = []polder.ServiceName{"catalog", "billing"} }, "not sorted"},
		"warm not sorted":        {func(r *polder.PeerRow) { slices.Reverse(r.Warm) }, "not sorted"},
		"warm twice":             {func(r *polder.PeerRow) { r.Warm[1] = r.Warm[0] }, "repeat"},
		"warm not a label":       {func(r *polder.PeerRow) { r.Warm[0] = "a.b" }, "not a DNS label"},
		"too many warm":          {func(r *polder.PeerRow) { r.Warm = names(MaxWarm+1, "s") }, "at most 1024"},
		"warm too long together": {func(r *polder.PeerRow) { r.Warm, r.Busy = longNames(MaxWarm), nil }, "bytes, at most"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			row := plainRow()
			tt.change(&row)
			err := Check(row)
			if tt.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("error %v, want one with %q", err, tt.want)
			}
		})
	}
}

// names are n sorted service names with the given prefix.
func names(n int, prefix string) []polder.ServiceName {
	out := make([]polder.ServiceName, n)
	for i := range out {
		out[i] = polder.ServiceName(fmt.Sprintf("%s%05d", prefix, i))
	}
	return out
}

// longNames are n sorted service names of 63 bytes that share no more than
// their first few bytes.
func longNames(n int) []polder.ServiceName {
	out := make([]polder.ServiceName, n)
	for i := range out {
		out[i] = polder.ServiceName(fmt.Sprintf("%04d", i) + strings.Repeat("x", 59))
	}
	return out
}

func TestFitKeepsWithinTheBounds(t *testing.T) {
	for name, warm := range map[string][]polder.ServiceName{
		"few":           names(3, "s"),
		"exactly full":  names(MaxWarm, "s"),
		"one too many":  names(MaxWarm+1, "s"),
		"many long":     longNames(MaxWarm),
		"many too long": longNames(3 * MaxWarm),
	} {
		t.Run(name, func(t *testing.T) {
			row := plainRow()
			row.Warm = warm
			before := slices.Clone(warm)
			fitted, left := Fit(row)
			if err := Check(fitted); err != nil {
				t.Fatal(err)
			}
			if len(fitted.Warm)+left != len(warm) {
				t.Errorf("%d kept and %d left out of %d", len(fitted.Warm), left, len(warm))
			}
			if !slices.Equal(fitted.Warm, warm[:len(fitted.Warm)]) {
				t.Error("kept services are not the first ones")
			}
			if Check(row) == nil && left > 0 {
				t.Error("a row that passes was cut")
			}
			// As much as possible is kept: one more service would break a bound.
			if left > 0 {
				more := fitted
				more.Warm = warm[:len(fitted.Warm)+1]
				if n := encodedSize(more); len(more.Warm) <= MaxWarm && n+2 <= MaxRowBytes {
					t.Errorf("one more service would have fitted: %d bytes", n)
				}
			}
			if !slices.Equal(warm, before) {
				t.Error("Fit changed its input")
			}
		})
	}
}

func TestEncodeDecode(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		row := anyRow().Draw(t, "row")
		b := Encode(row)
		if len(b) != encodedSize(row) {
			t.Fatalf("encoded to %d bytes, size says %d", len(b), encodedSize(row))
		}
		back, err := Decode(b)
		if err != nil {
			t.Fatal(err)
		}
		if !equalRows(back, row) {
			t.Fatalf("decoded %+v, want %+v", back, row)
		}
		other := anyRow().Draw(t, "other")
		if equalRows(row, other) != bytes.Equal(b, Encode(other)) {
			t.Fatalf("rows and bytes disagree: %+v and %+v", row, other)
		}
	})
}

func TestDecodeRefuses(t *testing.T) {
	good := Encode(plainRow())
	unknownFlag := slices.Clone(good)
	unknownFlag[1] |= 0x80
	wideNumber := append([]byte{good[0], good[1], 0x83, 0x00}, good[3:]...) // epoch 3 in two bytes
	unshared := plainRow()
	unshared.Warm = nil
	lazy := Encode(unshared)
	lazy = append(lazy[:len(lazy)-1], 2, 0, 2, 'a', 'b', 0, 3, 'a', 'b', 'c') // "abc" shares nothing with "ab"
	for name, b := range map[string][]byte{
		"nothing":           nil,
		"one byte":          {rowFormat},
		"cut short":         good[:len(good)-1],
		"a byte too many":   append(slices.Clone(good), 0),
		"unknown flag":      unknownFlag,
		"number too wide":   wideNumber,
		"prefix not shared": lazy,
		"huge count":        append(Encode(unshared)[:len(lazy)-10], 0xff, 0xff, 0xff, 0xff, 0x0f),
		"too big":           make([]byte, MaxRowBytes+1),
	} {
		if row, err := Decode(b); err == nil {
			t.Errorf("%s: accepted as %+v", name, row)
		}
	}
	newer := slices.Clone(good)
	newer[0] = rowFormat + 1
	if _, err := Decode(newer); !errors.Is(err, ErrFormat) {
		t.Errorf("newer format: error %v, want ErrFormat", err)
	}
}

// The reason for a form of our own rather than JSON: rows of a usual size stay
// within one packet for longer.
func TestEncodeIsCompact(t *testing.T) {
	row := plainRow()
	row.Warm = names(40, "orders-eu-")
	asJSON, err := json.Marshal(row)
	if err != nil {
		t.Fatal(err)
	}
	if ours := len(Encode(row)); ours*3 > len(asJSON) {
		t.Errorf("%d bytes, JSON takes %d: not even a third", ours, len(asJSON))
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(Encode(plainRow()))
	f.Add(Encode(polder.PeerRow{Peer: "a", Region: "b", Epoch: 1, Sequence: 1}))
	f.Add([]byte{rowFormat, 0, 1, 1, 1, 'a', 1, 'b', 0, 0, 0xff, 0xff, 0x03})
	f.Fuzz(func(t *testing.T, b []byte) {
		row, err := Decode(b)
		if err != nil {
			return
		}
		if err := Check(row); err != nil {
			t.Fatalf("accepted a row that Check refuses: %v", err)
		}
		if !bytes.Equal(Encode(row), b) {
			t.Fatal("two forms of one row")
		}
	})
}

// anyRow draws rows that pass Check, from few names so that they meet.
func anyRow() *rapid.Generator[polder.PeerRow] {
	return rapid.Custom(func(t *rapid.T) polder.PeerRow {
		warm := rapid.SliceOfNDistinct(rapid.SampledFrom(names(12, "s")), 0, 5, rapid.ID[polder.ServiceName]).Draw(t, "warm")
		slices.Sort(warm)
		if len(warm) == 0 {
			warm = nil
		}
		busy := slices.DeleteFunc(slices.Clone(warm), func(polder.ServiceName) bool { return rapid.Bool().Draw(t, "quiet") })
		if len(busy) == 0 {
			busy = nil
		}
		return polder.PeerRow{
			Busy:     busy,
			Load:     rapid.SampledFrom([]uint8{0, 40, 100}).Draw(t, "load"),
			Policy:   rapid.SampledFrom([]string{"", "p"}).Draw(t, "policy"),
			Peer:     rapid.SampledFrom([]string{"fr-1", "fr-2", "nl-1", "pl-1", "us-1"}).Draw(t, "peer"),
			Region:   rapid.SampledFrom([]polder.RegionName{"fr", "nl", "pl"}).Draw(t, "region"),
			Epoch:    rapid.Uint64Range(1, 3).Draw(t, "epoch"),
			Sequence: rapid.Uint64Range(1, 4).Draw(t, "sequence"),
			Address:  rapid.SampledFrom([]string{"", "10.0.0.1:1", "[2001:db8::1]:9443", "fr.example.com:65535"}).Draw(t, "address"),
			Healthy:  rapid.Bool().Draw(t, "healthy"),
			Draining: rapid.Bool().Draw(t, "draining"),
			Warm:     warm,
			Digest:   rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "digest"),
		}
	})
}
