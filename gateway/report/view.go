package report

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway"
	"github.com/polder/polder/gateway/ledger"
	"github.com/polder/polder/regions/law"
	"github.com/polder/polder/xds/proof"
)

// page is Data as the template needs it.
type page struct {
	Data
	Title    string
	Findings []finding
	Unknown  []finding // what could not be found out
	Map      plan
	Rows     []row
	Hidden   int // services that are not shown
	Details  []detail
	Changes  []event
	Earlier  int // changes that are not shown
	Events   []event
	Older    int // incidents that are not shown
	Keys     []legend
}

type finding struct {
	Region polder.RegionName
	Text   string
}

// row is one service in the table of regions.
type row struct {
	Service polder.ServiceName
	Hosts   string
	Cells   []cell
}

// cell is what one region does with a service.
type cell struct {
	Class, Word, Detail, Title string
	Now                        string // of one behind glass: what it does while that is whole
}

type legend struct{ Class, Word, Meaning string }

// detail is all about one service.
type detail struct {
	Service polder.ServiceName
	Policy  string
	Regions []detailRegion
}

type detailRegion struct {
	Region polder.RegionName
	Title  string
	Now    string
	Lost   string // "" when it is the same
	Broken string // while the glass is broken; "" when it is the same
	Ways   []way
}

type way struct {
	Text  string
	Paths []string
}

// event is one record of a ledger, in words.
type event struct {
	At     time.Time
	Region string // several for what all of them tell alike
	What   string
	Lines  []string
	Bad    bool
	Record string // sequence and hash
}

func newPage(d Data) page {
	p := page{Data: d, Title: "Where services may go, and how that is known", Keys: legends}
	for _, r := range d.Regions {
		p.addFindings(r)
	}
	p.Map = newPlan(d.Model.Regions, p.marks())
	p.Hidden = len(d.Model.Services) - len(d.Services)
	for i, e := range d.Services {
		p.Rows = append(p.Rows, newRow(e))
		if i < MaxDetailed {
			p.Details = append(p.Details, newDetail(e))
		}
	}
	p.addEvents()
	return p
}

// marks tells of each region how it is: for the map.
func (p *page) marks() map[polder.RegionName]string {
	marks := map[polder.RegionName]string{}
	for _, r := range p.Regions {
		marks[r.Region] = "unknown"
		if r.Audit != nil {
			marks[r.Region] = "good"
		}
	}
	for _, f := range p.Findings {
		marks[f.Region] = "bad"
	}
	return marks
}

func (p *page) addFindings(r Region) {
	bad := func(format string, values ...any) {
		p.Findings = append(p.Findings, finding{r.Region, fmt.Sprintf(format, values...)})
	}
	unknown := func(text string) { p.Unknown = append(p.Unknown, finding{r.Region, text}) }
	for _, line := range r.Refused {
		bad("The proof refuses the last change of the configuration; what was before is in force: %s", line)
	}
	for _, line := range r.Damage {
		bad("The ledger was tampered with: %s", line)
	}
	if r.Audit != nil {
		for _, d := range r.Audit.Drift {
			bad("The Envoy is not as it was published: %s", d)
		}
	}
	switch {
	case !r.Running:
		unknown("The region does not run, or not with this state folder: its Envoy was not audited.")
	case r.Audit == nil:
		unknown("The Envoy was not audited: " + r.Fault)
	case !r.Audit.Settled:
		unknown("Something was just being published, or the Envoy was not connected: it was only looked for what nobody ever published.")
	}
	if r.Ledger == nil {
		unknown("There is no ledger.")
	}
}

var legends = []legend{
	{"serve", "opens and serves", "TLS ends here, an instance of this region answers. The key may be here while the service is awake."},
	{"standby", "stands by", "opens and serves only while no allowed region is alive; until then it passes on."},
	{"glass", "behind glass", "opens and serves only while no allowed region is alive and somebody has broken the glass; until then it does what stands beside it. No key is here while the glass is whole."},
	{"pass", "passes on", "the TLS bytes go on unopened to a region that may have them. No key is here."},
	{"forbidden", "refuses", "the owner wants callers who arrive here to be turned away. No key is here."},
	{"unavailable", "cannot reach", "no region that may serve could be reached from here."},
}

func newRow(e gateway.Explanation) row {
	r := row{Service: e.Service, Hosts: joined(e.Hosts, ", ")}
	for _, region := range e.Regions {
		r.Cells = append(r.Cells, newCell(region, e))
	}
	return r
}

func newCell(r gateway.RegionExplanation, e gateway.Explanation) cell {
	c := cell{Class: string(r.Now.Verdict), Title: rulingText(r.Now)}
	switch {
	case slices.Contains(e.Standby, r.Region):
		c.Class = "standby"
	case slices.Contains(e.Glass, r.Region):
		c.Class, c.Now = "glass", wordOf(c.Class)
	}
	c.Word = wordOf(c.Class)
	if c.Class == "glass" && r.Lost.Verdict == law.Serve {
		c.Word = "behind broken glass"
	}
	if len(r.Now.Targets) > 0 {
		c.Detail = "→ " + joined(r.Now.Targets, ", ")
	}
	return c
}

// wordOf is what the table calls a class of cells.
func wordOf(class string) string {
	for _, l := range legends {
		if l.Class == class {
			return l.Word
		}
	}
	return ""
}

func rulingText(r gateway.Ruling) string {
	text := map[law.Verdict]string{law.Serve: "opens and serves", law.Pass: "passes on, unopened", law.Forbidden: "refuses", law.Unavailable: "cannot serve"}[r.Verdict]
	if len(r.Targets) > 0 {
		text += " to " + joined(r.Targets, ", then ")
	}
	return text + ": " + r.Reason
}

func newDetail(e gateway.Explanation) detail {
	d := detail{Service: e.Service, Policy: e.Policy}
	for _, r := range e.Regions {
		region := detailRegion{Region: r.Region, Title: r.Title, Now: rulingText(r.Now)}
		if lost := rulingText(r.Lost); lost != region.Now {
			region.Lost = lost
		}
		if r.Broken != nil && rulingText(*r.Broken) != rulingText(r.Lost) {
			region.Broken = rulingText(*r.Broken)
		}
		region.Ways = gather(r.Ways)
		d.Regions = append(d.Regions, region)
	}
	return d
}

// gather joins ways with the same end, the ones that matter first.
func gather(ways []gateway.Way) []way {
	order := []proof.WayKind{proof.ToKey, proof.ToInstance, proof.ToActivator, proof.ToPeer, proof.ToSink, proof.ToAnswer}
	ways = slices.Clone(ways)
	slices.SortStableFunc(ways, func(a, b gateway.Way) int { return slices.Index(order, a.Kind) - slices.Index(order, b.Kind) })
	var list []way
	for _, w := range ways {
		text, path := w.String(), joined(w.Path, " › ")
		if n := len(list); n > 0 && list[n-1].Text == text {
			list[n-1].Paths = append(list[n-1].Paths, path)
			continue
		}
		list = append(list, way{text, []string{path}})
	}
	return list
}

// addEvents tells the records of all regions, the latest first.
func (p *page) addEvents() {
	for _, r := range p.Regions {
		for _, record := range r.Records {
			e := event{At: record.Time, Region: string(r.Region), Record: fmt.Sprintf("%d · %.12s", record.Sequence, record.Hash), Lines: linesOf(record)}
			if record.Kind == changes {
				e.What = "Configuration in force"
				p.Changes = append(p.Changes, e)
			} else if e.What = told[record.Kind]; e.What != "" {
				e.Bad = record.Kind != ledger.Repaired && record.Kind != ledger.Truncated
				p.Events = append(p.Events, e)
			}
		}
	}
	latest := func(a, b event) int { return b.At.Compare(a.At) }
	slices.SortStableFunc(p.Changes, latest)
	slices.SortStableFunc(p.Events, latest)
	p.Changes = merged(p.Changes)
	p.Earlier, p.Older = max(0, len(p.Changes)-MaxChanges), max(0, len(p.Events)-MaxIncidents)
	p.Changes = p.Changes[:len(p.Changes)-p.Earlier]
	p.Events = p.Events[:len(p.Events)-p.Older]
}

// merged joins changes that several regions tell alike: each notes by itself
// what came into force.
func merged(list []event) []event {
	var kept []event
	for _, e := range list {
		at := slices.IndexFunc(kept, func(k event) bool {
			return slices.Equal(k.Lines, e.Lines) && !slices.Contains(strings.Split(k.Region, ", "), e.Region)
		})
		if at < 0 {
			kept = append(kept, e)
			continue
		}
		kept[at].Region += ", " + e.Region
		kept[at].Record += "\n" + e.Record
	}
	return kept
}

// linesOf words the data of a record. What this version does not know is shown
// as it stands.
func linesOf(r ledger.Record) []string {
	var data struct {
		Digest     string          `json:"digest"`
		Source     string          `json:"source"`
		Drift      []drift         `json:"drift"`
		Violations []violation     `json:"violations"`
		Changes    json.RawMessage `json:"changes"`
		Faults     int             `json:"faults"`
		Found      []string        `json:"found"`
		More       int             `json:"more"`
		Node       string          `json:"node"`
		Region     string          `json:"region"`
		From       string          `json:"from"`
		Reason     string          `json:"reason"`
	}
	if json.Unmarshal(r.Data, &data) != nil {
		return []string{string(r.Data)}
	}
	var lines []string
	switch r.Kind {
	case ledger.Drifted:
		for _, d := range data.Drift {
			lines = append(lines, fmt.Sprintf("%s %s: %s", d.Kind, d.What, d.Reason))
		}
	case ledger.Refused:
		for _, v := range data.Violations {
			lines = append(lines, fmt.Sprintf("%s reaches %s: %s", joined(v.Path, " › "), v.Address, v.Reason))
		}
	case ledger.NodeRefused:
		lines = []string{fmt.Sprintf("%s said that it is node %q of region %q: %s", data.From, data.Node, data.Region, data.Reason)}
	case ledger.Damaged:
		lines = data.Found
	case ledger.Repaired:
		lines = []string{"node " + data.Node + " runs with snapshot " + abbreviated(data.Digest)}
	case ledger.Configuration:
		lines = policyLines(data.Changes)
		if data.Faults > 0 {
			lines = append(lines, fmt.Sprintf("It has %d faults; what they concern stays as it was.", data.Faults))
		}
		lines = append(lines, "digest "+abbreviated(data.Digest))
	default:
		lines = []string{string(r.Data)}
	}
	if data.More > 0 {
		lines = append(lines, fmt.Sprintf("and %d more", data.More))
	}
	return lines
}

type drift struct{ Kind, What, Reason string }

type violation struct {
	Path            []string
	Address, Reason string
}

func policyLines(text json.RawMessage) []string {
	var list []struct {
		Service, Region, Before, After string
		Other                          bool
	}
	if json.Unmarshal(text, &list) != nil {
		return nil
	}
	var lines []string
	for _, c := range list {
		what := "Service " + c.Service
		if c.Region != "" {
			what = "Region " + c.Region
		}
		switch {
		case c.Other:
			lines = append(lines, what+" changed, and its policy did not.")
		case c.Before == "":
			lines = append(lines, what+" is new: "+c.After+".")
		case c.After == "":
			lines = append(lines, what+" is gone. It was: "+c.Before+".")
		default:
			lines = append(lines, what+" is now: "+c.After+". It was: "+c.Before+".")
		}
	}
	return lines
}

func abbreviated(digest string) string { return digest[:min(16, len(digest))] }

func joined[T ~string](list []T, separator string) string {
	parts := make([]string, len(list))
	for i, s := range list {
		parts[i] = string(s)
	}
	return strings.Join(parts, separator)
}
