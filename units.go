package polder

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// The units of memory. Files name them by the same letters.
const (
	KiB Bytes = 1 << 10
	MiB Bytes = 1 << 20
	GiB Bytes = 1 << 30
	TiB Bytes = 1 << 40
)

var byteUnits = []struct {
	name string
	size Bytes
}{{"TiB", TiB}, {"GiB", GiB}, {"MiB", MiB}, {"KiB", KiB}}

// String writes the amount in the largest unit that divides it: "64MiB".
func (b Bytes) String() string {
	for _, u := range byteUnits {
		if b != 0 && b%u.size == 0 {
			return strconv.FormatInt(int64(b/u.size), 10) + u.name
		}
	}
	return strconv.FormatInt(int64(b), 10) + "B"
}

// ParseBytes reads an amount of memory: a whole number and KiB, MiB, GiB or
// TiB, as in "64MiB".
func ParseBytes(s string) (Bytes, error) {
	for _, u := range byteUnits {
		digits, ok := strings.CutSuffix(s, u.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(digits, 10, 63)
		if err != nil || n > uint64(math.MaxInt64/u.size) {
			return 0, fmt.Errorf("%s is not a whole number of %s", quote(digits), u.name)
		}
		return Bytes(n) * u.size, nil
	}
	return 0, fmt.Errorf("%s has no unit of memory (KiB, MiB, GiB, TiB)", quote(s))
}

// String writes the amount as files do, less "/month": "30 EUR", "0.5 EUR".
func (m Money) String() string {
	sign, n := "", m.Micros
	if n < 0 {
		sign, n = "-", -n
	}
	s := fmt.Sprintf("%s%d.%06d", sign, n/1e6, n%1e6)
	return strings.TrimSuffix(strings.TrimRight(s, "0"), ".") + " " + m.Currency
}

var budgetSyntax = regexp.MustCompile(`^([0-9]{1,12})(?:\.([0-9]{1,6}))? ([A-Z]{3})/month$`)

// ParseBudget reads a sum of money per calendar month: "30 EUR/month".
func ParseBudget(s string) (Money, error) {
	m := budgetSyntax.FindStringSubmatch(s)
	if m == nil {
		return Money{}, fmt.Errorf("%s is not a sum of money per month", quote(s))
	}
	micros, err := decimal(m[1], m[2], 6)
	if err != nil {
		return Money{}, err
	}
	return Money{Micros: micros, Currency: m[3]}, nil
}

var rateSyntax = regexp.MustCompile(`^([0-9]{1,9})(?:\.([0-9]{1,9}))?$`)

// String writes the rate as files do: "0.0000025".
func (r Rate) String() string {
	s := fmt.Sprintf("%d.%09d", r/1e9, r%1e9)
	return strings.TrimSuffix(strings.TrimRight(s, "0"), ".")
}

// ParseRate reads the price of one unit: "0.0000025".
func ParseRate(s string) (Rate, error) {
	m := rateSyntax.FindStringSubmatch(s)
	if m == nil {
		return 0, fmt.Errorf("%s is not a price: at most nine digits on each side of the point, no sign, no exponent", quote(s))
	}
	n, err := decimal(m[1], m[2], 9)
	return Rate(n), err
}

// decimal is whole.fraction in units of 10^-digits, without rounding.
func decimal(whole, fraction string, digits int) (int64, error) {
	return strconv.ParseInt(whole+fraction+strings.Repeat("0", digits-len(fraction)), 10, 64)
}

var dayPrefix = regexp.MustCompile(`^([0-9]{1,5})d`)

// ParseDuration reads Go's syntax of durations, which it extends by whole days
// of 24 hours in front: "30s", "1h30m", "7d", "1d12h".
func ParseDuration(s string) (time.Duration, error) {
	var days time.Duration
	rest := s
	if m := dayPrefix.FindStringSubmatch(s); m != nil {
		n, err := strconv.Atoi(m[1])
		if err != nil {
			return 0, err
		}
		days, rest = time.Duration(n)*24*time.Hour, s[len(m[0]):]
		if rest == "" {
			return days, nil
		}
	}
	d, err := time.ParseDuration(rest)
	if err != nil || (days > 0 && strings.HasPrefix(rest, "-")) {
		return 0, fmt.Errorf("%s is not a duration", quote(s))
	}
	if sum := days + d; sum >= days || d < 0 {
		return sum, nil
	}
	return 0, fmt.Errorf("%s is too long", quote(s))
}

// quote shows a text of the file in a message, cut when it is long.
func quote(s string) string {
	const most = 60
	if r := []rune(s); len(r) > most {
		s = string(r[:most]) + "…"
	}
	return strconv.Quote(s)
}
