package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway/books"
	"github.com/polder/polder/prewarm"
	"github.com/polder/polder/prewarm/budget"
	"github.com/polder/polder/regions/law"
)

// booksEvery is how often the books are brought to disk: what a crash forgets
// of money that was spent, and no reservation of what runs.
const booksEvery = time.Second

// CostReport is what services cost in one region.
type CostReport struct {
	Region    polder.RegionName `json:"region"`
	Currency  string            `json:"currency,omitempty"` // "" without a price list
	Now       time.Time         `json:"now"`
	MonthEnds time.Time         `json:"month_ends"`
	Prices    prewarm.Prices    `json:"prices"`
	Tenants   []Account         `json:"tenants"`
	Services  []Account         `json:"services"`
}

// Account is the money of one service or tenant in one region. Amounts are in
// billionths of the currency unit.
type Account struct {
	Service  polder.ServiceName `json:"service,omitempty"` // "" for a tenant's own
	Tenant   polder.TenantName  `json:"tenant,omitempty"`
	Budget   *polder.Money      `json:"budget,omitempty"` // of the month, in all regions
	Quota    polder.Quota       `json:"quota"`
	Rung     string             `json:"rung,omitempty"`     // of the ladder, in words
	Step     prewarm.Rung       `json:"step"`               // likewise, 0 to 5
	Standing string             `json:"standing,omitempty"` // which account it comes from
	budget.Statement
}

// Cost reports what every service and tenant costs in this region.
func (r *Region) Cost(ctx context.Context) (CostReport, error) {
	var report CostReport
	if !r.reconciler.ask(ctx, func(now time.Time) { report = r.reconciler.accountsOf(now) }) {
		return report, fmt.Errorf("cost of the services: %w", ctx.Err())
	}
	return report, nil
}

// ErrNotRecorded says that the region has no record of a service's calls.
var ErrNotRecorded = errors.New("has no record of its calls in this region")

// CallRecord is what a region knows of a service's past calls, with all that is
// needed to say what another policy would have made of them.
type CallRecord struct {
	Region    polder.RegionName `json:"region"`
	Scale     polder.Scale      `json:"scale"`
	Prices    prewarm.Prices    `json:"prices"`
	Footprint prewarm.Footprint `json:"footprint"`
	StartUp   time.Duration     `json:"start_up"` // p95
	Measured  bool              `json:"measured"` // whether StartUp is
	Shadow    *ShadowStatus     `json:"shadow,omitempty"`
	books.Record
}

// Calls returns the calls of a service that were recorded here. A region that
// may not serve it has none.
func (r *Region) Calls(ctx context.Context, name polder.ServiceName) (CallRecord, error) {
	record := CallRecord{Region: r.options.Region}
	known := false
	if !r.reconciler.ask(ctx, func(now time.Time) {
		s := r.reconciler.services[name]
		if known = s != nil && s.spec.Run != nil && s.approved.Verdict() == law.Serve; !known {
			return
		}
		record.Scale, record.Prices, record.Footprint = s.spec.Scale, r.reconciler.spending.book.Prices(), budget.FootprintOf(s.spec)
		record.StartUp, record.Measured = s.state.StartUp()
		record.StartUp, record.Shadow = s.tempo.shrink(record.StartUp), s.shadowStatus()
	}) {
		return record, fmt.Errorf("calls of service %s: %w", name, ctx.Err())
	}
	if !known {
		return record, fmt.Errorf("service %s %w", name, ErrNotRecorded)
	}
	r.writeBooks(ctx, true) // what the open minute has brought counts
	var err error
	record.Record, err = r.books.Calls(name, time.Now())
	return record, err
}

// keepBooks brings the books to disk now and then, and reads the instances'
// processor time.
func (r *Region) keepBooks(ctx context.Context) error {
	ticker := time.NewTicker(booksEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			used := r.manager.CPU()
			r.reconciler.post(ctx, func(now time.Time) { r.reconciler.computed(now, used) })
			r.writeBooks(ctx, false)
			r.forgetCalls(ctx)
		case <-ctx.Done():
			return nil
		}
	}
}

// writeBooks brings what changed to disk; all means the open minutes too.
func (r *Region) writeBooks(ctx context.Context, all bool) {
	r.booksMu.Lock()
	defer r.booksMu.Unlock()
	var entry books.Entry
	if !r.reconciler.ask(ctx, func(now time.Time) { entry = r.reconciler.spending.unwritten(now, all) }) {
		return
	}
	if err := r.books.Write(entry); err != nil {
		r.options.Log.Error("what services have spent is not stored", "reason", err)
		r.reconciler.post(ctx, func(time.Time) { r.reconciler.spending.failed(entry) })
	}
}

// forgetCalls drops the calls of services that may not be kept here any more.
func (r *Region) forgetCalls(ctx context.Context) {
	model := r.config.snapshot()
	if model == r.booksModel {
		return
	}
	var may map[polder.ServiceName]bool
	if !r.reconciler.ask(ctx, func(time.Time) { may = r.reconciler.mayRecord() }) {
		return
	}
	if err := r.books.Forget(func(name polder.ServiceName) bool { return may[name] }); err != nil {
		r.options.Log.Error("calls of services that left are still on record", "reason", err)
		return
	}
	r.booksModel = model
}

// openBooks brings back what an earlier Polder wrote. Nothing runs yet.
func (r *Region) openBooks() (err error) {
	if r.books, err = books.Open(r.layout.Books()); r.books == nil {
		return fmt.Errorf("region %s: %w", r.options.Region, err)
	}
	accounts, leases, unread := r.books.Read()
	if err = errors.Join(err, unread); err != nil {
		r.options.Log.Error("the books are not whole", "reason", err)
	}
	r.reconciler.spending.restore(accounts, leases)
	return nil
}

// closeBooks ends the use of the books.
func (r *Region) closeBooks() {
	if err := r.books.Close(); err != nil {
		r.options.Log.Error("the books were not closed", "reason", err)
	}
}

// costRoutes are what commands ask about money and callers.
func costRoutes(mux *http.ServeMux, source apiSource) {
	mux.HandleFunc("GET /v1/cost", answer(apiTimeout, source.Cost))
	mux.HandleFunc("GET /v1/calls", func(w http.ResponseWriter, r *http.Request) {
		answer(apiTimeout, func(ctx context.Context) (CallRecord, error) {
			return source.Calls(ctx, polder.ServiceName(r.FormValue("service")))
		})(w, r)
	})
	mux.HandleFunc("POST /v1/notice", noticeHandler(source.Noticed))
}
