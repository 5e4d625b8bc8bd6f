package gateway

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/regions"
	"github.com/polder/polder/regions/law"
	"github.com/polder/polder/xds"
	"github.com/polder/polder/xds/proof"
)

// ErrNoService says that a configuration has no service of that name.
var ErrNoService = errors.New("is not a service of the configuration")

// Explanation says where a service's callers can get, by the configuration
// alone: all regions are taken to live, and one instance of each service to run
// in every region that may run it.
type Explanation struct {
	Service polder.ServiceName  `json:"service"`
	Hosts   []polder.Host       `json:"hosts"`
	Policy  string              `json:"policy"` // in words
	Allowed []polder.RegionName `json:"allowed"`
	Standby []polder.RegionName `json:"standby,omitempty"`
	Glass   []polder.RegionName `json:"glass,omitempty"` // may stand in while the glass is broken
	Regions []RegionExplanation `json:"regions"`
}

// RegionExplanation says what the gateway of one region does.
type RegionExplanation struct {
	Region     polder.RegionName `json:"region"`
	Title      string            `json:"title"`
	Now        Ruling            `json:"now"`              // while all regions live
	Lost       Ruling            `json:"lost"`             // while no allowed region but this one does
	Broken     *Ruling           `json:"broken,omitempty"` // the same while the glass is broken; nil without glass
	Ways       []Way             `json:"ways"`             // that the proof finds in what Envoy would get
	Violations []string          `json:"violations,omitempty"`
}

// Ruling is the law's word on one service at one gateway.
type Ruling struct {
	Verdict law.Verdict         `json:"verdict"`
	Reason  string              `json:"reason"`
	Targets []polder.RegionName `json:"targets,omitempty"`
}

// Way is one end that a caller can come to.
type Way struct {
	Kind    proof.WayKind     `json:"kind"`
	Host    polder.Host       `json:"host"`
	Region  polder.RegionName `json:"region,omitempty"` // where the end is
	Address string            `json:"address"`
	Path    []string          `json:"path"`
}

// String says where the way ends, for people.
func (w Way) String() string {
	switch w.Kind {
	case proof.ToKey:
		return fmt.Sprintf("Envoy in %s asks for the key when a ClientHello names %s", w.Region, w.Host)
	case proof.ToInstance:
		return fmt.Sprintf("a request reaches an instance in %s", w.Region)
	case proof.ToActivator:
		return fmt.Sprintf("a request waits at the activator in %s while an instance starts", w.Region)
	case proof.ToPeer:
		return fmt.Sprintf("a connection is passed on to the gateway of %s, unopened", w.Region)
	case proof.ToAnswer:
		return "Envoy answers by itself: " + w.Address
	case proof.ToSink:
		return "the request is noted in " + w.Address
	}
	return string(w.Kind) + " " + w.Address
}

func ruling(a law.Approved) Ruling { return Ruling{a.Verdict(), a.Reason(), a.Targets()} }

// Explainer explains the services of one model. It belongs to one goroutine.
type Explainer struct {
	model   *polder.Model
	regions []*example // in the model's order
}

// NewExplainer translates and proves a model as its running regions would, which
// costs about as much as starting them. The model must be valid.
func NewExplainer(m *polder.Model) (*Explainer, error) {
	e := &Explainer{model: m}
	for _, r := range m.Regions {
		x, err := newExample(m, r)
		if err != nil {
			return nil, err
		}
		e.regions = append(e.regions, x)
	}
	return e, nil
}

// Explain works out where the callers of a service can get, in every region.
func (e *Explainer) Explain(name polder.ServiceName) (Explanation, error) {
	s, ok := e.model.Service(name)
	if !ok {
		return Explanation{}, fmt.Errorf("%q %w", name, ErrNoService)
	}
	permission := law.Permit(s.Residency, e.model.Regions)
	explained := Explanation{
		Service: name, Hosts: s.Hosts, Policy: Policy(s, e.model.Regions),
		Allowed: permission.Allowed(), Standby: permission.Standby(), Glass: permission.Glass(),
	}
	for _, x := range e.regions {
		explained.Regions = append(explained.Regions, x.explain(s))
	}
	return explained, nil
}

// peerName is where a region's gateways would be found. Without an address in
// the configuration the peers tell each other at run time.
func peerName(r polder.Region) string {
	listen := listenOn(polder.Listen{}, r.Listen).Peer
	if a, err := bindAddress(listen); err == nil && !a.Addr().IsUnspecified() {
		return a.String()
	}
	return fmt.Sprintf("gateway.%s.invalid:7443", r.Name)
}

// example is a region as it would run.
type example struct {
	model      *polder.Model
	here       polder.Region
	now        time.Time
	around     surroundings
	instances  map[polder.ServiceName][]polder.Endpoint
	gate       *gate
	violations []proof.Violation
}

// nowhere publishes to no Envoy.
type nowhere struct{ publisher }

// Apply implements publisher.
func (nowhere) Apply([]xds.Resource, []xds.Key) int { return 0 }

func newExample(m *polder.Model, here polder.Region) (*example, error) {
	https, http, peer, err := bindAddresses(listenOn(polder.Listen{}, here.Listen))
	if err != nil {
		return nil, fmt.Errorf("region %s: %w", here.Name, err)
	}
	around := surroundings{health: polder.RegionHealth{}, peerOf: map[polder.RegionName][]string{}}
	for _, r := range m.Regions {
		if around.health[r.Name] = true; r.Name != here.Name {
			around.peerOf[r.Name] = []string{peerName(r)}
		}
	}
	around.known = around.peerOf
	around.rank = regions.Order(here.Location, m.Regions, regions.View{Health: around.health})
	node := xds.NodeConfig{Region: here.Name, HTTPS: https, HTTP: http, Peer: peer, PeerOf: around.peerOf, TrustDomain: "polder"}
	envoy := xds.Gateway{Region: here.Name, Activator: "activator.sock"}
	x := &example{
		model: m, here: here, now: time.Now(), around: around, instances: map[polder.ServiceName][]polder.Endpoint{},
		gate: newGate(slog.New(slog.DiscardHandler), nowhere{}, envoy, node),
	}
	var c change
	var judged []law.Approved
	for i, s := range m.Services {
		if s.Run != nil && law.Permit(s.Residency, m.Regions).Ever(here.Name) {
			x.instances[s.Name] = []polder.Endpoint{{Service: s.Name, Region: here.Name, Address: exampleAddress(i)}}
		}
		a := x.judge(s, around.health)
		judged = append(judged, a)
		c.set = append(c.set, xds.Service(a, envoy)...)
	}
	c.set = append(c.set, xds.Node(judged, node)...)
	c.book, c.instances = x.gate.newBook(m, around, x.now), x.instances
	x.violations = x.gate.publish(c)
	return x, nil
}

// exampleAddress gives each service an address of its own on loopback.
func exampleAddress(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, byte(1 + i>>16), byte(i >> 8), byte(i)}), 8080)
}

func (x *example) explain(s polder.Service) RegionExplanation {
	allowed := law.Permit(s.Residency, x.model.Regions).Allowed()
	lost := polder.RegionHealth{}
	for _, r := range x.model.Regions {
		lost[r.Name] = !slices.Contains(allowed, r.Name)
	}
	e := RegionExplanation{
		Region: x.here.Name, Title: x.here.Title, Ways: []Way{},
		Now: ruling(x.judge(s, x.around.health)), Lost: ruling(x.judge(s, lost)),
	}
	if f := s.Residency.Failover; f.Class == polder.FailoverBreakGlass {
		f.Broken = &polder.BrokenGlass{From: x.now, Until: x.now.Add(time.Hour), Reason: "an example"}
		s.Residency.Failover = f
		broken := ruling(x.judge(s, lost))
		e.Broken = &broken
	}
	for _, v := range x.violations {
		if len(v.Services) == 0 || slices.Contains(v.Services, s.Name) {
			e.Violations = append(e.Violations, v.String())
		}
	}
	for _, host := range s.Hosts {
		for _, w := range x.gate.checker.Reach(string(host)) {
			e.Ways = append(e.Ways, Way{w.Kind, host, w.Region, w.Address, w.Path})
		}
	}
	return e
}

func (x *example) judge(s polder.Service, alive polder.RegionHealth) law.Approved {
	candidates := slices.Clone(x.instances[s.Name])
	for region, addresses := range s.Endpoints {
		for _, a := range addresses {
			candidates = append(candidates, polder.Endpoint{Service: s.Name, Region: region, Address: a})
		}
	}
	return law.Judge(s, law.Circumstances{Here: x.here.Name, Regions: x.model.Regions, Alive: alive, Rank: x.around.rank, Endpoints: candidates, Now: x.now})
}
