package polder

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestParseDuration(t *testing.T) {
	const day = 24 * time.Hour
	for _, c := range []struct {
		text string
		want time.Duration
		ok   bool
	}{
		{"30s", 30 * time.Second, true},
		{"1h30m", 90 * time.Minute, true},
		{"7d", 7 * day, true},
		{"1d12h", day + 12*time.Hour, true},
		{"0s", 0, true},
		{"-5m", -5 * time.Minute, true}, // its bounds are the reader's
		{"99999d", 99999 * day, true},
		{"99999d2000000h", 0, false}, // more than a duration holds
		{"1d-5m", 0, false},
		{"1.5d", 0, false},
		{"12h1d", 0, false},
		{"", 0, false},
		{"d", 0, false},
		{"60", 0, false},
		{"5 minutes", 0, false},
		{"123456d", 0, false},
	} {
		got, err := ParseDuration(c.text)
		if (err == nil) != c.ok || got != c.want {
			t.Errorf("%q: got %v, %v; want %v", c.text, got, err, c.want)
		}
	}
}

func TestParseBytes(t *testing.T) {
	for _, c := range []struct {
		text string
		want Bytes
		ok   bool
	}{
		{"64MiB", 64 << 20, true},
		{"1TiB", 1 << 40, true},
		{"0GiB", 0, true},
		{"8388607TiB", 8388607 << 40, true},
		{"8388608TiB", 0, false}, // one more than fits
		{"99999999999999999999KiB", 0, false},
		{"-1MiB", 0, false},
		{"+1MiB", 0, false},
		{"64 MiB", 0, false},
		{"64MB", 0, false},
		{"MiB", 0, false},
		{"", 0, false},
	} {
		got, err := ParseBytes(c.text)
		if (err == nil) != c.ok || got != c.want {
			t.Errorf("%q: got %v, %v; want %v", c.text, int64(got), err, int64(c.want))
		}
	}
}

func TestParseBudget(t *testing.T) {
	for _, c := range []struct {
		text string
		want Money
		ok   bool
	}{
		{"30 EUR/month", Money{30_000_000, "EUR"}, true},
		{"0.000001 PLN/month", Money{1, "PLN"}, true},
		{"12.50 USD/month", Money{12_500_000, "USD"}, true},
		{"999999999999 EUR/month", Money{999_999_999_999_000_000, "EUR"}, true},
		{"9999999999999 EUR/month", Money{}, false},
		{"0.0000001 EUR/month", Money{}, false}, // below a millionth
		{"-1 EUR/month", Money{}, false},
		{"30 eur/month", Money{}, false},
		{"30EUR/month", Money{}, false},
		{"30 EUR", Money{}, false},
		{"30 EUR/year", Money{}, false},
		{"1,5 EUR/month", Money{}, false},
	} {
		got, err := ParseBudget(c.text)
		if (err == nil) != c.ok || got != c.want {
			t.Errorf("%q: got %+v, %v; want %+v", c.text, got, err, c.want)
		}
	}
}

func TestParseRate(t *testing.T) {
	for text, want := range map[string]Rate{"0.0000025": 2500, "0": 0, "1": 1e9, "999999999.999999999": 999_999_999_999_999_999} {
		if got, err := ParseRate(text); err != nil || got != want {
			t.Errorf("%q: got %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "-1", "1e-7", "0.0000000001", ".5", "1000000000000"} {
		if got, err := ParseRate(text); err == nil {
			t.Errorf("%q: got %v, want an error", text, got)
		}
	}
}

func TestAmountsReadAsTheyAreWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := Money{rapid.Int64Range(0, 999_999_999_999_999_999).Draw(t, "micros"), "EUR"}
		if got, err := ParseBudget(m.String() + "/month"); err != nil || got != m {
			t.Errorf("%v reads as %v, %v", m, got, err)
		}
		b := Bytes(rapid.Int64Range(0, math.MaxInt64/1024).Draw(t, "KiB")) * KiB
		if got, err := ParseBytes(b.String()); b != 0 && (err != nil || got != b) {
			t.Errorf("%v reads as %v, %v", b, got, err)
		}
		d := time.Duration(rapid.Int64Range(0, math.MaxInt64).Draw(t, "duration"))
		if got, err := ParseDuration(d.String()); err != nil || got != d {
			t.Errorf("%v reads as %v, %v", d, got, err)
		}
	})
}
