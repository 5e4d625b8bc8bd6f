package main

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/polder/polder"
	"github.com/polder/polder/bench/testbed"
)

// service is what the campaign knows of a service, by itself: it shares no code
// with the law.
type service struct {
	name    string
	policy  string              // in the configuration's words
	may     []polder.RegionName // where it may ever be answered
	at      []polder.RegionName // where, while all live
	refuses bool                // callers who enter elsewhere
	moody   bool                // its program does what a file says
}

var services = []service{
	{name: "pinned", policy: "allow: [fr]", may: in("fr"), at: in("fr")},
	{name: "vault", policy: "allow: [fr], elsewhere: refuse", may: in("fr"), at: in("fr"), refuses: true},
	{name: "open", policy: "allow: [EU]", may: in("fr", "nl", "pl"), at: in("fr", "nl", "pl")},
	{name: "standby", policy: "allow: [pl], failover: { listed: [nl] }", may: in("pl", "nl"), at: in("pl")},
	{name: "sleepy", policy: "allow: [nl]", may: in("nl"), at: in("nl")},
	{name: "moody", policy: "allow: [nl, pl]", may: in("nl", "pl"), at: in("nl", "pl"), moody: true},
}

func in(names ...polder.RegionName) []polder.RegionName { return names }

func (s service) host() string { return s.name + "." + testbed.Zone }

// only tells whether the region is the only one where the service is, while all live.
func (s service) only(r polder.RegionName) bool { return len(s.at) == 1 && s.at[0] == r }

// mayAt tells whether the service may be answered from the region.
func (s service) mayAt(r polder.RegionName) bool { return slices.Contains(s.may, r) }

func serviceOf(name string) service {
	return services[slices.IndexFunc(services, func(s service) bool { return s.name == name })]
}

// configuration is the part below "services:", without those left out. The
// program of moody reads its mood from a file in the folder.
func configuration(samples, moods string, without ...string) string {
	var b strings.Builder
	for _, s := range services {
		if slices.Contains(without, s.name) {
			continue
		}
		keep := ""
		if s.name == "sleepy" {
			keep = "    scale: { keep-alive: 1s }\n"
		}
		command, dir := "./bin/billing", filepath.Join(samples, "billing")
		if s.moody {
			command, dir = "./moody", moods
		}
		fmt.Fprintf(&b, "  %s:\n    hosts: [%s]\n    residency: { %s }\n    run: { command: [%s], directory: %q, ready: /healthz }\n%s",
			s.name, s.host(), s.policy, command, dir, keep)
	}
	return b.String()
}

// moody is a program that lies: it ends at once, never listens, or accepts and
// says nothing, as its mood is.
const moody = `#!/bin/sh
case "$(cat mood 2>/dev/null)" in
dies) echo "dying as the mood is" >&2; exit 3 ;;
sleeps) exec sleep 1000 ;;
esac
exec BILLING
`
