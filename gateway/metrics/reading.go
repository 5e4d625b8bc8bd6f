package metrics

import (
	"slices"
	"strings"
	"time"

	"github.com/polder/polder"
)

// MaxServices bounds how many services have labels of their own, the first ones
// by name.
const MaxServices = 2000

// OtherServices is the label of all services beyond, and of those whose figures
// may not carry their names. No service can have that name: it is no DNS label.
const OtherServices = "_others"

// Reading is what a region tells at one moment. Counters count since its Polder
// started.
type Reading struct {
	Services  []Service
	Holding   []Holding
	Forwarded int // requests that the activator forwards now
	Discovery []Discovery
	Rejected  int // resources whose present version an Envoy does not accept
	Nodes     int // Envoys that follow the control plane
	Restarts  int // of the region's Envoy
	Peers     []Peers
	Gossip    Gossip
	DNS       DNS
	Faults    int // of the configuration
	Loaded    time.Time
}

// Service is one service's share.
type Service struct {
	Name                      polder.ServiceName
	Direct, Activated         uint64            // requests straight to instances, and to the activator
	Failed                    uint64            // answered with 5xx, or not at all
	Cold                      uint64            // that waited for a start
	Waited                    uint64            // that waited for a busy instance
	Saturated                 bool              // all ready instances are busy
	Unanswered                map[string]uint64 // by reason: no instance answered
	Brief                     map[string]uint64 // by answer: told at once to come back
	Starts, Crashes, Resumes  uint64
	Open, Waiting             int
	Starting, Ready, Draining int   // instances
	Paused                    int   // frozen
	Spent                     int64 // this month, in millionths of the currency unit
	Budget                    int64 // of the month, in this region, likewise; 0 means none
	Rung                      int   // of the ladder: 0 is enough money, 5 is refused
	Scored                    []Scored
}

// Scored is what a policy made of a service's calls.
type Scored struct {
	Policy       string // acting or shadow
	Active, Cold uint64 // minutes with calls, and those of them that began cold
	Warm, Idle   int64  // of instances, in seconds
	Starts       uint64
	Cost         int64 // in millionths of the currency unit
}

// Holding is what the activator holds of one class, and may.
type Holding struct {
	Class                 string
	Requests, MaxRequests int
	HeldBytes, MaxBytes   polder.Bytes
}

// Discovery counts responses of one resource type.
type Discovery struct {
	Type                       string // last word of the type's URL
	Pushed, Accepted, Rejected uint64
}

// Peers counts the membership's peers of one region.
type Peers struct {
	Region             polder.RegionName
	Healthy, Unhealthy int
}

// Gossip counts what the membership sent and dropped.
type Gossip struct {
	Packets, Bytes uint64
	Dropped        map[string]uint64 // messages and rows, by reason
}

// DNS counts the queries of a region that answers them.
type DNS struct {
	Queries   map[string]uint64 // by transport: udp or tcp
	Answers   map[string]uint64 // by response code
	Truncated uint64
	Limited   map[string]uint64 // packets and connections beyond the limits, by transport
	Malformed uint64
	Wakes     map[string]uint64 // signs of requests to come: heard, or ignored beyond the rate
}

// bounded sums the services beyond MaxServices, and those without a name, into one.
func bounded(services []Service) []Service {
	sorted := slices.SortedFunc(slices.Values(services), func(a, b Service) int { return strings.Compare(string(a.Name), string(b.Name)) })
	unnamed := func(s Service) bool { return s.Name == OtherServices }
	var rest []Service
	for _, s := range sorted {
		if unnamed(s) {
			rest = append(rest, s)
		}
	}
	sorted = slices.DeleteFunc(sorted, unnamed)
	most := min(len(sorted), MaxServices)
	if rest = append(rest, sorted[most:]...); len(rest) == 0 {
		return sorted
	}
	others := Service{Name: OtherServices, Unanswered: map[string]uint64{}, Brief: map[string]uint64{}}
	for _, s := range rest {
		others.Direct += s.Direct
		others.Activated += s.Activated
		others.Failed += s.Failed
		others.Cold += s.Cold
		others.Starts += s.Starts
		others.Crashes += s.Crashes
		others.Resumes += s.Resumes
		others.Open += s.Open
		others.Waiting += s.Waiting
		others.Starting += s.Starting
		others.Ready += s.Ready
		others.Draining += s.Draining
		others.Spent += s.Spent
		others.Budget += s.Budget
		others.Rung = max(others.Rung, s.Rung)
		others.Paused += s.Paused
		for reason, n := range s.Unanswered {
			others.Unanswered[reason] += n
		}
		for answer, n := range s.Brief {
			others.Brief[answer] += n
		}
	}
	return append(sorted[:most:most], others)
}
