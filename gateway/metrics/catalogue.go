package metrics

// entry is one metric that is read when somebody asks.
type entry struct {
	name   string // OpenTelemetry's; Prometheus' has "_" for "." and a suffix for the unit and counters
	unit   string // UCUM, or a word in braces that counts
	help   string // names its labels in backquotes
	counts bool   // only grows, until Polder restarts
	tell   func(r *Reading, value value)
}

// of makes the tell function of a metric with one number per service.
func of(number func(s *Service) int64) func(*Reading, value) {
	return func(r *Reading, value value) {
		for i := range r.Services {
			value(number(&r.Services[i]), "service", string(r.Services[i].Name))
		}
	}
}

// scored makes the tell function of a metric with one number per policy that is
// scored.
func scored(number func(s Scored) int64) func(*Reading, value) {
	return func(r *Reading, value value) {
		for i := range r.Services {
			for _, s := range r.Services[i].Scored {
				value(number(s), "service", string(r.Services[i].Name), "policy", s.Policy)
			}
		}
	}
}

// catalogue lists them all.
func catalogue(o Options) []entry {
	return append(append(serviceMetrics(), holdingMetrics()...), regionMetrics(o)...)
}

func serviceMetrics() []entry {
	return []entry{
		{"polder.requests", "{request}", "Requests that Envoy sent on, by `service` and `path`: direct to an instance, or to the activator", true,
			func(r *Reading, value value) {
				for _, s := range r.Services {
					value(int64(s.Direct), "service", string(s.Name), "path", "direct")
					value(int64(s.Activated), "service", string(s.Name), "path", "activator")
				}
			}},
		{"polder.requests.failed", "{request}", "Requests answered with 5xx, or not at all, by `service`", true, of(func(s *Service) int64 { return int64(s.Failed) })},
		{"polder.requests.cold", "{request}", "Requests that waited for an instance to start, by `service`", true, of(func(s *Service) int64 { return int64(s.Cold) })},
		{"polder.requests.saturated", "{request}", "Requests that waited because every ready instance was busy, by `service`", true, of(func(s *Service) int64 { return int64(s.Waited) })},
		{"polder.saturated", "{service}", "1 while every ready instance of the `service` is busy and new requests wait, else 0", false, of(func(s *Service) int64 {
			if s.Saturated {
				return 1
			}
			return 0
		})},
		{"polder.requests.unanswered", "{request}", "Requests at the activator that no instance answered, or not completely, by `service` and `reason` (see cold-start.md)", true,
			func(r *Reading, value value) {
				for _, s := range r.Services {
					for reason, n := range s.Unanswered {
						value(int64(n), "service", string(s.Name), "reason", reason)
					}
				}
			}},
		{"polder.requests.told", "{request}", "Requests whose callers were told at once to come back, by `service` and `answer`: accepted or page", true,
			func(r *Reading, value value) {
				for _, s := range r.Services {
					for answer, n := range s.Brief {
						value(int64(n), "service", string(s.Name), "answer", answer)
					}
				}
			}},
		{"polder.requests.open", "{request}", "Requests in progress at Envoy's last load report, by `service`", false, of(func(s *Service) int64 { return int64(s.Open) })},
		{"polder.requests.waiting", "{request}", "Requests that wait for an instance now, by `service`", false, of(func(s *Service) int64 { return int64(s.Waiting) })},
		{"polder.cost.spent", "{millionth}", "Money spent this month, in millionths of the price list's currency, by `service`", false, of(func(s *Service) int64 { return s.Spent })},
		{"polder.cost.budget", "{millionth}", "What may be spent this month in this region, likewise, by `service`; 0 without a budget of its own", false, of(func(s *Service) int64 { return s.Budget })},
		{"polder.cost.rung", "{rung}", "Step of the ladder by which a budget runs out, by `service`: 0 enough money, 1 less prewarm, 2 shorter keep-alive, 3 fewer instances, 4 held, 5 refused", false, of(func(s *Service) int64 { return int64(s.Rung) })},
		{"polder.policy.minutes", "{minute}", "Minutes with calls that were scored since a service has its shadow, by `service` and `policy`: acting or shadow", true, scored(func(s Scored) int64 { return int64(s.Active) })},
		{"polder.policy.cold", "{minute}", "Of these minutes, those that began without an instance, or would have, likewise", true, scored(func(s Scored) int64 { return int64(s.Cold) })},
		{"polder.policy.starts", "{start}", "Instances that a policy started, or would have, likewise", true, scored(func(s Scored) int64 { return int64(s.Starts) })},
		{"polder.policy.warm", "s", "Time of instances under a policy, likewise", true, scored(func(s Scored) int64 { return s.Warm })},
		{"polder.policy.idle", "s", "Of that time, what passed in minutes without calls, likewise", true, scored(func(s Scored) int64 { return s.Idle })},
		{"polder.policy.cost", "{millionth}", "What that time cost, or would have, in millionths of the price list's currency, likewise", true, scored(func(s Scored) int64 { return s.Cost })},
		{"polder.instance.starts", "{start}", "Instances that were started, by `service`", true, of(func(s *Service) int64 { return int64(s.Starts) })},
		{"polder.instance.crashes", "{crash}", "Ready instances that ended by themselves, by `service`", true, of(func(s *Service) int64 { return int64(s.Crashes) })},
		{"polder.instance.resumes", "{resume}", "Paused instances that went on, by `service`", true, of(func(s *Service) int64 { return int64(s.Resumes) })},
		{"polder.instances", "{instance}", "Instances now, by `service` and `state`: starting, ready, draining or paused", false,
			func(r *Reading, value value) {
				for _, s := range r.Services {
					value(int64(s.Starting), "service", string(s.Name), "state", "starting")
					value(int64(s.Ready), "service", string(s.Name), "state", "ready")
					value(int64(s.Draining), "service", string(s.Name), "state", "draining")
					value(int64(s.Paused), "service", string(s.Name), "state", "paused")
				}
			}},
	}
}

func holdingMetrics() []entry {
	held := func(number func(h Holding) int64) func(*Reading, value) {
		return func(r *Reading, value value) {
			for _, h := range r.Holding {
				value(number(h), "class", h.Class)
			}
		}
	}
	return []entry{
		{"polder.held.requests", "{request}", "Requests that the activator holds, by `class`: cold or saturated", false, held(func(h Holding) int64 { return int64(h.Requests) })},
		{"polder.held.requests.limit", "{request}", "The most that it may hold, by `class`", false, held(func(h Holding) int64 { return int64(h.MaxRequests) })},
		{"polder.held.memory", "By", "Memory charged to held requests, by `class`", false, held(func(h Holding) int64 { return int64(h.HeldBytes) })},
		{"polder.held.memory.limit", "By", "The most that may be charged, by `class`", false, held(func(h Holding) int64 { return int64(h.MaxBytes) })},
		{"polder.forwarding", "{request}", "Requests that the activator forwards now", false, one(func(r *Reading) int64 { return int64(r.Forwarded) })},
	}
}

// one makes the tell function of a metric with one number.
func one(number func(r *Reading) int64) func(*Reading, value) {
	return func(r *Reading, value value) { value(number(r)) }
}

// each makes the tell function of a metric with one number for each value of a label.
func each(label string, numbers func(r *Reading) map[string]uint64) func(*Reading, value) {
	return func(r *Reading, value value) {
		for of, n := range numbers(r) {
			value(int64(n), label, of)
		}
	}
}

func regionMetrics(o Options) []entry {
	discovery := func(number func(d Discovery) uint64) func(*Reading, value) {
		return func(r *Reading, value value) {
			for _, d := range r.Discovery {
				value(int64(number(d)), "type", d.Type)
			}
		}
	}
	return []entry{
		{"polder.xds.pushes", "{response}", "Responses sent to Envoy, by `type` of resource", true, discovery(func(d Discovery) uint64 { return d.Pushed })},
		{"polder.xds.acks", "{response}", "Responses that Envoy accepted, by `type`", true, discovery(func(d Discovery) uint64 { return d.Accepted })},
		{"polder.xds.rejections", "{response}", "Responses that Envoy rejected, by `type`", true, discovery(func(d Discovery) uint64 { return d.Rejected })},
		{"polder.xds.rejected", "{resource}", "Resources whose present version Envoy does not accept", false, one(func(r *Reading) int64 { return int64(r.Rejected) })},
		{"polder.nodes", "{node}", "Envoys that follow the control plane", false, one(func(r *Reading) int64 { return int64(r.Nodes) })},
		{"polder.envoy.restarts", "{restart}", "Restarts of the region's Envoy", true, one(func(r *Reading) int64 { return int64(r.Restarts) })},
		{"polder.peers", "{peer}", "Peers in the membership, by `peer_region` and `health`: healthy or unhealthy", false,
			func(r *Reading, value value) {
				for _, p := range r.Peers {
					value(int64(p.Healthy), "peer_region", string(p.Region), "health", "healthy")
					value(int64(p.Unhealthy), "peer_region", string(p.Region), "health", "unhealthy")
				}
			}},
		{"polder.gossip.packets", "{packet}", "Packets sent to other peers", true, one(func(r *Reading) int64 { return int64(r.Gossip.Packets) })},
		{"polder.gossip.sent", "By", "Bytes sent in packets, and both ways over streams that this peer opened", true, one(func(r *Reading) int64 { return int64(r.Gossip.Bytes) })},
		{"polder.gossip.dropped", "{message}", "Messages and rows of other peers that were dropped, by `reason`", true,
			func(r *Reading, value value) {
				for reason, n := range r.Gossip.Dropped {
					value(int64(n), "reason", reason)
				}
			}},
		{"polder.dns.queries", "{query}", "DNS queries, by `transport`: udp or tcp", true, each("transport", func(r *Reading) map[string]uint64 { return r.DNS.Queries })},
		{"polder.dns.answers", "{answer}", "DNS answers, by response `code`", true, each("code", func(r *Reading) map[string]uint64 { return r.DNS.Answers })},
		{"polder.dns.truncated", "{answer}", "DNS answers that told the caller to come over TCP", true, one(func(r *Reading) int64 { return int64(r.DNS.Truncated) })},
		{"polder.dns.limited", "{query}", "DNS packets that were not answered, and connections that were closed, of networks that sent too many, by `transport`", true, each("transport", func(r *Reading) map[string]uint64 { return r.DNS.Limited })},
		{"polder.dns.malformed", "{packet}", "DNS packets that are no query", true, one(func(r *Reading) int64 { return int64(r.DNS.Malformed) })},
		{"polder.dns.wakes", "{query}", "DNS queries that announced a request to this region, by `fate`: heard, or ignored beyond the rate", true, each("fate", func(r *Reading) map[string]uint64 { return r.DNS.Wakes })},
		{"polder.config.faults", "{fault}", "Faults of the configuration that was read last", false, one(func(r *Reading) int64 { return int64(r.Faults) })},
		{"polder.config.loaded", "s", "When the configuration in force was read, in seconds since 1970", false, one(func(r *Reading) int64 { return r.Loaded.Unix() })},
		{"polder.build", "", "Always 1; the `version` of Polder", false, func(_ *Reading, value value) { value(1, "version", o.Version) }},
	}
}
