package report

import (
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway"
	"github.com/polder/polder/gateway/audit"
	"github.com/polder/polder/gateway/ledger"
)

const (
	// MaxServices bounds the services that the page shows; it says how many more
	// there are.
	MaxServices = 2000
	// MaxDetailed bounds those whose ways it lists.
	MaxDetailed = 200
	// MaxIncidents bounds the incidents that it shows, the latest ones.
	MaxIncidents = 200
	// MaxChanges bounds the policy changes that it shows, the latest ones.
	MaxChanges = 100
)

// Data is what the page tells.
type Data struct {
	Made     time.Time
	Source   string // of the configuration, for people
	Digest   string // of the configuration
	Model    *polder.Model
	Services []gateway.Explanation // as many as shall be shown, of all of the model's
	Regions  []Region
}

// Region is the evidence of one region.
type Region struct {
	Region  polder.RegionName
	Running bool
	Refused []string        // why the proof refuses the last change
	Audit   *audit.Result   // nil when there was none
	Ledger  *ledger.Summary // nil when there is none
	Damage  []string        // of the ledger
	Fault   string          // why something could not be found out
	Records []ledger.Record // that may be worth telling, oldest first
}

// Told are the kinds of records that the page shows as incidents, and those
// that it shows as changes of policy.
var (
	told = map[ledger.Kind]string{
		ledger.Refused: "The proof refused a change", ledger.Drifted: "An Envoy was not as published", ledger.Repaired: "The Envoy was as published again",
		ledger.BreakGlass: "Break-glass", ledger.Damaged: "A ledger had been tampered with", ledger.Lost: "Records could not be written",
		ledger.Truncated: "A crash cut the last record", ledger.NodeRefused: "An Envoy on another machine was refused",
	}
	changes = ledger.Configuration
)

// Tells tells whether the page has a place for records of that kind.
func Tells(kind ledger.Kind) bool { return told[kind] != "" || kind == changes }
