package testbed

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/polder/polder"
)

// Options of a Site. Begin with DefaultOptions.
type Options struct {
	Polder string // path of the command
	Tools  string // folder with Envoy; absolute
	Dir    string // for everything that the site writes; absolute, short enough for sockets, and empty
	// Services is the part of the configuration below "services:".
	Services string
	Peers    int    // of each region, in [1, 9]
	Disks    bool   // each peer's state on a file system of its own, for Freeze and Fill; root only
	Seed     uint64 // of what the network loses
	// RestartAfter is how long after its end a peer's process is started again, as
	// an init system does; not negative.
	RestartAfter time.Duration
	Delays       map[Distance]time.Duration // one way
	Log          io.Writer                  // for what the site does itself
}

// DefaultOptions are three regions of two peers at European distances. Polder,
// Tools, Dir and Services are still to be set.
func DefaultOptions() Options {
	return Options{Peers: 2, RestartAfter: time.Second, Delays: Europe(), Log: io.Discard}
}

// Validate reports all that is wrong with the options.
func (o Options) Validate() error {
	var faults []error
	for what, path := range map[string]string{"the command": o.Polder, "the tools": o.Tools, "the site": o.Dir} {
		if !strings.HasPrefix(path, "/") {
			faults = append(faults, fmt.Errorf("path of %s is %q; it must be absolute", what, path))
		}
	}
	if o.Peers < 1 || o.Peers > 9 {
		faults = append(faults, fmt.Errorf("%d peers in a region; want 1 to 9", o.Peers))
	}
	if o.RestartAfter < 0 {
		faults = append(faults, fmt.Errorf("restart after %v; want 0 or more", o.RestartAfter))
	}
	return errors.Join(faults...)
}

// places are the regions of every site, with what the configuration says of them.
var places = []struct {
	name         polder.RegionName
	jurisdiction string
	location     string
}{{"fr", "FR", "48.86, 2.35"}, {"nl", "NL", "52.37, 4.90"}, {"pl", "PL", "52.23, 21.01"}}

// Regions are the names of a site's regions.
func Regions() []polder.RegionName {
	names := make([]polder.RegionName, len(places))
	for i, p := range places {
		names[i] = p.name
	}
	return names
}

// Zone is the domain of which the regions answer DNS queries.
const Zone = "example.com"

// Config is the configuration of a site with these services.
func (o Options) Config(services string) string {
	var b, callers strings.Builder
	b.WriteString("regions:\n")
	for i, p := range places {
		var public []string
		for n := range o.Peers {
			public = append(public, addressOf(i+1, n+1).String())
		}
		fmt.Fprintf(&b, "  %s: { jurisdiction: [%s, EU], location: [%s], public: [%s], listen: { dns: \":53\" } }\n",
			p.name, p.jurisdiction, p.location, strings.Join(public, ", "))
		fmt.Fprintf(&callers, "    - { prefixes: [%s/24], region: %s }\n", addressOf(i+1, 0), p.name)
	}
	fmt.Fprintf(&b, "dns:\n  zones: [%s]\n  ttl: 1s\n  places:\n%sservices:\n%s", Zone, callers.String(), services)
	return b.String()
}
