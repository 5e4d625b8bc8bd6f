package gateway

import (
	"strings"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/regions/law"
	"github.com/polder/polder/xds/server"
)

// Status is everything that one region tells about itself.
type Status struct {
	Region       polder.RegionName   `json:"region"`
	Peer         string              `json:"peer"`
	PID          int                 `json:"pid"`
	Started      time.Time           `json:"started"`
	Version      string              `json:"version"`
	Listen       polder.Listen       `json:"listen"`
	Envoy        EnvoyStatus         `json:"envoy"`
	Config       ConfigStatus        `json:"config"`
	Nodes        []server.NodeStatus `json:"nodes"`
	RefusedNodes []Refusal           `json:"refused-nodes,omitempty"` // who asked for what Envoys get, the latest first
	Peers        []PeerStatus        `json:"peers"`
	Keys         []string            `json:"membership-keys"` // what identifies the keys held, the one that encrypts first
	Skew         []SkewStatus        `json:"skew,omitempty"`  // peers that see policies otherwise
	Services     []ServiceStatus     `json:"services"`
	Degraded     []string            `json:"degraded,omitempty"` // what this machine does not allow, one line each
	Refused      []string            `json:"refused,omitempty"`  // why the proof refused the last change
	Audit        AuditStatus         `json:"audit"`
	Ledger       LedgerStatus        `json:"ledger"`
}

// Serving tells whether the region's Envoy follows its control plane and has
// the listeners that it was sent.
func (s Status) Serving() bool {
	for _, node := range s.Nodes {
		if node.Client {
			continue
		}
		for _, t := range node.Types {
			if strings.HasSuffix(t.Type, "Listener") && t.Accepted > 0 && t.Pending == 0 {
				return true
			}
		}
	}
	return false
}

// EnvoyStatus tells of the region's Envoy process.
type EnvoyStatus struct {
	State    string `json:"state"`
	PID      int    `json:"pid,omitempty"`
	Restarts int    `json:"restarts"`
	Reason   string `json:"reason,omitempty"` // of the last end
}

// ConfigStatus tells which configuration is in force.
type ConfigStatus struct {
	Source string               `json:"source"`
	Digest string               `json:"digest"`
	Loaded time.Time            `json:"loaded"`
	Faults []polder.Fault       `json:"faults,omitempty"`
	Kept   []polder.ServiceName `json:"kept,omitempty"` // services at their last good version
}

// PeerStatus is one row of the membership.
type PeerStatus struct {
	Peer      string               `json:"peer"`
	Region    polder.RegionName    `json:"region"`
	Healthy   bool                 `json:"healthy"`
	Draining  bool                 `json:"draining,omitempty"`
	Suspected bool                 `json:"suspected,omitempty"` // its own row is good, and connections to it from here fail
	RTT       int64                `json:"rtt_us,omitempty"`    // smoothed round trip; 0 while not measured
	Address   string               `json:"address"`
	Load      uint8                `json:"load"` // percent of what it can take, in tens
	Warm      []polder.ServiceName `json:"warm,omitempty"`
	Busy      []polder.ServiceName `json:"busy,omitempty"` // of these, what is called too often to have one home
	Digest    string               `json:"digest"`         // of its configuration
	Policy    string               `json:"policy"`         // of what that says about where services may be
}

// ServiceStatus tells of one service in one region.
type ServiceStatus struct {
	Service   polder.ServiceName  `json:"service"`
	Hosts     []polder.Host       `json:"hosts"`
	Verdict   law.Verdict         `json:"verdict"`
	Home      string              `json:"home,omitempty"` // peer that new callers go to first; none: here, or the nearest
	Reason    string              `json:"reason"`
	Targets   []polder.RegionName `json:"targets,omitempty"`
	Glass     *GlassStatus        `json:"glass,omitempty"`    // broken, or about to be
	Disputed  bool                `json:"disputed,omitempty"` // peers see its policy otherwise; what all permit holds
	Instances []InstanceStatus    `json:"instances"`
	Waiting   int                 `json:"waiting"`
	Open      int                 `json:"open"`                // requests in progress at the last load report
	Saturated string              `json:"saturated,omitempty"` // why new requests wait for instances that are ready; "" when none does
	Totals    Totals              `json:"totals"`
	Failure   string              `json:"failure,omitempty"`  // of the last start
	Decision  string              `json:"decision,omitempty"` // of the predictor, in words
	Shadow    *ShadowStatus       `json:"shadow,omitempty"`   // a policy that is scored beside it
}

// InstanceStatus tells of one instance.
type InstanceStatus struct {
	Instance polder.InstanceID    `json:"instance"`
	State    polder.InstanceState `json:"state"`
	Address  string               `json:"address"`
	Started  time.Time            `json:"started"`
	Reason   string               `json:"reason"`
}

// status describes one service. Called in the reconciler's goroutine.
func (s *service) status(now time.Time) ServiceStatus {
	status := ServiceStatus{
		Service: s.spec.Name, Hosts: s.spec.Hosts,
		Verdict: s.approved.Verdict(), Home: s.approved.Home().Peer, Reason: s.approved.Reason(), Targets: s.approved.Targets(),
		Glass: glassStatus(s.approved, now), Disputed: s.approved.Disputed(),
		Instances: []InstanceStatus{}, Waiting: len(s.waiters), Open: s.busy(now), Saturated: s.saturatedNow(now), Totals: s.total, Failure: s.failure,
	}
	if s.spec.Run != nil && s.approved.Verdict() == law.Serve {
		status.Decision, status.Shadow = s.decision.Reason(), s.shadowStatus()
	}
	for _, i := range s.running {
		status.Instances = append(status.Instances, InstanceStatus{
			Instance: i.ID, State: i.State, Address: i.Address.String(), Started: i.Started, Reason: i.Reason})
	}
	return status
}
