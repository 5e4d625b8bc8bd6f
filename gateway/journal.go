package gateway

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway/audit"
	"github.com/polder/polder/gateway/ledger"
	"github.com/polder/polder/xds/proof"
)

const (
	// gatherEndpoints is for how long changes of endpoints alone are gathered into
	// one record: instances come and go all the time, and what they may be was
	// proved and written down with the service.
	gatherEndpoints = 10 * time.Second
	// maxListed bounds what one record lists.
	maxListed = 100
	// maxEarly bounds the records that wait for the ledger to be opened.
	maxEarly = 16
)

// journal writes the region's ledger: what is worth a record, and how often. It
// keeps nothing back that was refused, changed by an owner, or found by an
// audit. All methods may be called from any goroutine, and on nil, which
// writes nothing.
type journal struct {
	// Fixed after construction.
	log    *slog.Logger
	here   polder.RegionName
	digest func() string // of everything that is published

	mu      sync.Mutex // guards all below
	ledger  *ledger.Ledger
	early   []early // before it was open
	failing bool    // the last record was lost, and that was logged
	changes int     // of endpoints alone, not recorded yet
	since   time.Time
	hidden  redaction
	refusal []string           // the last one, until something passes
	given   map[holding]string // certificates that Envoys were given the keys of
}

// holding is a service's key at a node.
type holding struct {
	node    string
	service polder.ServiceName
}

type early struct {
	kind ledger.Kind
	data any
}

func newJournal(log *slog.Logger, here polder.RegionName, digest func() string) *journal {
	return &journal{log: log, here: here, digest: digest, given: map[holding]string{}}
}

// open opens the ledger and writes that the region starts, and what happened before.
func (j *journal) open(o ledger.Options, start startedRecord) error {
	opened, err := ledger.Open(o)
	if err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.ledger = opened
	j.add(ledger.Started, start)
	for _, e := range j.early {
		j.add(e.kind, e.data)
	}
	j.early = nil
	return nil
}

// close writes what was gathered, why the region stops, and closes the ledger.
func (j *journal) close(reason string) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.flush()
	j.add(ledger.Stopped, stoppedRecord{reason})
	closed := j.ledger.Close()
	j.ledger = nil
	return closed
}

// Run brings records to disk until ctx ends.
func (j *journal) Run(ctx context.Context) error {
	ticker := time.NewTicker(ledger.SyncEvery)
	defer ticker.Stop()
	for {
		select {
		case now := <-ticker.C:
			j.mu.Lock()
			if j.changes > 0 && now.Sub(j.since) >= gatherEndpoints {
				j.flush()
			}
			open := j.ledger
			j.mu.Unlock()
			if open != nil {
				open.Sync() // its fault is in its status
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// add writes a record. Called with mu held.
func (j *journal) add(kind ledger.Kind, data any) {
	data = j.hidden.apply(data)
	if j.ledger == nil {
		if len(j.early) < maxEarly {
			j.early = append(j.early, early{kind, data})
		}
		return
	}
	err := j.ledger.Append(kind, data)
	if err != nil && !j.failing {
		j.log.Error("the ledger takes no records", "reason", err)
	}
	j.failing = err != nil
}

func (j *journal) record(kind ledger.Kind, data any) {
	if j == nil {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.add(kind, data)
}

// The data of records. They name services and hosts, and hold no address of a
// caller, no key and no content.
type (
	startedRecord struct {
		Peer    string `json:"peer"`
		Version string `json:"version"` // of Polder
		PID     int    `json:"pid"`
	}
	stoppedRecord struct {
		Reason string `json:"reason"`
	}
	acceptedRecord struct {
		Digest    string `json:"digest"` // of all that is published now
		Changes   int    `json:"changes"`
		Endpoints bool   `json:"endpoints,omitempty"` // only instances came or went
	}
	refusedRecord struct {
		Digest     string            `json:"digest"` // of what stays in force
		Violations []violationRecord `json:"violations"`
		More       int               `json:"more,omitempty"`
	}
	violationRecord struct {
		Services []polder.ServiceName `json:"services,omitempty"`
		Path     []string             `json:"path"`
		Address  string               `json:"address"`
		Reason   string               `json:"reason"`
	}
	keyRecord struct {
		Node        string             `json:"node"`
		Service     polder.ServiceName `json:"service,omitempty"` // "" for the peer's own identity
		Host        string             `json:"host"`              // as asked for first
		Certificate string             `json:"certificate"`       // SHA-256 of the chain
	}
	driftRecord struct {
		Node  string        `json:"node"`
		Drift []audit.Drift `json:"drift"`
		More  int           `json:"more,omitempty"`
	}
	repairedRecord struct {
		Node   string `json:"node"`
		Digest string `json:"digest"` // of what the Envoy has
	}
)

// accepted tells that a change passed the proof and was published. Changes of
// endpoints alone are gathered.
func (j *journal) accepted(changes int, endpoints bool) {
	if j == nil || changes == 0 {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.refusal = nil
	if endpoints {
		if j.changes == 0 {
			j.since = time.Now()
		}
		j.changes += changes
		return
	}
	j.flush()
	j.add(ledger.Accepted, acceptedRecord{Digest: j.digest(), Changes: changes})
}

// flush writes what was gathered. Called with mu held.
func (j *journal) flush() {
	if j.changes > 0 {
		j.add(ledger.Accepted, acceptedRecord{Digest: j.digest(), Changes: j.changes, Endpoints: true})
		j.changes = 0
	}
}

// refused tells that a change did not pass. The same refusal again is no news.
func (j *journal) refused(violations []proof.Violation, lines []string) {
	if j == nil {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if slices.Equal(lines, j.refusal) {
		return
	}
	j.refusal = lines
	r := refusedRecord{Digest: j.digest(), More: max(0, len(violations)-maxListed)}
	for _, v := range violations[:min(len(violations), maxListed)] {
		r.Violations = append(r.Violations, violationRecord{v.Services, v.Path, v.Address, v.Reason})
	}
	j.flush()
	j.add(ledger.Refused, r)
}

// delivered tells that an Envoy was given the key of a certificate: once for
// each of a service's certificates, whatever the hosts.
func (j *journal) delivered(node string, service polder.ServiceName, host, certificate string) {
	if j == nil {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if at := (holding{node, service}); j.given[at] != certificate {
		j.given[at] = certificate
		j.add(ledger.KeyDelivered, keyRecord{node, service, host, certificate})
	}
}

// drifted tells what an audit found.
func (j *journal) drifted(r audit.Result) {
	j.record(ledger.Drifted, driftRecord{Node: r.Node, Drift: r.Drift[:min(len(r.Drift), maxListed)], More: max(0, len(r.Drift)-maxListed)})
}

// repaired tells that an audit after a drift found everything in order.
func (j *journal) repaired(r audit.Result) {
	j.record(ledger.Repaired, repairedRecord{r.Node, r.Running})
}

// LedgerStatus is the state of a region's ledger.
type LedgerStatus struct {
	ledger.Status
	Damage string `json:"damage,omitempty"` // another hand wrote to it
}

func (j *journal) status() LedgerStatus {
	j.mu.Lock()
	open := j.ledger
	j.mu.Unlock()
	if open == nil {
		return LedgerStatus{}
	}
	status := LedgerStatus{Status: open.Status()}
	if err := open.Intact(); err != nil {
		status.Damage = err.Error()
	}
	return status
}
