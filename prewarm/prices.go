package prewarm

import (
	"fmt"
	"math"
	"time"

	"github.com/polder/polder"
)

// Nanos is an amount in billionths of the currency unit: fine enough for a
// GiB-second, and 9 × 10⁹ units fit.
type Nanos int64

// Format writes the amount with its currency, rounded to two significant
// digits below a cent: "0.000019 EUR", "12.35 EUR".
func (n Nanos) Format(currency string) string {
	if currency == "" {
		currency = "EUR"
	}
	v := float64(n) / 1e9
	if a := math.Abs(v); a == 0 || a >= 0.01 {
		return fmt.Sprintf("%.2f %s", v, currency)
	}
	digits := 1 - int(math.Floor(math.Log10(math.Abs(v))))
	return fmt.Sprintf("%.*f %s", digits, v, currency)
}

// Money converts to the exact money of the root package, rounding up: a meter
// never shows less than was used.
func (n Nanos) Money(currency string) polder.Money {
	m := int64(n) / 1000
	if int64(n)%1000 > 0 {
		m++
	}
	return polder.Money{Micros: m, Currency: currency}
}

// Prices is the price list of one region. The zero value means that there is
// none: decisions then weigh by the shipped default instead of by money.
type Prices struct {
	Currency   string // ISO 4217; "" means EUR
	GiBSecond  Nanos  // one GiB of memory for one second
	VCPUSecond Nanos  // one processor for one second
	Request    Nanos  // one request served
	// ColdStart is what it is worth to the owner that one caller does not
	// wait for a start. It is a wish, not an expense: no meter counts it.
	ColdStart Nanos
	// Start is what a start costs by itself: processor time, wear on whatever
	// it loads from. With it, decisions avoid starts that no call follows soon
	// and stops that a start follows soon. It is a wish too.
	Start Nanos
}

// Footprint is what one instance takes while it is warm.
type Footprint struct {
	Memory polder.Bytes
	VCPU   float64 // processors used while idle; usually 0
}

// Warm is the cost of keeping one instance warm for d. It is rounded up to a
// whole nano and saturates instead of overflowing.
func (p Prices) Warm(f Footprint, d time.Duration) Nanos {
	perSecond := float64(f.Memory)/(1<<30)*float64(p.GiBSecond) + f.VCPU*float64(p.VCPUSecond)
	v := math.Ceil(perSecond * d.Seconds())
	switch {
	case !(v > 0):
		return 0
	case v >= math.MaxInt64:
		return math.MaxInt64
	}
	return Nanos(v)
}
