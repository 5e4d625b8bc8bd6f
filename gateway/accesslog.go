package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway/audit"
	"github.com/polder/polder/xds"
)

const (
	// readAccessLog is how often the access log is read; Envoy writes to it ten times
	// a second.
	readAccessLog = 2 * time.Second
	// maxAccessLog is the size in bytes from which on the file is set aside. One
	// such file is kept.
	maxAccessLog = 16 << 20
	// addressMemory is for how long an address counts after its instance has gone: the
	// line about a request comes when it has ended.
	addressMemory = 2 * time.Hour
)

// addresses remembers where each service's requests may have gone on this node.
// Safe for concurrent use.
type addresses struct {
	mu   sync.Mutex // guards all below
	now  map[polder.ServiceName]map[netip.AddrPort]bool
	file map[polder.ServiceName]map[netip.AddrPort]bool // of the configuration
	gone map[polder.Endpoint]time.Time
}

// configured takes the static addresses of a model in force.
func (a *addresses) configured(m *polder.Model, here polder.RegionName, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	before := a.file
	a.file = map[polder.ServiceName]map[netip.AddrPort]bool{}
	for _, s := range m.Services {
		for _, address := range s.Endpoints[here] {
			a.put(a.file, s.Name, address)
		}
	}
	for service, set := range before {
		for address := range set {
			if !a.file[service][address] {
				a.leave(service, address, now)
			}
		}
	}
}

// observed takes the instances of the services named, as they are published.
func (a *addresses) observed(instances map[polder.ServiceName][]polder.Endpoint, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.now == nil {
		a.now = map[polder.ServiceName]map[netip.AddrPort]bool{}
	}
	for service, list := range instances {
		before := a.now[service]
		delete(a.now, service)
		for _, e := range list {
			a.put(a.now, service, e.Address)
		}
		for address := range before {
			if !a.now[service][address] {
				a.leave(service, address, now)
			}
		}
	}
}

func (a *addresses) put(in map[polder.ServiceName]map[netip.AddrPort]bool, service polder.ServiceName, address netip.AddrPort) {
	if in[service] == nil {
		in[service] = map[netip.AddrPort]bool{}
	}
	in[service][address] = true
}

func (a *addresses) leave(service polder.ServiceName, address netip.AddrPort, now time.Time) {
	if a.gone == nil {
		a.gone = map[polder.Endpoint]time.Time{}
	}
	a.gone[polder.Endpoint{Service: service, Address: address}] = now
	for e, at := range a.gone {
		if now.Sub(at) > addressMemory {
			delete(a.gone, e)
		}
	}
}

// lawful tells whether a request of the service may have gone to the address.
func (a *addresses) lawful(service polder.ServiceName, address netip.AddrPort) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	_, lately := a.gone[polder.Endpoint{Service: service, Address: address}]
	return lately || a.now[service][address] || a.file[service][address]
}

// accessLine is what is read of a line of the access log.
type accessLine struct {
	Cluster string `json:"cluster"`
	Address string `json:"address"`
	Request string `json:"request-id"`
	Status  int    `json:"status"`
	// Began is Unix time in seconds, to the microsecond; First the microseconds from
	// then to the first byte of the answer, "-" or null without one.
	Began string          `json:"began"`
	First json.RawMessage `json:"first-us"`
}

// judgeLine tells what is wrong with a line, "" if nothing is: the address is that
// of an instance of the service in this region, or the activator's.
func (r *Region) judgeLine(line []byte) string {
	var l accessLine
	if json.Unmarshal(line, &l) != nil {
		return "" // cut by a full disk or a killed Envoy; it says nothing
	}
	if l.Cluster == "" || l.Cluster == "-" || l.Address == "" || l.Address == "-" {
		return "" // Envoy answered by itself
	}
	service, ok := xds.ClusterService(l.Cluster)
	if !ok {
		return fmt.Sprintf("request %s went to cluster %s, which is no service's", l.Request, l.Cluster)
	}
	if l.Address == r.layout.Activator() {
		return ""
	}
	address, err := netip.ParseAddrPort(l.Address)
	if err != nil || !r.reconciler.gate.addresses.lawful(service, address) {
		return fmt.Sprintf("request %s of service %s reached %s, which is no address of it in region %s", l.Request, service, l.Address, r.options.Region)
	}
	r.noteLine(l, service, address)
	return ""
}

// watchAccessLog holds the addresses that Envoy says it sent requests to against
// the law, until ctx ends.
func (r *Region) watchAccessLog(ctx context.Context) error {
	log := newTail(r.layout.AccessLog())
	for pause(ctx, readAccessLog) {
		found, err := r.judgeLines(&log)
		if err != nil {
			r.options.Log.Error("the access log cannot be held against the law", "reason", err)
			continue
		}
		r.suspectLines(found)
		if log.offset > maxAccessLog {
			if err := r.rotateAccessLog(ctx); err != nil {
				r.options.Log.Error("the access log grows beyond its bound", "reason", err)
				continue
			}
			rest, err := r.judgeLines(&tail{log.file + ".1", log.offset}) // what came in the meantime
			if r.suspectLines(rest); err != nil {
				r.options.Log.Error("the end of the access log cannot be held against the law", "reason", err)
			}
			log.offset = 0
		}
	}
	return nil
}

// suspectLines replaces an Envoy that sent requests where it may not.
func (r *Region) suspectLines(found []audit.Drift) {
	if len(found) == 0 {
		return
	}
	result := audit.Result{Node: r.node, At: time.Now().UTC(), Drift: found}
	r.distrust(result)
	r.attestation.last.Store(&AuditStatus{At: result.At, Drift: found})
	r.envoy.Restart("audit: " + result.Summary())
	r.auditor.Hurry()
}

// judgeLines judges the lines that are new.
func (r *Region) judgeLines(log *tail) ([]audit.Drift, error) {
	lines, err := log.lines()
	var found []audit.Drift
	for _, line := range lines {
		if reason := r.judgeLine(line); reason != "" && len(found) < maxListed {
			found = append(found, audit.Drift{Kind: audit.Unlawful, What: "access log", Reason: reason})
		}
	}
	return found, err
}

func (r *Region) rotateAccessLog(ctx context.Context) error {
	file := r.layout.AccessLog()
	if err := os.Rename(file, file+".1"); err != nil {
		return err
	}
	return r.envoy.Admin().ReopenLogs(ctx)
}
