package polder

// The types below are the shape of the configuration file and nothing else:
// the decoder, the JSON Schema and docs/config.md are all made from them. The
// tags are
//
//	yaml                   the key
//	jsonschema:"required"  it must be there
//	jsonschema_description what it means, for editors and the reference
//	example                a value, in YAML; shown where something else was written
//	default                what holds when the key is absent, in YAML
//
// A named text type is a scalar with a syntax of its own: the decoder takes
// any scalar for it, so that its own check can say what is missing.

type configShape struct {
	Regions  map[string]regionShape  `yaml:"regions" jsonschema:"required" jsonschema_description:"The places in which gateways and instances run, by name. Names are DNS labels in lower case. The services' policies speak of these names and of the jurisdictions that they carry." example:"{ fr: { jurisdiction: [FR, EU], location: [48.86, 2.35] } }"`
	Tenants  map[string]tenantShape  `yaml:"tenants" jsonschema_description:"Who owns services and pays for them, by name." example:"{ acme: { quota: { instances: 50, memory: 16GiB } } }"`
	Prices   *pricesShape            `yaml:"prices" jsonschema_description:"What running costs. Needed as soon as anything has a budget." example:"{ currency: EUR, default: { gib-second: 0.0000025, vcpu-second: 0.000024, request: 0.0000002 } }"`
	DNS      *dnsShape               `yaml:"dns" jsonschema_description:"What the authoritative DNS of the regions answers. Regions with listen.dns serve it." example:"{ zones: [example.com] }"`
	Services map[string]serviceShape `yaml:"services" jsonschema_description:"What customers run, by name. Names are DNS labels in lower case." example:"{ billing: { hosts: [billing.example.com], residency: { allow: [fr] }, run: { command: [./billing] } } }"`
}

type regionShape struct {
	Title        string               `yaml:"title" jsonschema_description:"The region's name for people. The region's key when absent." example:"Paris"`
	Jurisdiction []string             `yaml:"jurisdiction" jsonschema_description:"The bodies of law that the region is under, in capital letters. A policy that allows EU means exactly the regions that list EU here, and never a continent." example:"[FR, EU]"`
	Location     []float64            `yaml:"location" jsonschema:"required,minItems=2,maxItems=2" jsonschema_description:"Latitude (-90 to 90) and longitude (-180 to 180) in degrees. Distances between regions rank those that may serve." example:"[48.86, 2.35]"`
	Listen       listenShape          `yaml:"listen" jsonschema_description:"Where a peer of the region listens. The command's defaults when absent." example:"{ https: \":443\" }"`
	Public       []string             `yaml:"public" jsonschema_description:"The IP addresses, without ports, at which callers reach the region's entrypoint. DNS answers with these." example:"[192.0.2.10, \"2001:db8::10\"]"`
	Nodes        map[string]nodeShape `yaml:"nodes" jsonschema_description:"The region's Envoys on other machines than its Polder's, by name. Each connects to listen.xds with a certificate of that name, made by polder node bootstrap; one that is not listed here gets nothing." example:"{ fr-2: { https: \"10.0.0.2:443\", http: \"10.0.0.2:80\" } }"`
	Clients      []string             `yaml:"clients" jsonschema_description:"The gRPC programs that call the region's services without an Envoy, by name: proxyless clients, which resolve xds:///HOST. Each connects to listen.xds with a certificate of its name, made by polder client bootstrap, and to listen.clients; one that is not listed here gets nothing." example:"[checkout, reports]"`
	Hold         holdShape            `yaml:"hold" jsonschema_description:"How much a peer of the region holds for callers who wait for an instance, before it refuses." example:"{ saturated: { requests: 500, wait: 5s } }"`
	Join         []string             `yaml:"join" jsonschema_description:"Gossip addresses (host:port) of peers to meet at the start: of other regions, and of this one." example:"[\"nl-1.example.net:7946\"]"`
	Peers        *int                 `yaml:"peers" jsonschema:"minimum=1,maximum=100" jsonschema_description:"How many peers the region has at one time, at most. Each keeps an equal part of what the region may spend, and asks nobody, so that the budgets hold when they do not hear of each other." example:"2" default:"1"`
}

type holdShape struct {
	Cold      holdLimitsShape `yaml:"cold" jsonschema_description:"For services without an instance. 4096 requests, 2048 of one service, 256MiB and 60s when absent." example:"{ requests: 1000, wait: 30s }"`
	Saturated holdLimitsShape `yaml:"saturated" jsonschema_description:"For services whose instances all have as many requests in progress as scale.concurrency lets them. 2048 requests, 512 of one service, 128MiB and 15s when absent." example:"{ requests: 500, wait: 5s }"`
}

type holdLimitsShape struct {
	Requests   *int         `yaml:"requests" jsonschema:"minimum=1,maximum=1000000" jsonschema_description:"Requests of all services together. No service has more than it leaves free." example:"500"`
	PerService *int         `yaml:"per-service" jsonschema:"minimum=1,maximum=1000000" jsonschema_description:"Requests of one service." example:"100"`
	Memory     memoryText   `yaml:"memory" jsonschema_description:"Memory that they may take: some 32KiB each, and 64KiB more for one with a body over HTTP/2." example:"64MiB"`
	Wait       durationText `yaml:"wait" jsonschema_description:"How long each may wait: 100ms to 1h. The service's timeout goes on meanwhile." example:"5s"`
}

type listenShape struct {
	HTTPS   string `yaml:"https" jsonschema_description:"The public entrypoint: address and port, or \":port\" for every address." example:"\":443\""`
	HTTP    string `yaml:"http" jsonschema_description:"The public redirect to HTTPS." example:"\":80\""`
	Peer    string `yaml:"peer" jsonschema_description:"Where the gateways of other regions connect (mTLS) to pass callers on." example:"\"10.0.0.1:7443\""`
	Gossip  string `yaml:"gossip" jsonschema_description:"Where peers exchange health, over TCP and UDP." example:"\"10.0.0.1:7946\""`
	DNS     string `yaml:"dns" jsonschema_description:"Where the region answers DNS queries for the services' hosts, over TCP and UDP. It answers none when absent." example:"\":53\""`
	XDS     string `yaml:"xds" jsonschema_description:"Where the region's Envoys on other machines (nodes) reach their control plane and the activator, with mTLS: an address that they can connect to. Nothing listens when absent." example:"\"10.0.0.1:7444\""`
	Clients string `yaml:"clients" jsonschema_description:"Where programs that call without an Envoy (regions.NAME.clients) reach the activator, with mTLS: an address that they can connect to. One of loopback says that they all run on this machine: then they are told of instances on loopback too. Nothing listens when absent." example:"\"10.0.0.1:7445\""`
	HTTP3   string `yaml:"http3" jsonschema:"enum=off,enum=on" jsonschema_description:"on: the entrypoint serves HTTP/3 as well, on the same port over UDP, for services with resident keys. Others, and callers who are passed on, stay with HTTP/2." example:"on" default:"off"`
}

type dnsShape struct {
	Zones       []string     `yaml:"zones" jsonschema_description:"The zones that are delegated to the regions, by their topmost names. When absent, each host is a zone of its own." example:"[example.com]"`
	Nameservers []string     `yaml:"nameservers" jsonschema_description:"The names of the regions' name servers, as the zones are delegated to. When absent, ns-REGION below each zone." example:"[ns1.example.net, ns2.example.net]"`
	TTL         durationText `yaml:"ttl" jsonschema_description:"How long resolvers may keep an answer: whole seconds, 1s to 1h. A lost region's callers go elsewhere no sooner." example:"20s" default:"20s"`
	Places      []placeShape `yaml:"places" jsonschema_description:"Where callers are, by their addresses. Whoever is in none of these counts as being where the asked region is." example:"[{ prefixes: [192.0.2.0/24], region: fr }]"`
}

type placeShape struct {
	Prefixes []string  `yaml:"prefixes" jsonschema:"required,minItems=1" jsonschema_description:"Prefixes of IP addresses, of callers and of resolvers. The longest one that holds an address decides." example:"[192.0.2.0/24, \"2001:db8::/32\"]"`
	Region   string    `yaml:"region" jsonschema_description:"The region near which they are. Either this or location." example:"fr"`
	Location []float64 `yaml:"location" jsonschema:"minItems=2,maxItems=2" jsonschema_description:"Where they are: latitude and longitude in degrees. Either this or region." example:"[45.76, 4.84]"`
}

type nodeShape struct {
	HTTPS string `yaml:"https" jsonschema_description:"Where this Envoy listens for callers, on its own machine. The region's listen.https when absent." example:"\"10.0.0.2:443\""`
	HTTP  string `yaml:"http" jsonschema_description:"Where it redirects to HTTPS. The region's listen.http when absent." example:"\"10.0.0.2:80\""`
}

type tenantShape struct {
	Quota  quotaShape `yaml:"quota" jsonschema_description:"The most that the tenant's instances may hold at one time in one region, in all of its services together. Unlimited when absent." example:"{ instances: 50, memory: 16GiB }"`
	Budget budgetText `yaml:"budget" jsonschema_description:"The most that the tenant's services may cost in a calendar month, in all regions. Each region that may serve one of them keeps to an equal share. Needs prices. Unlimited when absent." example:"200 EUR/month"`
}

type quotaShape struct {
	Instances *int       `yaml:"instances" jsonschema:"minimum=1" jsonschema_description:"Running instances." example:"50"`
	Memory    memoryText `yaml:"memory" jsonschema_description:"Sum of the memory limits of the running instances." example:"16GiB"`
}

type pricesShape struct {
	Currency string                `yaml:"currency" jsonschema:"required,pattern=^[A-Z]{3}$" jsonschema_description:"The currency of all prices, and so of all budgets: three capital letters (ISO 4217)." example:"EUR"`
	Default  priceShape            `yaml:"default" jsonschema_description:"The prices of a region that has none of its own." example:"{ gib-second: 0.0000025, vcpu-second: 0.000024, request: 0.0000002 }"`
	Regions  map[string]priceShape `yaml:"regions" jsonschema_description:"Prices of single regions. What is left out there is as in default." example:"{ nl: { gib-second: 0.000003 } }"`
}

type priceShape struct {
	GiBSecond  priceText `yaml:"gib-second" jsonschema_description:"One GiB of memory for one second." example:"0.0000025"`
	VCPUSecond priceText `yaml:"vcpu-second" jsonschema_description:"One processor for one second." example:"0.000024"`
	Request    priceText `yaml:"request" jsonschema_description:"One request served." example:"0.0000002"`
}

type serviceShape struct {
	Tenant    string              `yaml:"tenant" jsonschema_description:"The tenant that owns the service and whose quota and budget bound it." example:"acme"`
	Hosts     []string            `yaml:"hosts" jsonschema:"required,minItems=1" jsonschema_description:"The names that callers use: DNS names in lower case, or \"*.\" and one, for the names below it that no service claims by themselves. A host belongs to one service." example:"[billing.example.com]"`
	Residency residencyShape      `yaml:"residency" jsonschema:"required" jsonschema_description:"Where the service may run and be decrypted." example:"{ allow: [fr] }"`
	Run       *runShape           `yaml:"run" jsonschema_description:"How Polder starts an instance. Either this or endpoints." example:"{ command: [./billing] }"`
	Endpoints map[string][]string `yaml:"endpoints" jsonschema_description:"Addresses (IP:port), by region, of a service that is only routed and not started by Polder. Either this or run." example:"{ fr: [\"10.0.0.5:8080\"] }"`
	Scale     *scaleShape         `yaml:"scale" jsonschema_description:"How many instances, and for how long. Only with run." example:"{ max: 20, concurrency: 80 }"`
	Protocol  string              `yaml:"protocol" jsonschema:"enum=http/1.1,enum=h2c" jsonschema_description:"What instances speak behind the gateway: http/1.1, or h2c (HTTP/2 with prior knowledge, as gRPC needs)." example:"h2c" default:"http/1.1"`
	Cold      *coldShape          `yaml:"cold" jsonschema_description:"What a caller gets while the service has no instance. Whatever it is, the call wakes the service. Only with run." example:"{ answer: page, paths: { /api: hold } }"`
	Timeout   durationText        `yaml:"timeout" jsonschema_description:"The longest that one request may take, the start of an instance included. At most 24h." example:"60s" default:"60s"`
}

type residencyShape struct {
	Allow     []string       `yaml:"allow" jsonschema:"required,minItems=1" jsonschema_description:"Regions, and jurisdictions (which mean the regions that carry them, and no others). Nothing of the service leaves these." example:"[fr]"`
	Failover  failoverShape  `yaml:"failover" jsonschema_description:"What may happen when no allowed region is alive. closed: callers get a labelled error. listed: the regions of the list stand in, in that order. break-glass: those of its list do, but only while somebody has broken the glass, for a bounded time and with a reason." example:"{ listed: [nl] }" default:"closed"`
	Elsewhere string         `yaml:"elsewhere" jsonschema:"enum=pass-through,enum=refuse" jsonschema_description:"What a gateway outside the allowed regions does with a caller. pass-through: it passes the TLS bytes on, unopened, to an allowed region. refuse: it ends the connection." example:"refuse" default:"pass-through"`
	Keys      string         `yaml:"keys" jsonschema:"enum=on-demand,enum=resident" jsonschema_description:"How long a gateway that serves the service holds its private key. on-demand: from a caller's ClientHello until the service sleeps; TLS sessions are not resumed. resident: as long as an allowed region serves it; TLS sessions are resumed. A region that stands in always has it on demand." example:"resident" default:"on-demand"`
	Telemetry telemetryShape `yaml:"telemetry" jsonschema_description:"Where records of the service's traffic may be kept, by kind. serving: wherever it is served, regions that stand in included. allowed: in allowed regions only. nowhere: not at all." example:"{ access-log: allowed, profiles: nowhere }"`
}

type telemetryShape struct {
	AccessLog string `yaml:"access-log" jsonschema:"enum=nowhere,enum=allowed,enum=serving" jsonschema_description:"A line per request, in a file of the region. The audit holds the addresses in it against the law." example:"allowed" default:"nowhere"`
	Traces    string `yaml:"traces" jsonschema:"enum=serving,enum=allowed,enum=nowhere" jsonschema_description:"Spans, and what polder why tells of a request." example:"allowed" default:"serving"`
	Metrics   string `yaml:"metrics" jsonschema:"enum=serving,enum=allowed,enum=nowhere" jsonschema_description:"Figures that carry the service's name." example:"allowed" default:"serving"`
	Profiles  string `yaml:"profiles" jsonschema:"enum=serving,enum=allowed,enum=nowhere" jsonschema_description:"What the predictor learned of the service's arrivals, kept on disk." example:"allowed" default:"serving"`
	Ledger    string `yaml:"ledger" jsonschema:"enum=serving,enum=allowed,enum=nowhere" jsonschema_description:"The service's name and policy in the ledger. Elsewhere the ledger has a digest instead, by which whoever knows the name finds the lines." example:"allowed" default:"serving"`
}

// failoverShape is the word closed, or a mapping with listed or break-glass.
type failoverShape struct {
	Class string // as written, or the key of the mapping
	failoverListShape
}

// failoverListShape is the mapping form of a failover.
type failoverListShape struct {
	Listed     []string     `yaml:"listed" jsonschema:"minItems=1" jsonschema_description:"The regions that stand in when no allowed one is alive, in order of preference. Either this or break-glass." example:"[nl]"`
	BreakGlass []string     `yaml:"break-glass" jsonschema:"minItems=1" jsonschema_description:"The same, but only while the glass is broken." example:"[nl]"`
	Broken     *brokenShape `yaml:"broken" jsonschema_description:"Breaks the glass. It is whole again by itself. Only with break-glass." example:"{ from: 2026-05-01T08:00:00Z, until: 2026-05-01T20:00:00Z, reason: power cut in Paris }"`
}

type brokenShape struct {
	From   timeText `yaml:"from" jsonschema:"required" jsonschema_description:"When it begins, with time zone (RFC 3339)." example:"2026-05-01T08:00:00Z"`
	Until  timeText `yaml:"until" jsonschema:"required" jsonschema_description:"When it ends: a minute to 72h after from. Connections that are open then are closed." example:"2026-05-01T20:00:00Z"`
	Reason string   `yaml:"reason" jsonschema:"required" jsonschema_description:"Why, for the ledger and for whoever looks at the status." example:"power cut in Paris"`
}

type runShape struct {
	Command     []string          `yaml:"command" jsonschema:"required,minItems=1" jsonschema_description:"The program and its arguments. A program with a slash is looked up in directory, one without on the PATH. No shell is involved." example:"[./billing, --verbose]"`
	Directory   string            `yaml:"directory" jsonschema_description:"The working directory, relative to the folder of this file. That folder when absent." example:"examples/billing"`
	Environment map[string]string `yaml:"environment" jsonschema_description:"Additional environment variables. PORT, LISTEN_FDS, LISTEN_PID, LISTEN_FDNAMES and POLDER_* are Polder's own." example:"{ LOG_LEVEL: info }"`
	Listen      string            `yaml:"listen" jsonschema:"enum=port,enum=inherit" jsonschema_description:"How the program learns where to listen. port: the variable PORT names a free port on 127.0.0.1. inherit: file descriptor 3 is the listening socket (LISTEN_FDS=1, as systemd does), which is the fastest start." example:"inherit" default:"port"`
	Ready       string            `yaml:"ready" jsonschema_description:"An HTTP path that answers 2xx as soon as the instance can serve. When absent, an accepted TCP connection suffices." example:"/healthz"`
	Memory      memoryText        `yaml:"memory" jsonschema_description:"Memory limit of one instance, by which it is also metered. None when absent: then it is metered at 256MiB." example:"64MiB"`
}

type scaleShape struct {
	Min         *int            `yaml:"min" jsonschema:"minimum=0,maximum=1000" jsonschema_description:"Instances that are always warm, in each allowed region." example:"0" default:"0"`
	Max         *int            `yaml:"max" jsonschema:"minimum=1,maximum=1000" jsonschema_description:"The most instances at one peer of a region: each of several peers may have as many, once the service is busy. At least min, if that is more." example:"20" default:"10"`
	Concurrency *int            `yaml:"concurrency" jsonschema:"minimum=1,maximum=100000" jsonschema_description:"Requests in progress that one instance can take." example:"80" default:"80"`
	KeepAlive   keepAliveText   `yaml:"keep-alive" jsonschema_description:"How long an idle instance is kept: a duration of at most 30d, or auto for the predictor's choice." example:"10m" default:"auto"`
	Pause       pauseText       `yaml:"pause" jsonschema_description:"When an idle instance is paused instead of kept warm: it uses no processor and answers within milliseconds. A duration of idleness of at most 30d; auto, where memory can be paged out and that is the cheapest way to wait; or never. A paused instance is stopped when keep-alive says so." example:"30s" default:"auto"`
	Prewarm     string          `yaml:"prewarm" jsonschema:"enum=auto,enum=off" jsonschema_description:"Whether instances are started ahead of predicted requests." example:"off" default:"auto"`
	Budget      budgetText      `yaml:"budget" jsonschema_description:"The most that the service may cost in a calendar month, in all regions. Each region that may serve it, standby regions and those behind glass included, keeps to an equal share. Needs prices. The tenant's when absent." example:"30 EUR/month"`
	ColdStart   priceText       `yaml:"cold-start" jsonschema_description:"What it is worth that one caller does not wait for a start, in the currency of prices: a wish, which nothing is charged for. The predictor keeps an instance for a minute as long as the chance of a call, times this, exceeds what the minute costs. polder advise says what to write. The shipped balance when absent. Needs prices." example:"0.002"`
	Schedule    []scheduleShape `yaml:"schedule" jsonschema_description:"Times at which instances are warm because the owner knows that they will be called." example:"[{ cron: 0 8 * * 1-5, zone: Europe/Paris, for: 1h, min: 2 }]"`
	Shadow      *shadowShape    `yaml:"shadow" jsonschema_description:"A policy that is scored beside this one, on the same calls and without acting: polder status, polder advise and the metrics tell how many minutes began cold under each, and what each cost. What is absent is as above." example:"{ keep-alive: auto, prewarm: auto }"`
}

type shadowShape struct {
	KeepAlive keepAliveText `yaml:"keep-alive" jsonschema_description:"As in scale; that of scale when absent." example:"10m"`
	Prewarm   string        `yaml:"prewarm" jsonschema:"enum=auto,enum=off" jsonschema_description:"As in scale; that of scale when absent." example:"auto"`
	ColdStart priceText     `yaml:"cold-start" jsonschema_description:"As in scale; that of scale when absent. Needs prices." example:"0.002"`
}

type coldShape struct {
	Answer string            `yaml:"answer" jsonschema:"enum=hold,enum=accepted,enum=page,enum=reject" jsonschema_description:"hold: the call waits for an instance, and is answered by it. accepted: 202 with a link to the state of the start; the call itself is dropped, and its caller repeats it. page: browsers that open a page see one that waits and loads again by itself; all other calls are held. reject: 503 with retry-after." example:"accepted" default:"hold"`
	Paths  map[string]string `yaml:"paths" jsonschema_description:"Other answers for some paths and all below them; the longest that matches holds." example:"{ /api: hold, /jobs: accepted }"`
}

type scheduleShape struct {
	Cron string       `yaml:"cron" jsonschema:"required" jsonschema_description:"When it begins: minute, hour, day of the month, month and day of the week (0 is Sunday), each a number, a list, a range, * or */n. The instances are ready by then." example:"0 8 * * 1-5"`
	Zone string       `yaml:"zone" jsonschema_description:"The time zone of cron, by its IANA name; summer time is minded." example:"Europe/Paris" default:"UTC"`
	For  durationText `yaml:"for" jsonschema:"required" jsonschema_description:"How long it lasts: at least 1m, at most 7d." example:"1h"`
	Min  *int         `yaml:"min" jsonschema:"minimum=1,maximum=1000" jsonschema_description:"Instances meanwhile, in each allowed region. At most max." example:"2" default:"1"`
}

// Scalars with a syntax of their own. See schema.go for their patterns.
type (
	durationText  string // "30s", "7d"
	keepAliveText string // a duration or "auto"
	pauseText     string // a duration, "auto" or "never"
	memoryText    string // "64MiB"
	budgetText    string // "30 EUR/month"
	priceText     string // "0.0000025"
	timeText      string // "2026-05-01T08:00:00Z"
)
