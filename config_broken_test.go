package polder

import (
	"fmt"
	"strings"
)

// mark stands in the texts below where a fault should be found.
const mark = "‸"

// wanted is a fault that a case expects.
type wanted struct {
	path    string
	message string
	fix     string
	same    bool // at the mark of the one before
}

// brokenCase is one kind of mistake. Either files are given whole, or a text
// that follows the regions and tenants of header.
type brokenCase struct {
	name  string
	text  string            // "probe" is the service that is wrong
	files map[string]string // instead of text
	fatal bool              // nothing of the configuration can be used
	want  []wanted          // in order of their marks
}

const header = `regions:
  fr: { title: Paris, jurisdiction: [FR, EU], location: [48.86, 2.35] }
  nl: { title: Amsterdam, jurisdiction: [NL, EU], location: [52.37, 4.90] }
  pl: { title: Warsaw, jurisdiction: [PL, EU], location: [52.23, 21.01] }
tenants:
  acme: { quota: { instances: 50, memory: 16GiB } }
`

const steady = `services:
  steady: { hosts: [steady.example.com], residency: { allow: [nl] }, run: { command: [./steady] } }
`

// good is what was in force before the mistake.
const good = header + steady + `  probe: { tenant: acme, hosts: [probe.example.com, "*.probe.example.com"], residency: { allow: [fr, nl] }, run: { command: [./probe] } }
`

// service is a configuration with one service more, all of it on one line
// unless the text has more.
func service(text string) string { return header + steady + "  probe: " + text + "\n" }

// probe is a service with one key more.
func probe(text string) string {
	return service("{ hosts: [probe.example.com], residency: { allow: [fr] }, run: { command: [./probe] }, " + text + " }")
}

// tenants is a configuration with other tenants, and a service of acme.
func tenants(text string) string {
	regions, _, _ := strings.Cut(header, "tenants:")
	return regions + text + "\n" + steady + "  probe: { tenant: acme, hosts: [probe.example.com], residency: { allow: [fr] }, run: { command: [./probe] } }\n"
}

// broken is a service whose failover is break-glass, with one key more.
func broken(text string) string {
	return header + steady + "  probe: { hosts: [probe.example.com], residency: { allow: [fr], failover: { break-glass: [nl], " + text + " } }, run: { command: [./probe] } }\n"
}

func faults(path, message, fix string) []wanted {
	return []wanted{{path: path, message: message, fix: fix}}
}

func brokenCases() []brokenCase {
	residency := func(text string) string {
		return service("{ hosts: [probe.example.com], run: { command: [./probe] }, residency: " + text + " }")
	}
	hosts := func(text string) string {
		return service("{ residency: { allow: [fr] }, run: { command: [./probe] }, hosts: " + text + " }")
	}
	run := func(text string) string {
		return service("{ hosts: [probe.example.com], residency: { allow: [fr] }, run: " + text + " }")
	}
	endpoints := func(text string) string {
		return service("{ hosts: [probe.example.com], residency: { allow: [fr, nl] }, endpoints: " + text + " }")
	}
	region := func(text string) string {
		return strings.Replace(header, "regions:\n", "regions:\n  de: "+text+"\n", 1) + steady
	}
	const priced = "prices: { currency: EUR, default: { gib-second: 0.0000025, vcpu-second: 0.000024, request: 0 } }\n"
	return []brokenCase{
		// Keys and types.
		{name: "unknown key", text: probe("‸protocoll: h2c"),
			want: faults("services.probe.protocoll", `unknown key "protocoll"`, "write protocol")},
		{name: "unknown key in another spelling", text: probe("scale: { ‸keepAlive: 5m }"),
			want: faults("services.probe.scale.keepAlive", `unknown key "keepAlive"`, "write keep-alive")},
		{name: "unknown key like no other", text: probe("scale: { ‸colour: red }"),
			want: faults("services.probe.scale.colour", `unknown key "colour"`, "remove it, or use one of: min, max, concurrency, keep-alive, pause, prewarm, budget, cold-start, schedule, shadow")},
		{name: "unknown key at the top", text: header + "‸service: {}\n" + steady, fatal: true,
			want: faults("service", `unknown key "service"`, "write services")},
		{name: "duplicate key", text: probe("timeout: 5s, ‸timeout: 6s"),
			want: faults("services.probe.timeout", `"timeout" is there twice; the first is at polder.yaml:9:97`, "remove one of the two")},
		{name: "duplicate section", text: header + steady + "‸services: {}\n", fatal: true,
			want: faults("services", `"services" is there twice; the first is at polder.yaml:7:1`, "remove one of the two")},
		{name: "duplicate service", text: probe("timeout: 5s") + "  ‸probe: { hosts: [other.example.com] }\n",
			want: faults("services.probe", `"probe" is there twice; the first is at polder.yaml:9:3`, "remove one of the two")},
		{name: "text where a number belongs", text: probe("scale: { max: ‸many }"),
			want: faults("services.probe.scale.max", `is the text "many"; expected a whole number`, "write max: 20")},
		{name: "fraction where a whole number belongs", text: probe("scale: { max: ‸1.5 }"),
			want: faults("services.probe.scale.max", `is the number 1.5; expected a whole number`, "write max: 20")},
		{name: "number where text belongs", text: run("{ command: [./probe, ‸8080] }"),
			want: faults("services.probe.run.command[1]", "is the number 8080; expected text", `write "8080", in quotes`)},
		{name: "truth value where text belongs", text: run("{ command: [./probe], environment: { DEBUG: ‸true } }"),
			want: faults("services.probe.run.environment.DEBUG", "is the truth value true; expected text", `write "true", in quotes`)},
		{name: "text where a list belongs", text: hosts("‸probe.example.com"),
			want: faults("services.probe.hosts", `is the text "probe.example.com"; expected a list`, "write hosts: [probe.example.com]")},
		{name: "command line where a list belongs", text: run("{ command: ‸./probe --verbose }"),
			want: faults("services.probe.run.command", `is the text "./probe --verbose"; expected a list`, "write command: [./probe, --verbose]")},
		{name: "list where a mapping belongs", text: residency("‸[fr]"),
			want: faults("services.probe.residency", "is a list; expected a mapping", "write residency: { allow: [fr] }")},
		{name: "mapping where text belongs", text: probe("timeout: ‸{ seconds: 5 }"),
			want: faults("services.probe.timeout", "is a mapping; expected text", "write timeout: 60s")},
		{name: "nothing where a mapping belongs", text: header + steady + "  ‸probe:\n",
			want: faults("services.probe", "is empty; expected a mapping", "write probe: { hosts: [billing.example.com], residency: { allow: [fr] }, run: { command: [./billing] } }")},
		{name: "nothing where the services belong", text: header + "‸services:\n", fatal: true,
			want: faults("services", "is empty; expected a mapping", "write services: { billing: { hosts: [billing.example.com], residency: { allow: [fr] }, run: { command: [./billing] } } }")},
		{name: "missing keys", text: header + steady + "  ‸probe: { ‸run: { directory: x } }\n",
			want: []wanted{
				{path: "services.probe", message: "hosts is missing", fix: "write hosts: [billing.example.com]"},
				{path: "services.probe", message: "residency is missing", fix: "write residency: { allow: [fr] }", same: true},
				{path: "services.probe.run", message: "command is missing", fix: "write command: [./billing, --verbose]"}}},

		// Names.
		{name: "name of a service", text: header + steady + "  ‸My_Probe: { hosts: [p.example.com], residency: { allow: [fr] }, run: { command: [./p] } }\n",
			want: faults("services.My_Probe", `"My_Probe" is not a name for a service`, "write my-probe")},
		{name: "unknown tenant", text: probe("tenant: ‸acne"),
			want: faults("services.probe.tenant", `there is no tenant "acne"`, "write acme")},

		// Hosts.
		{name: "host in capitals", text: hosts("[‸Probe.Example.com]"),
			want: faults("services.probe.hosts[0]", `"Probe.Example.com" has capital letters; hosts are written in lower case`, "write probe.example.com")},
		{name: "host with a trailing dot", text: hosts("[‸probe.example.com.]"),
			want: faults("services.probe.hosts[0]", `"probe.example.com." ends in a dot; hosts are written without it`, "write probe.example.com")},
		{name: "host with a port", text: hosts(`[‸"probe.example.com:443"]`),
			want: faults("services.probe.hosts[0]", `"probe.example.com:443" has a port; a host is a name alone`, "write probe.example.com")},
		{name: "URL as a host", text: hosts(`[‸"https://probe.example.com/x"]`),
			want: faults("services.probe.hosts[0]", `"https://probe.example.com/x" is a URL; a host is a name alone`, "write probe.example.com")},
		{name: "host with a path", text: hosts(`[‸probe.example.com/x]`),
			want: faults("services.probe.hosts[0]", `"probe.example.com/x" has a path; a host is a name alone`, "write probe.example.com")},
		{name: "address as a host", text: hosts("[‸10.0.0.1]"),
			want: faults("services.probe.hosts[0]", `"10.0.0.1" is an IP address; callers are told apart by name (SNI), which an address cannot be`, "write a DNS name in lower case, such as billing.example.com")},
		{name: "star inside a host", text: hosts(`[‸"*probe.example.com"]`),
			want: faults("services.probe.hosts[0]", `"*probe.example.com" has a * that is not the whole first label`, "write *.probe.example.com")},
		{name: "wildcard over a top-level domain", text: hosts(`[‸"*.com"]`),
			want: faults("services.probe.hosts[0]", `"*.com" would stand for a whole top-level domain`, "write a DNS name in lower case, such as billing.example.com")},
		{name: "host with letters beyond ASCII", text: hosts(`[‸bücher.example.com]`),
			want: faults("services.probe.hosts[0]", `"bücher.example.com" has letters that DNS carries only in another form`, "write xn--bcher-kva.example.com")},
		{name: "host that is no DNS name", text: hosts(`[‸my_probe.example.com]`),
			want: faults("services.probe.hosts[0]", `"my_probe.example.com" is not a DNS name`, "write my-probe.example.com")},
		{name: "no host", text: hosts(`‸[]`),
			want: faults("services.probe.hosts", "there is no host, so nobody could call the service", "write hosts: [billing.example.com]")},
		{name: "host twice in a service", text: hosts(`[probe.example.com, ‸probe.example.com]`),
			want: faults("services.probe.hosts[1]", `"probe.example.com" is in the list twice; the first is at polder.yaml:9:77`, "remove one of the two")},
		{name: "host claimed twice", text: hosts(`[‸steady.example.com]`),
			want: faults("services.probe.hosts[0]", `the host "steady.example.com" belongs to the service "steady", at polder.yaml:8:21`, "write another host, or remove it there")},
		{name: "wildcard claimed twice", text: header + `services:
  other: { hosts: ["*.probe.example.com"], residency: { allow: [nl] }, run: { command: [./steady] } }
  steady: { hosts: [steady.example.com, ‸"*.probe.example.com"], residency: { allow: [nl] }, run: { command: [./steady] } }
`, want: faults("services.steady.hosts[1]", `the host "*.probe.example.com" belongs to the service "other", at polder.yaml:8:20`, "write another host, or remove it there")},

		// Residency.
		{name: "empty allow", text: residency("{ allow: ‸[] }"),
			want: faults("services.probe.residency.allow", "no place is allowed, so the service could run nowhere", "write the regions or jurisdictions that may serve it, such as allow: [fr] or allow: [EU]")},
		{name: "unknown region", text: residency("{ allow: [fr, ‸pk] }"),
			want: faults("services.probe.residency.allow[1]", `there is no region "pk"`, "write pl")},
		{name: "region in capitals", text: residency("{ allow: [‸Fr] }"),
			want: faults("services.probe.residency.allow[0]", `there is no region "Fr"`, "write fr")},
		{name: "jurisdiction in lower case", text: residency("{ allow: [‸eu] }"),
			want: faults("services.probe.residency.allow[0]", `there is no region "eu"`, "write EU")},
		{name: "unknown jurisdiction", text: residency("{ allow: [‸CH] }"),
			want: faults("services.probe.residency.allow[0]", `no region carries the jurisdiction "CH"`, "write one of: fr, nl, pl, EU, FR, NL, PL")},
		{name: "place twice", text: residency("{ allow: [fr, ‸fr] }"),
			want: faults("services.probe.residency.allow[1]", `"fr" is in the list twice; the first is at polder.yaml:9:90`, "remove one of the two")},
		{name: "unknown choice of elsewhere", text: residency("{ allow: [fr], elsewhere: ‸refused }"),
			want: faults("services.probe.residency.elsewhere", `"refused" is not a choice`, "write refuse")},
		{name: "failover to an allowed region", text: residency("{ allow: [EU], failover: { listed: [‸nl] } }"),
			want: faults("services.probe.residency.failover.listed[0]", `the region "nl" is allowed anyway, so it cannot stand in`, "remove it")},
		{name: "failover to an unknown region", text: residency("{ allow: [fr], failover: { listed: [‸xl] } }"),
			want: faults("services.probe.residency.failover.listed[0]", `there is no region "xl"`, "write nl")},
		{name: "failover to a jurisdiction", text: residency("{ allow: [fr], failover: { listed: [‸EU] } }"),
			want: faults("services.probe.residency.failover.listed[0]", `"EU" is a jurisdiction; failover goes by an order of single regions`, "write the regions that are meant, in order of preference")},
		{name: "failover to nowhere", text: residency("{ allow: [fr], failover: { listed: ‸[] } }"),
			want: faults("services.probe.residency.failover.listed", "the list of regions that may stand in is empty", "write the regions in order of preference, or failover: closed")},
		{name: "failover listed without a list", text: residency("{ allow: [fr], failover: ‸listed }"),
			want: faults("services.probe.residency.failover", "failover is listed, and no region is", "write { listed: [nl] }")},
		{name: "failover break-glass without a list", text: residency("{ allow: [fr], failover: ‸break-glass }"),
			want: faults("services.probe.residency.failover", "failover is break-glass, and no region may stand in", "write { break-glass: [nl] }")},
		{name: "failover of both kinds", text: residency("{ allow: [fr], failover: { ‸listed: [nl], break-glass: [pl] } }"),
			want: faults("services.probe.residency.failover.listed", "the failover is listed and break-glass; regions stand in either by themselves, or only while the glass is broken", "remove one of the two")},
		{name: "break-glass to an allowed region", text: residency("{ allow: [EU], failover: { break-glass: [‸nl] } }"),
			want: faults("services.probe.residency.failover.break-glass[0]", `the region "nl" is allowed anyway, so it cannot stand in`, "remove it")},
		{name: "no glass to break", text: residency("{ allow: [fr], failover: { listed: [nl], ‸broken: { from: 2026-05-01T08:00:00Z, until: 2026-05-01T20:00:00Z, reason: fire } } }"),
			want: faults("services.probe.residency.failover.broken", "there is no glass to break", "write break-glass: [nl] with the regions that may stand in, or remove it")},
		{name: "broken without a reason", text: broken("‸broken: { from: 2026-05-01T08:00:00Z, until: 2026-05-01T20:00:00Z }"),
			want: faults("services.probe.residency.failover.broken", "reason is missing", "write reason: power cut in Paris")},
		{name: "broken with an empty reason", text: broken(`broken: { from: 2026-05-01T08:00:00Z, until: 2026-05-01T20:00:00Z, reason: ‸"  " }`),
			want: faults("services.probe.residency.failover.broken.reason", "the reason is empty", "write why the regions must stand in, such as reason: power cut in Paris")},
		{name: "broken without an end", text: broken("‸broken: { from: 2026-05-01T08:00:00Z, reason: fire }"),
			want: faults("services.probe.residency.failover.broken", "until is missing", "write until: 2026-05-01T20:00:00Z")},
		{name: "broken for too long", text: broken("broken: { from: 2026-05-01T08:00:00Z, until: ‸2026-05-04T08:00:01Z, reason: fire }"),
			want: faults("services.probe.residency.failover.broken.until", "the glass would be broken for 72h0m1s; at most 72h0m0s are possible at once", "write 2026-05-04T08:00:00Z or earlier, and break it once more if need be")},
		{name: "broken too shortly", text: broken("broken: { from: 2026-05-01T08:00:00Z, until: ‸2026-05-01T08:00:30Z, reason: fire }"),
			want: faults("services.probe.residency.failover.broken.until", "the glass would be broken for 30s; nothing would come of it", "write 2026-05-01T08:01:00Z or later")},
		{name: "broken backwards", text: broken("broken: { from: 2026-05-01T20:00:00Z, until: ‸2026-05-01T20:00:00Z, reason: fire }"),
			want: faults("services.probe.residency.failover.broken.until", "the glass would be whole again before it is broken", "write a time after from")},
		{name: "broken at no time", text: broken("broken: { from: ‸soon, until: 2026-05-01T20:00:00Z, reason: fire }"),
			want: faults("services.probe.residency.failover.broken.from", `"soon" is not a time`, "write date, time and time zone, such as 2026-05-01T08:00:00Z")},
		{name: "broken without a time zone", text: broken("broken: { from: ‸2026-05-01T08:00:00, until: 2026-05-01T20:00:00Z, reason: fire }"),
			want: faults("services.probe.residency.failover.broken.from", `"2026-05-01T08:00:00" is not a time`, "write date, time and time zone, such as 2026-05-01T08:00:00Z")},
		{name: "unknown choice of keys", text: residency("{ allow: [fr], keys: ‸residents }"),
			want: faults("services.probe.residency.keys", `"residents" is not a choice`, "write resident")},
		{name: "unknown place of records", text: residency("{ allow: [fr], telemetry: { traces: ‸everywhere } }"),
			want: faults("services.probe.residency.telemetry.traces", `"everywhere" is not a choice`, "write one of: serving, allowed, nowhere")},
		{name: "unknown kind of record", text: residency("{ allow: [fr], telemetry: { ‸trace: allowed } }"),
			want: faults("services.probe.residency.telemetry.trace", `unknown key "trace"`, "write traces")},
		{name: "unknown failover", text: residency("{ allow: [fr], failover: ‸open }"),
			want: faults("services.probe.residency.failover", `"open" is not a failover`, "write closed, or { listed: [nl] } with the regions that may stand in")},
		{name: "failover as a list", text: residency("{ allow: [fr], failover: ‸[nl] }"),
			want: faults("services.probe.residency.failover", "is a list; expected closed, or a list of regions", "write failover: { listed: [nl] }")},

		{name: "failover as a mapping of something else", text: residency("{ allow: [fr], failover: { ‸list: [nl] } }"),
			want: faults("services.probe.residency.failover.list", `unknown key "list"`, "write listed")},
		{name: "failover as an empty mapping", text: residency("{ allow: [fr], failover: ‸{} }"),
			want: faults("services.probe.residency.failover", "is a mapping; expected closed, or a list of regions", "write failover: { listed: [nl] }")},

		// DNS.
		{name: "public address with a port", text: region(`{ location: [52.52, 13.40], public: [‸"192.0.2.1:443"] }`), fatal: true,
			want: faults("regions.de.public[0]", `"192.0.2.1:443" is not an IP address`, "write an address such as 192.0.2.10 or 2001:db8::10, without a port")},
		{name: "public address of nobody", text: region(`{ location: [52.52, 13.40], public: [‸0.0.0.0] }`), fatal: true,
			want: faults("regions.de.public[0]", `"0.0.0.0" is no address at which callers reach a region`, "write an address such as 192.0.2.10 or 2001:db8::10")},
		{name: "public address twice in two forms", text: region(`{ location: [52.52, 13.40], public: ["2001:db8::1", ‸"2001:db8:0::1"] }`), fatal: true,
			want: faults("regions.de.public[1]", `"2001:db8:0::1" is in the list already, in another form`, "remove one of the two")},
		{name: "DNS listener without a port", text: region(`{ location: [52.52, 13.40], listen: { dns: ‸10.0.0.1 } }`), fatal: true,
			want: faults("regions.de.listen.dns", `"10.0.0.1" has no port`, `write ":443" or "10.0.0.1:443"`)},
		{name: "zone with a wildcard", text: header + "dns: { zones: [‸\"*.example.com\"] }\n" + steady, fatal: true,
			want: faults("dns.zones[0]", `"*.example.com" has a *; this is one name`, "write example.com")},
		{name: "name server as an address", text: header + "dns: { nameservers: [‸192.0.2.1] }\n" + steady, fatal: true,
			want: faults("dns.nameservers[0]", `"192.0.2.1" is an IP address; callers are told apart by name (SNI), which an address cannot be`, "write a DNS name in lower case, such as billing.example.com")},
		{name: "TTL of a second and a half", text: header + "dns: { ttl: ‸1500ms }\n" + steady, fatal: true,
			want: faults("dns.ttl", `"1500ms" is not a number of whole seconds, as DNS counts them`, "write 1s")},
		{name: "TTL of a day", text: header + "dns: { ttl: ‸1d }\n" + steady, fatal: true,
			want: faults("dns.ttl", `"1d" is out of bounds`, "write a duration from 1s to 1h0m0s")},
		{name: "place with bits beyond its prefix", text: header + "dns: { places: [{ prefixes: [‸192.0.2.1/24], region: fr }] }\n" + steady, fatal: true,
			want: faults("dns.places[0].prefixes[0]", `"192.0.2.1/24" has bits beyond its length`, "write 192.0.2.0/24")},
		{name: "place that is no prefix", text: header + "dns: { places: [{ prefixes: [‸192.0.2.1], region: fr }] }\n" + steady, fatal: true,
			want: faults("dns.places[0].prefixes[0]", `"192.0.2.1" is not a prefix of IP addresses`, "write one such as 192.0.2.0/24 or 2001:db8::/32")},
		{name: "prefix in two places", text: header + "dns: { places: [{ prefixes: [192.0.2.0/24], region: fr }, { prefixes: [‸192.0.2.0/24], region: nl }] }\n" + steady, fatal: true,
			want: faults("dns.places[1].prefixes[0]", `"192.0.2.0/24" is there twice; the first is at polder.yaml:7:30`, "remove one of the two")},
		{name: "place near an unknown region", text: header + "dns: { places: [{ prefixes: [192.0.2.0/24], region: ‸xl }] }\n" + steady, fatal: true,
			want: faults("dns.places[0].region", `there is no region "xl"`, "write nl")},
		{name: "place nowhere", text: header + "dns: { places: [‸{ prefixes: [192.0.2.0/24] }] }\n" + steady, fatal: true,
			want: faults("dns.places[0]", "it does not say where these callers are", "write region: fr, or location: [45.76, 4.84]")},
		{name: "place in two ways", text: header + "dns: { places: [‸{ prefixes: [192.0.2.0/24], region: fr, location: [45.76, 4.84] }] }\n" + steady, fatal: true,
			want: faults("dns.places[0]", "there are both a region and a location", "remove one of the two")},

		// Where answers come from.
		{name: "run and endpoints", text: probe(`‸endpoints: { fr: ["10.0.0.5:8080"] }`),
			want: faults("services.probe.endpoints", "the service has run and endpoints; it is either started by Polder or only routed", "remove one of the two")},
		{name: "neither run nor endpoints", text: header + steady + "  ‸probe: { hosts: [probe.example.com], residency: { allow: [fr] } }\n",
			want: faults("services.probe", "the service has neither run nor endpoints, so nothing would answer", "write run: { command: [./billing] }")},
		{name: "no endpoints", text: endpoints("‸{}"),
			want: faults("services.probe.endpoints", "there is no endpoint, so nothing would answer", `write endpoints: { fr: ["10.0.0.5:8080"] }`)},
		{name: "endpoints in a forbidden region", text: endpoints(`{ ‸pl: ["10.0.0.5:8080"] }`),
			want: faults("services.probe.endpoints.pl", `there are endpoints in "pl", where the service's residency does not allow it`, "remove them, or add pl to residency.allow")},
		{name: "endpoints in an unknown region", text: endpoints(`{ ‸fe: ["10.0.0.5:8080"] }`),
			want: faults("services.probe.endpoints.fe", `there is no region "fe"`, "write fr")},
		{name: "endpoint with a bad port", text: endpoints(`{ fr: [‸"10.0.0.5:99999"] }`),
			want: faults("services.probe.endpoints.fr[0]", `"10.0.0.5:99999" has the port "99999"; ports are 1 to 65535`, `write "10.0.0.5:8080"`)},
		{name: "endpoint without a port", text: endpoints(`{ fr: [‸"10.0.0.5"] }`),
			want: faults("services.probe.endpoints.fr[0]", `"10.0.0.5" has no port`, `write "10.0.0.5:8080"`)},
		{name: "endpoint by name", text: endpoints(`{ fr: [‸"db.example.com:80"] }`),
			want: faults("services.probe.endpoints.fr[0]", `"db.example.com" is not an IP address; where a name points to may change, and with it the region`, `write "10.0.0.5:8080"`)},
		{name: "endpoint that is no machine", text: endpoints(`{ fr: [‸"0.0.0.0:80"] }`),
			want: faults("services.probe.endpoints.fr[0]", `"0.0.0.0" is not the address of one machine`, `write "10.0.0.5:8080"`)},
		{name: "IPv6 endpoint without brackets", text: endpoints(`{ fr: [‸"2001:db8::1:80"] }`),
			want: faults("services.probe.endpoints.fr[0]", `"2001:db8::1:80" has an IPv6 address without brackets`, `write "[2001:db8::1]:80"`)},
		{name: "endpoint with a zone", text: endpoints(`{ fr: [‸"[fe80::1%eth0]:80"] }`),
			want: faults("services.probe.endpoints.fr[0]", `"[fe80::1%eth0]:80" has an IPv6 zone, which means nothing on another machine`, "write the address without its zone")},
		{name: "region without endpoints", text: endpoints(`{ fr: ‸[] }`),
			want: faults("services.probe.endpoints.fr", "the list of endpoints is empty", `write endpoints: { fr: ["10.0.0.5:8080"] }, or remove the region`)},
		{name: "scale of endpoints", text: service(`{ hosts: [probe.example.com], residency: { allow: [fr] }, endpoints: { fr: ["10.0.0.5:8080"] }, ‸scale: { max: 2 } }`),
			want: faults("services.probe.scale", "scale says nothing about endpoints, which Polder does not start", "remove it")},
		{name: "image", text: run("{ ‸image: images/probe.tar, command: [./x] }"),
			want: faults("services.probe.run.image", "containers are not available in this version", "use run.command: run: { command: [./program] }")},
		{name: "kubernetes", text: run("{ ‸kubernetes: probe, command: [./x] }"),
			want: faults("services.probe.run.kubernetes", "Kubernetes is not available in this version", "use run.command: run: { command: [./program] }")},
		{name: "procfile", text: run("{ ‸procfile: Procfile, command: [./x] }"),
			want: faults("services.probe.run.procfile", "Procfiles are not available in this version", "use run.command: run: { command: [./program] }")},
		{name: "empty command", text: run("{ command: ‸[] }"),
			want: faults("services.probe.run.command", "the command is empty", "write command: [./billing, --verbose]")},
		{name: "program without a name", text: run(`{ command: [‸"", x] }`),
			want: faults("services.probe.run.command[0]", "the program has no name", "write command: [./billing, --verbose]")},
		{name: "variable PORT", text: run(`{ command: [./x], environment: { ‸PORT: "80" } }`),
			want: faults("services.probe.run.environment.PORT", `"PORT" is set by Polder itself`, "remove it, or use another name")},
		{name: "variable POLDER_*", text: run(`{ command: [./x], environment: { ‸POLDER_REGION: fr } }`),
			want: faults("services.probe.run.environment.POLDER_REGION", `"POLDER_REGION" is set by Polder itself`, "remove it, or use another name")},
		{name: "name of a variable", text: run(`{ command: [./x], environment: { ‸log-level: info } }`),
			want: faults("services.probe.run.environment.log-level", `"log-level" is not a name for an environment variable`, "write LOG_LEVEL")},
		{name: "name of a variable with dots", text: run(`{ command: [./x], environment: { ‸log.level: info } }`),
			want: faults(`services.probe.run.environment["log.level"]`, `"log.level" is not a name for an environment variable`, "write LOG_LEVEL")},
		{name: "variable with a NUL", text: run(`{ command: [./x], environment: { LEVEL: ‸"a\0b" } }`),
			want: faults("services.probe.run.environment.LEVEL", "the value has a NUL, which no program can be given", "remove it")},
		{name: "argument with a NUL", text: run(`{ command: [./x, ‸"a\0b"] }`),
			want: faults("services.probe.run.command[1]", `"a\x00b" has a NUL, which no program can be given`, "remove it")},
		{name: "ready with a space", text: run("{ command: [./x], ready: ‸/health check }"),
			want: faults("services.probe.run.ready", `"/health check" has characters that a path does not carry`, "escape them, as in /health%20check")},
		{name: "unknown choice of listen", text: run("{ command: [./x], listen: ‸inherited }"),
			want: faults("services.probe.run.listen", `"inherited" is not a choice`, "write inherit")},
		{name: "ready without a slash", text: run("{ command: [./x], ready: ‸healthz }"),
			want: faults("services.probe.run.ready", `"healthz" is not a path`, "write /healthz")},
		{name: "directory of a shell", text: run("{ command: [./x], directory: ‸~/probe }"),
			want: faults("services.probe.run.directory", `"~/probe" begins with ~, which only shells understand`, "write the whole path")},

		// Amounts.
		{name: "duration without a unit", text: probe("timeout: ‸60"),
			want: faults("services.probe.timeout", "60 has no unit of time", "write 60s for seconds")},
		{name: "bad duration", text: probe("scale: { keep-alive: ‸5 minutes }"),
			want: faults("services.probe.scale.keep-alive", `"5 minutes" is not a duration`, "write a number and its unit (ms, s, m, h, d), such as 30s, 1h30m or 7d")},
		{name: "duration out of bounds", text: probe("timeout: ‸2d"),
			want: faults("services.probe.timeout", `"2d" is out of bounds`, "write a duration from 1ms to 1d")},
		{name: "pause for no time at all", text: probe("scale: { pause: ‸sometimes }"),
			want: faults("services.probe.scale.pause", `"sometimes" is not a duration`, "write a number and its unit (ms, s, m, h, d), such as 30s, 1h30m or 7d")},
		{name: "negative duration", text: probe("scale: { keep-alive: ‸-5m }"),
			want: faults("services.probe.scale.keep-alive", `"-5m" is out of bounds`, "write a duration from 0s to 30d")},
		{name: "memory without a unit", text: run("{ command: [./x], memory: ‸64 }"),
			want: faults("services.probe.run.memory", `"64" has no unit of memory (KiB, MiB, GiB, TiB)`, "write a whole number and its unit, such as 64MiB")},
		{name: "memory in another unit", text: run("{ command: [./x], memory: ‸64MB }"),
			want: faults("services.probe.run.memory", `"64MB" has no unit of memory (KiB, MiB, GiB, TiB)`, "write a whole number and its unit, such as 64MiB")},
		{name: "fraction of memory", text: run("{ command: [./x], memory: ‸0.5GiB }"),
			want: faults("services.probe.run.memory", `"0.5" is not a whole number of GiB`, "write a whole number and its unit, such as 64MiB")},
		{name: "too little memory", text: run("{ command: [./x], memory: ‸64KiB }"),
			want: faults("services.probe.run.memory", `"64KiB" is too little to run anything`, "write at least 1MiB, or remove it for no limit")},
		{name: "bad money", text: priced + probe("scale: { budget: ‸30 EUR }"),
			want: faults("services.probe.scale.budget", `"30 EUR" is not a sum of money per month`, "write it as in 30 EUR/month")},
		{name: "no money", text: priced + probe("scale: { budget: ‸0 EUR/month }"),
			want: faults("services.probe.scale.budget", `"0 EUR/month" would never start anything`, "write more than 0, or remove it for no limit")},
		{name: "budget without prices", text: probe("scale: { budget: ‸30 EUR/month }"),
			want: faults("services.probe.scale.budget", "there is a budget and no price list to count it by", "write prices: { currency: EUR, default: { gib-second: 0.0000025, vcpu-second: 0.000024, request: 0.0000002 } }")},
		{name: "budget in another currency", text: priced + probe("scale: { budget: ‸30 PLN/month }"),
			want: faults("services.probe.scale.budget", "the budget is in PLN and the prices are in EUR", "write the budget in EUR")},
		{name: "bad currency", text: header + "prices: { currency: ‸euro, default: { gib-second: 1, vcpu-second: 1, request: 1 } }\n" + steady, fatal: true,
			want: faults("prices.currency", `"euro" is not a currency`, "write three capital letters, such as EUR")},
		{name: "bad price", text: header + "prices: { currency: EUR, default: { gib-second: ‸-1, vcpu-second: 1, request: 1 } }\n" + steady, fatal: true,
			want: faults("prices.default.gib-second", `"-1" is not a price: at most nine digits on each side of the point, no sign, no exponent`, "write a number such as 0.0000025")},
		{name: "prices of an unknown region", text: header + "prices: { currency: EUR, default: { gib-second: 1, vcpu-second: 1, request: 1 }, regions: { ‸nk: {} } }\n" + steady, fatal: true,
			want: faults("prices.regions.nk", `there is no region "nk"`, "write nl")},
		{name: "region without a price", text: header + "‸prices: { currency: EUR, default: { gib-second: 1, vcpu-second: 1 }, regions: { fr: { request: 1 }, nl: { request: 1 } } }\n" + steady, fatal: true,
			want: faults("prices", "the region pl has no price for a request", "write it under default: or under regions: { pl: … }; 0 for nothing")},

		// Scale.
		{name: "negative min", text: probe("scale: { min: ‸-1 }"),
			want: faults("services.probe.scale.min", "-1 is out of bounds", "write 0 to 1000")},
		{name: "max of none", text: probe("scale: { max: ‸0 }"),
			want: faults("services.probe.scale.max", "0 is out of bounds", "write 1 to 1000")},
		{name: "min above max", text: probe("scale: { min: ‸5, max: 4 }"),
			want: faults("services.probe.scale.min", "min is 5 and max is 4", "write at most 4, or raise max")},
		{name: "concurrency of none", text: probe("scale: { concurrency: ‸0 }"),
			want: faults("services.probe.scale.concurrency", "0 is out of bounds", "write 1 to 100000")},
		{name: "unknown choice of prewarm", text: probe("scale: { prewarm: ‸never }"),
			want: faults("services.probe.scale.prewarm", `"never" is not a choice`, "write one of: auto, off")},
		{name: "cold start without prices", text: probe("scale: { cold-start: ‸0.002 }"),
			want: faults("services.probe.scale.cold-start", "a cold start is rated and there is no price list to weigh it by", "write prices: { currency: EUR, default: { gib-second: 0.0000025, vcpu-second: 0.000024, request: 0.0000002 } }")},
		{name: "schedule with a word for a day", text: probe("scale: { schedule: [{ cron: ‸0 8 * * workdays, for: 1h }] }"),
			want: faults("services.probe.scale.schedule[0].cron", `"0 8 * * workdays" is not a schedule`, "write five fields, as in 0 8 * * 1-5 for eight o'clock on working days")},
		{name: "schedule by a nickname", text: probe(`scale: { schedule: [{ cron: ‸"@daily", for: 1h }] }`),
			want: faults("services.probe.scale.schedule[0].cron", `"@daily" is not a schedule`, "write five fields, as in 0 8 * * 1-5 for eight o'clock on working days")},
		{name: "schedule in a zone that is none", text: probe("scale: { schedule: [{ cron: 0 8 * * 1-5, zone: ‸Europe/Lutetia, for: 1h }] }"),
			want: faults("services.probe.scale.schedule[0].zone", `"Europe/Lutetia" is not a time zone`, "write an IANA name such as Europe/Paris, or UTC")},
		{name: "schedule without an end", text: probe("scale: { schedule: [{ cron: 0 8 * * 1-5, for: ‸8d }] }"),
			want: faults("services.probe.scale.schedule[0].for", `"8d" is out of bounds`, "write a duration from 1m0s to 7d")},
		{name: "schedule above max", text: probe("scale: { max: 2, schedule: [{ cron: 0 8 * * 1-5, for: 1h, min: ‸3 }] }"),
			want: faults("services.probe.scale.schedule[0].min", "the schedule asks for 3 instances and max is 2", "write at most 2, or raise max")},
		{name: "cold of endpoints", text: service(`{ hosts: [probe.example.com], residency: { allow: [fr] }, endpoints: { fr: ["10.0.0.5:8080"] }, ‸cold: { answer: page } }`),
			want: faults("services.probe.cold", "cold says nothing about endpoints, which never sleep", "remove it")},
		{name: "cold as a word", text: probe("cold: ‸page"),
			want: faults("services.probe.cold", `is the text "page"; expected a mapping`, "write cold: { answer: page, paths: { /api: hold } }")},
		{name: "unknown answer to cold callers", text: probe("cold: { answer: ‸wait }"),
			want: faults("services.probe.cold.answer", `"wait" is not a choice`, "write one of: hold, accepted, page, reject")},
		{name: "unknown answer on a path", text: probe("cold: { paths: { /api: ‸rejected } }"),
			want: faults(`services.probe.cold.paths["/api"]`, `"rejected" is not a choice`, "write reject")},
		{name: "path of cold without a slash", text: probe("cold: { paths: { ‸api: hold } }"),
			want: faults("services.probe.cold.paths.api", `"api" is not a path`, "write /api")},
		{name: "path of cold with a query", text: probe("cold: { paths: { ‸/api?x: hold } }"),
			want: faults(`services.probe.cold.paths["/api?x"]`, `"/api?x" has a query or a fragment, and only paths are compared`, "write /api")},
		{name: "path of cold with a space", text: probe("cold: { paths: { ‸/a b: hold } }"),
			want: faults(`services.probe.cold.paths["/a b"]`, `"/a b" has characters that a path does not carry`, "escape them, as in /a%20path")},
		{name: "unknown protocol", text: probe("protocol: ‸http/1.0"),
			want: faults("services.probe.protocol", `"http/1.0" is not a choice`, "write http/1.1")},

		// Tenants.
		{name: "quota as a number", text: tenants("tenants: { acme: { quota: ‸50 } }"),
			want: faults("tenants.acme.quota", "is the number 50; expected a mapping", "write quota: { instances: 50, memory: 16GiB }")},
		{name: "memory of a quota", text: tenants("tenants: { acme: { quota: { memory: ‸16 gigabytes } } }"),
			want: faults("tenants.acme.quota.memory", `"16 gigabytes" has no unit of memory (KiB, MiB, GiB, TiB)`, "write a whole number and its unit, such as 64MiB")},
		{name: "quota of none", text: tenants("tenants: { acme: { quota: { instances: ‸0 } } }"),
			want: faults("tenants.acme.quota.instances", "0 instances are too few to run anything", "write 1 or more, or remove it for no limit")},
		{name: "quota of nothing", text: tenants("tenants: { acme: { quota: ‸{} } }"),
			want: faults("tenants.acme.quota", "the quota bounds nothing", "write quota: { instances: 50, memory: 16GiB }, or remove it")},
		{name: "budget of a tenant without prices", text: tenants("tenants: { acme: { budget: ‸200 EUR/month } }"),
			want: faults("tenants.acme.budget", "there is a budget and no price list to count it by", "write prices: { currency: EUR, default: { gib-second: 0.0000025, vcpu-second: 0.000024, request: 0.0000002 } }")},

		// Regions.
		{name: "no region", text: "regions: ‸{}\n" + steady, fatal: true,
			want: faults("regions", "there is no region", "write at least one: regions: { fr: { jurisdiction: [FR, EU], location: [48.86, 2.35] } }")},
		{name: "region like a jurisdiction", text: strings.Replace(header, "  pl:", "  ‸PL:", 1) + steady, fatal: true,
			want: faults("regions.PL", `the region "PL" is named like a jurisdiction; names of regions are in lower case`, "write pl")},
		{name: "jurisdiction like a region", text: region("{ jurisdiction: [‸de], location: [50, 8] }"), fatal: true,
			want: faults("regions.de.jurisdiction[0]", `"de" is not a jurisdiction`, "write two or more capital letters, digits or -, such as EU")},
		{name: "latitude out of range", text: region("{ location: [‸95, 8] }"), fatal: true,
			want: faults("regions.de.location[0]", "the latitude is 95; it lies between -90 and 90", "write location: [48.86, 2.35]")},
		{name: "longitude out of range", text: region("{ location: [50, ‸-181.5] }"), fatal: true,
			want: faults("regions.de.location[1]", "the longitude is -181.5; it lies between -180 and 180", "write location: [48.86, 2.35]")},
		{name: "location that is no number", text: region("{ location: [50, ‸.nan] }"), fatal: true,
			want: faults("regions.de.location[1]", "is the number .nan; expected a number", "write location: [48.86, 2.35]")},
		{name: "half a location", text: region("{ location: ‸[50] }"), fatal: true,
			want: faults("regions.de.location", "has 1 numbers; expected latitude and longitude", "write location: [48.86, 2.35]")},
		{name: "listen address without a port", text: region(`{ location: [50, 8], listen: { https: ‸"10.0.0.1" } }`), fatal: true,
			want: faults("regions.de.listen.https", `"10.0.0.1" has no port`, `write ":443" or "10.0.0.1:443"`)},
		{name: "listen address by name", text: region(`{ location: [50, 8], listen: { peer: ‸"de.example.com:7443" } }`), fatal: true,
			want: faults("regions.de.listen.peer", `"de.example.com:7443" has no IP address of this machine before its port`, `write ":443" or "10.0.0.1:443"`)},
		{name: "room for nobody", text: region(`{ location: [50, 8], hold: { cold: { requests: ‸0 } } }`), fatal: true,
			want: faults("regions.de.hold.cold.requests", "0 is out of bounds", "write 1 to 1000000")},
		{name: "unknown choice of http3", text: region(`{ location: [50, 8], listen: { http3: ‸yes } }`), fatal: true,
			want: faults("regions.de.listen.http3", `"yes" is not a choice`, "write one of: off, on")},
		{name: "peer to join by URL", text: region(`{ location: [50, 8], join: [‸"tcp://nl-1.example.net:7946"] }`), fatal: true,
			want: faults("regions.de.join[0]", `"tcp://nl-1.example.net:7946" is no host and port`, `write "nl-1.example.net:7946"`)},
		{name: "peer to join without a port", text: region(`{ location: [50, 8], join: [‸nl-1.example.net] }`), fatal: true,
			want: faults("regions.de.join[0]", `"nl-1.example.net" has no port`, `write "nl-1.example.net:7946"`)},
	}
}

// wholeFileCases are mistakes that concern more than the text of one key.
func wholeFileCases() []brokenCase {
	deep := strings.Repeat("[", maxDepth) + mark + "["
	return []brokenCase{
		{name: "tab", files: map[string]string{"polder.yaml": "regions:\n" + mark + "\tfr: {}\n"}, fatal: true,
			want: faults("", "a tab indents this line; YAML allows only spaces there", "replace the tab by spaces")},
		{name: "missing quote", files: map[string]string{"polder.yaml": "regions: " + mark + "\"fr\n"}, fatal: true,
			want: faults("", "not valid YAML: could not find end character of double-quoted text", "check the quotes, brackets, colons and indentation here and on the line above")},
		{name: "missing bracket", files: map[string]string{"polder.yaml": "regions: { fr: [1, 2 " + mark + "}\n"}, fatal: true,
			want: faults("", "not valid YAML: ',' or ']' must be specified", "check the quotes, brackets, colons and indentation here and on the line above")},
		{name: "empty file", files: map[string]string{"polder.yaml": mark}, fatal: true,
			want: faults("", "the file is empty", "write regions: and services:, or delete the file")},
		{name: "comments only", files: map[string]string{"polder.yaml": mark + "# nothing\n"}, fatal: true,
			want: faults("", "the file is empty", "write regions: and services:, or delete the file")},
		{name: "list as a file", files: map[string]string{"polder.yaml": mark + "- a\n- b\n"}, fatal: true,
			want: faults("", "the file is a list; expected a mapping", "write regions: and services:")},
		{name: "not UTF-8", files: map[string]string{"polder.yaml": good + "# caf" + mark + "\xe9\n"}, fatal: true,
			want: faults("", "the file is not UTF-8 text", "save it as UTF-8")},
		{name: "several documents", files: map[string]string{"polder.yaml": good + mark + "---\nservices: {}\n"}, fatal: true,
			want: faults("", "a second document begins here; a file holds one", "remove the --- line, or move what follows to a file of its own")},
		{name: "too deep", files: map[string]string{"polder.yaml": deep}, fatal: true,
			want: faults("", "values are nested more than 40 deep", "remove the needless brackets or indentation")},
		{name: "too big", files: map[string]string{"polder.yaml": mark + strings.Repeat("#", MaxFileSize+1)}, fatal: true,
			want: faults("", fmt.Sprintf("the file has %d bytes, more than %d", MaxFileSize+1, MaxFileSize), "split it into a folder of files")},
		{name: "alias without an anchor", files: map[string]string{"polder.yaml": header + steady + "  probe: " + mark + "*base\n"}, fatal: true,
			want: faults("", "alias *base has no anchor above it", "write &base before the value that is meant, further up in this file")},
		{name: "alias inside its own anchor", files: map[string]string{"polder.yaml": header + steady + "  probe: &p { hosts: " + mark + "*p }\n"}, fatal: true,
			want: faults("", "alias *p has no anchor above it", "write &p before the value that is meant, further up in this file")},
		{name: "merge key", files: map[string]string{"polder.yaml": header + "services:\n  a: &a { hosts: [a.example.com] }\n  b:\n    " + mark + "<<: *a\n"}, fatal: true,
			want: faults("", "merge keys (<<) are not supported", "write the keys out, or use an alias for a whole value")},
		{name: "tag", files: map[string]string{"polder.yaml": header + "services: " + mark + "!!map {}\n"}, fatal: true,
			want: faults("", "a YAML tag stands here; the configuration has none", "remove the tag, and quote the value if it is text")},
		{name: "service in two files", files: map[string]string{
			"a.yaml": good,
			"b.yaml": "services:\n  " + mark + "probe: { hosts: [b.example.com], residency: { allow: [fr] }, run: { command: [./probe] } }\n"},
			want: faults("services.probe", `"probe" is there twice; the first is at a.yaml:9:3`, "remove one of the two")},
		{name: "region in two files", files: map[string]string{
			"a.yaml": good,
			"b.yaml": "regions:\n  " + mark + "fr: { location: [1, 2] }\n"}, fatal: true,
			want: faults("regions.fr", `"fr" is there twice; the first is at a.yaml:2:3`, "remove one of the two")},
		{name: "prices in two files", files: map[string]string{
			"a.yaml": good + "prices: { currency: EUR, default: { gib-second: 1, vcpu-second: 1, request: 1 } }\n",
			"b.yaml": mark + "prices: {}\n"}, fatal: true,
			want: faults("prices", `"prices" is there twice; the first is at a.yaml:10:1`, "remove one of the two")},
		{name: "host claimed in two files", files: map[string]string{
			"a.yaml": header + steady,
			"b.yaml": "services:\n  probe: { hosts: [" + mark + "steady.example.com], residency: { allow: [fr] }, run: { command: [./probe] } }\n"},
			want: faults("services.probe.hosts[0]", `the host "steady.example.com" belongs to the service "steady", at a.yaml:8:21`, "write another host, or remove it there")},
		{name: "one of two files broken", files: map[string]string{
			"a.yaml": "regions: " + mark + "\"fr\n",
			"b.yaml": "services:\n  probe: { hosts: [probe.example.com], residency: { allow: [fr] }, run: { command: [./probe] }, " + mark + "tiemout: 5s }\n"}, fatal: true,
			want: append(
				faults("", "not valid YAML: could not find end character of double-quoted text", "check the quotes, brackets, colons and indentation here and on the line above"),
				faults("services.probe.tiemout", `unknown key "tiemout"`, "write timeout")...)},
	}
}
