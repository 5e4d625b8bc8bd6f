package polder

import (
	"net/netip"
	"slices"
	"time"
)

// RegionName names a region: our unit of place and of law. It is a DNS label
// (a-z, 0-9, "-", at most 63 bytes).
type RegionName string

// ServiceName names a service. It is a DNS label.
type ServiceName string

// TenantName names a tenant. It is a DNS label.
type TenantName string

// Jurisdiction is a body of law that regions carry, such as "EU" or "FR": two
// or more capital letters, digits or "-". It means exactly the regions that
// list it, never a continent.
type Jurisdiction string

// Region is a place in which gateways and instances run.
type Region struct {
	Name          RegionName
	Title         string // for people; Name when the file gives none
	Jurisdictions []Jurisdiction
	Location      Location
	Listen        Listen
	Public        []netip.Addr // of the entrypoint, as callers reach it; without zones, each once
	Nodes         []Node       // Envoys on other machines, by name
	Clients       []string     // programs that call without an Envoy, by name: DNS labels, each once
	Join          []string     // gossip addresses (host:port) of other regions' peers
	Hold          Hold
	Peers         int // at most at one time: they share what the region may spend; default 1
}

// MaxRegionPeers bounds Region.Peers.
const MaxRegionPeers = 100

// Hold bounds what a peer holds for callers who wait for an instance.
type Hold struct {
	Cold      HoldLimits // of services without an instance
	Saturated HoldLimits // of services whose instances are all busy
}

// HoldLimits bound one kind of waiting. What is zero has the gateway's default.
type HoldLimits struct {
	Requests   int           // of all services; 1 to 1,000,000
	PerService int           // of one service; 1 to 1,000,000
	Memory     Bytes         // that they may take; at least 1 MiB
	Wait       time.Duration // of each; 100 ms to 1 h
}

// Location is a point on the earth, in degrees. Latitude is in [-90, 90],
// longitude in [-180, 180].
type Location struct{ Latitude, Longitude float64 }

// Listen says where a region's peer listens. Every address is host:port; an
// empty one means the command's default.
type Listen struct {
	HTTPS  string `json:"https"`  // public entrypoint
	HTTP   string `json:"http"`   // public redirect to HTTPS
	Peer   string `json:"peer"`   // mTLS between gateways, for passed-through connections
	Gossip string `json:"gossip"` // membership
	DNS    string `json:"dns"`    // answers for the services' hosts; "" means none, which is the default
	// XDS is where Envoys on other machines reach the control plane and the
	// activator, with mTLS. Empty means that nothing listens.
	XDS string `json:"xds,omitempty"`
	// Clients is where programs that call without an Envoy reach the activator,
	// with mTLS. Empty means that nothing listens.
	Clients string `json:"clients,omitempty"`
	// HTTP3 serves HTTP/3 on the port of HTTPS, over UDP, for services with
	// resident keys.
	HTTP3 HTTP3 `json:"http3,omitempty"`
}

// Naming is what the regions' authoritative DNS answers besides the services'
// addresses. The zero value means that each host is a zone of its own.
type Naming struct {
	Zones       []Host         // topmost names of the delegated zones, sorted; none means one for each host
	Nameservers []Host         // as the zones are delegated to; none means ns-REGION below each zone
	TTL         time.Duration  // whole seconds in [1 s, 1 h]; 0 means DefaultTTL
	Places      []CallersPlace // by prefix; no two have the same
}

// DefaultTTL is how long resolvers may keep what DNS answers.
const DefaultTTL = 20 * time.Second

// CallersPlace says where the callers with such addresses are.
type CallersPlace struct {
	Prefix   netip.Prefix // masked
	Location Location
}

// HTTP3 says whether an entrypoint serves HTTP/3.
type HTTP3 string

// The choices of HTTP3. The zero value counts as HTTP3Off.
const (
	HTTP3Off HTTP3 = "off"
	HTTP3On  HTTP3 = "on"
)

// Node is an Envoy of a region on another machine than the region's Polder.
type Node struct {
	Name string // a DNS label; also in the Envoy's certificate
	// Where it listens on its own machine, as in Listen. Empty means the region's.
	HTTPS, HTTP string
}

// Tenant owns services and pays for them.
type Tenant struct {
	Name   TenantName
	Quota  Quota
	Budget *Money // per calendar month; nil means unlimited
}

// Quota bounds what a tenant's instances may hold at one time.
type Quota struct {
	Instances int   // 0 means unlimited
	Memory    Bytes // 0 means unlimited
}

// Bytes is an amount of memory or data in bytes.
type Bytes int64

// Money is an amount in millionths of the currency unit, so that sums are exact.
type Money struct {
	Micros   int64
	Currency string // ISO 4217, "EUR"
}

// Rate is the price of one unit in billionths of the currency unit: fine
// enough for a GiB-second.
type Rate int64

// Prices is what running costs. All of its amounts are in one currency, which
// is that of every budget of the Model as well.
type Prices struct {
	Currency string // ISO 4217
	Regions  map[RegionName]Price
}

// Price is the price list of one region.
type Price struct {
	GiBSecond  Rate // one GiB of memory for one second
	VCPUSecond Rate // one processor for one second
	Request    Rate // one request served
}

// In is the price list of a region. Where it tells false, nothing that has a
// budget may be started there: its bill could not be counted.
func (p *Prices) In(region RegionName) (Price, bool) {
	if p == nil {
		return Price{}, false
	}
	price, ok := p.Regions[region]
	return price, ok
}

// Service is what a customer runs.
type Service struct {
	Name      ServiceName
	Tenant    TenantName // "" when the service has none
	Hosts     []Host
	Residency Residency
	Run       *Run // nil for a service that is only routed
	Endpoints map[RegionName][]netip.AddrPort
	Scale     Scale
	Protocol  Protocol
	Timeout   time.Duration // of one request including a start; default 60 s
	Cold      Cold
	At        Position // where the file declares it
}

// Host is a name that callers use: a lower-case DNS name, or "*." and one.
type Host string

// Protocol is what instances speak in clear behind the gateway.
type Protocol string

// The protocols of instances.
const (
	HTTP1 Protocol = "http/1.1"
	HTTP2 Protocol = "h2c" // HTTP/2 with prior knowledge, gRPC
)

// Residency is the owner's word on where a service may live and be decrypted,
// and where what is known of it may be kept.
type Residency struct {
	Allow     []Place   // as written: regions and jurisdictions, at least one
	Failover  Failover  // what may happen when no allowed region is alive
	Elsewhere Elsewhere // what a gateway outside does with a caller
	Keys      Keys      // how long a gateway that serves it holds its key
	Telemetry Telemetry // where records of its traffic may be kept
}

// Place is a region or a jurisdiction, as written in a policy.
type Place string

// FailoverClass says which regions may stand in for the allowed ones.
type FailoverClass string

// The failover classes. The zero value is not valid in a Model.
const (
	FailoverClosed FailoverClass = "closed" // none: callers get a labelled error
	FailoverListed FailoverClass = "listed" // the regions of Failover.Regions, in order
	// FailoverBreakGlass is listed, but only while the glass is broken.
	FailoverBreakGlass FailoverClass = "break-glass"
)

// Failover is a failover class with its regions.
type Failover struct {
	Class   FailoverClass
	Regions []RegionName // in order of preference; none for FailoverClosed
	Broken  *BrokenGlass // only for FailoverBreakGlass; nil while the glass is whole
}

// BrokenGlass is the owner's word that, from From until Until and no longer, the
// regions of a break-glass failover may stand in.
type BrokenGlass struct {
	From, Until time.Time // UTC; Until is after From, by MinBroken to MaxBroken
	Reason      string    // in the owner's words; not empty
}

// MinBroken is the shortest time for which the glass can be broken: the last
// seconds of it let nobody in any more.
const MinBroken = time.Minute

// MaxBroken is the longest that one breaking of the glass may last. Whoever needs
// longer says so once more.
const MaxBroken = 72 * time.Hour

// In tells whether the glass is broken at an instant. Nil never is.
func (b *BrokenGlass) In(now time.Time) bool {
	return b != nil && !now.Before(b.From) && now.Before(b.Until)
}

// Elsewhere is what a gateway outside the allowed regions does with a caller.
type Elsewhere string

// The choices of Elsewhere.
const (
	PassThrough Elsewhere = "pass-through" // TLS bytes go on unopened to an allowed region
	Refuse      Elsewhere = "refuse"       // the connection ends with a reason
)

// Keys says how long a gateway that serves a service holds its key in memory.
type Keys string

// The choices of Keys. The zero value counts as KeysOnDemand.
const (
	// KeysOnDemand: from a caller's ClientHello until the service sleeps. No TLS
	// session is resumed.
	KeysOnDemand Keys = "on-demand"
	// KeysResident: as long as an allowed region serves it. TLS sessions are resumed.
	KeysResident Keys = "resident"
)

// Kept says where records of a service's traffic may be kept.
type Kept string

// The choices of Kept. The zero value counts as KeptNowhere.
const (
	KeptServing Kept = "serving" // wherever it is served, regions that stand in included
	KeptAllowed Kept = "allowed" // only in allowed regions
	KeptNowhere Kept = "nowhere"
)

// Record is a kind of record about a service's traffic.
type Record string

// The kinds of records.
const (
	RecordAccessLog Record = "access-log" // a line per request
	RecordTraces    Record = "traces"     // spans, and what polder why tells
	RecordMetrics   Record = "metrics"    // figures that carry the service's name
	RecordProfiles  Record = "profiles"   // what the predictor learned of its arrivals
	RecordLedger    Record = "ledger"     // the ledger's lines that name it
)

// Records are all kinds of records.
func Records() []Record {
	return []Record{RecordAccessLog, RecordTraces, RecordMetrics, RecordProfiles, RecordLedger}
}

// Telemetry says, for each kind of record, where it may be kept. The zero value
// permits none anywhere.
type Telemetry struct {
	AccessLog, Traces, Metrics, Profiles, Ledger Kept
}

// Of is where records of a kind may be kept.
func (t Telemetry) Of(kind Record) Kept {
	switch kind {
	case RecordAccessLog:
		return t.AccessLog
	case RecordTraces:
		return t.Traces
	case RecordMetrics:
		return t.Metrics
	case RecordProfiles:
		return t.Profiles
	case RecordLedger:
		return t.Ledger
	}
	return KeptNowhere
}

// DefaultTelemetry is that of a policy which says nothing about it: what Polder
// needs to serve well is kept where the service is served, and no line per request
// is written.
func DefaultTelemetry() Telemetry {
	return Telemetry{AccessLog: KeptNowhere, Traces: KeptServing, Metrics: KeptServing, Profiles: KeptServing, Ledger: KeptServing}
}

// Run says how an instance is started.
type Run struct {
	Command     []string // program and arguments; a relative program is looked up in Directory
	Directory   string   // working directory; absolute if the file's folder was (see File)
	Environment map[string]string
	Listen      RunListen
	Ready       string // HTTP path that answers 2xx when ready; "" means that a TCP connect suffices
	Memory      Bytes  // limit per instance; 0 means none
}

// RunListen says how an instance learns where to listen.
type RunListen string

// The choices of RunListen.
const (
	ListenPort    RunListen = "port"    // $PORT names a free port on 127.0.0.1
	ListenInherit RunListen = "inherit" // file descriptor 3 is the listening socket (LISTEN_FDS=1)
)

// Scale bounds how many instances of a service run in one region, and for how long.
type Scale struct {
	Min         int           // always warm, in each allowed region; default 0
	Max         int           // most instances at one peer of a region; default 10
	Concurrency int           // requests in progress per instance; default 80
	KeepAlive   time.Duration // idle time before sleep; AutoKeepAlive lets the predictor decide
	Pause       time.Duration // idle time after which an instance is paused; AutoPause or NeverPause
	Prewarm     Prewarm
	Budget      *Money // per calendar month; nil means the tenant's
	Schedule    []Schedule
	ColdStart   Rate    // what a cold start is rated at; 0 means the shipped balance
	Shadow      *Shadow // a policy to score beside this one; nil for none
}

// Shadow is a policy that is scored beside the one that acts, and starts nothing.
type Shadow struct {
	KeepAlive time.Duration // as in Scale
	Prewarm   Prewarm
	ColdStart Rate
}

// Shadowed is the scale with the shadow's policy in place of its own. Without a
// shadow it is the scale itself.
func (s Scale) Shadowed() Scale {
	if x := s.Shadow; x != nil {
		s.KeepAlive, s.Prewarm, s.ColdStart, s.Shadow = x.KeepAlive, x.Prewarm, x.ColdStart, nil
	}
	return s
}

// AutoKeepAlive as Scale.KeepAlive leaves the idle time to the predictor.
const AutoKeepAlive time.Duration = -1

// AutoPause as Scale.Pause pauses an instance when that is the cheapest way to
// wait; NeverPause never does.
const (
	AutoPause  time.Duration = -1
	NeverPause time.Duration = -2
)

// Prewarm says whether instances start ahead of predicted arrivals.
type Prewarm string

// The choices of Prewarm.
const (
	PrewarmAuto Prewarm = "auto"
	PrewarmOff  Prewarm = "off"
)

// Position is a place in a configuration file. Line and Column count from 1.
type Position struct {
	File   string
	Line   int
	Column int
}

// Model is one validated configuration. Slices are sorted by name.
type Model struct {
	Regions  []Region
	Tenants  []Tenant
	Prices   *Prices // nil when the file has no price list; no budget is then possible
	Naming   Naming
	Services []Service
}

// Region finds a region by name.
func (m *Model) Region(name RegionName) (Region, bool) {
	i, ok := slices.BinarySearchFunc(m.Regions, name, func(r Region, n RegionName) int {
		return compare(r.Name, n)
	})
	if !ok {
		return Region{}, false
	}
	return m.Regions[i], true
}

// Tenant finds a tenant by name.
func (m *Model) Tenant(name TenantName) (Tenant, bool) {
	i, ok := slices.BinarySearchFunc(m.Tenants, name, func(t Tenant, n TenantName) int {
		return compare(t.Name, n)
	})
	if !ok {
		return Tenant{}, false
	}
	return m.Tenants[i], true
}

// Service finds a service by name.
func (m *Model) Service(name ServiceName) (Service, bool) {
	i, ok := slices.BinarySearchFunc(m.Services, name, func(s Service, n ServiceName) int {
		return compare(s.Name, n)
	})
	if !ok {
		return Service{}, false
	}
	return m.Services[i], true
}

// Carries tells whether the region carries the jurisdiction.
func (r Region) Carries(j Jurisdiction) bool { return slices.Contains(r.Jurisdictions, j) }

func compare[T ~string](a, b T) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}
