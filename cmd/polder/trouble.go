package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway"
)

// trouble is something that someone should look at.
type trouble struct {
	where string // the regions that tell of it, "fr, nl"
	text  string // may have several lines
}

// troubles lists faults of the configuration, what the proof refused, what
// Envoys rejected, and what the machine does not allow. What several regions
// tell alike is told once.
func troubles(statuses []gateway.Status) []trouble {
	var list []trouble
	places := map[string]int{} // by text
	tell := func(s gateway.Status, text string) {
		if i, told := places[text]; told {
			list[i].where += ", " + string(s.Region)
			return
		}
		places[text] = len(list)
		list = append(list, trouble{string(s.Region), text})
	}
	for _, s := range statuses {
		for _, f := range s.Config.Faults {
			tell(s, "configuration: "+f.Error())
		}
		if len(s.Config.Kept) > 0 {
			kept := make([]string, len(s.Config.Kept))
			for i, name := range s.Config.Kept {
				kept[i] = string(name)
			}
			tell(s, "at their last good version: "+listed(kept))
		}
		for _, line := range s.Refused {
			tell(s, "the proof refused a change: "+line)
		}
		for _, n := range s.Nodes {
			for _, r := range n.Rejections {
				cause := ""
				if r.Cause != "" {
					cause = ", made of what " + r.Cause + " says"
				}
				tell(s, fmt.Sprintf("node %s rejected %s %s%s:\n  %s", n.Node, shortType(r.Type), r.Name, cause, strings.TrimSpace(r.Reason)))
			}
		}
		for _, r := range s.RefusedNodes {
			tell(s, refusedNode(r))
		}
		if s.Envoy.State == "exited" && s.Envoy.Reason != "" {
			tell(s, "Envoy: "+s.Envoy.Reason)
		}
		for _, line := range s.Degraded {
			tell(s, line)
		}
		for _, line := range lawTroubles(s) {
			tell(s, line)
		}
	}
	return list
}

// lawTroubles lists what concerns where services may be.
func lawTroubles(s gateway.Status) []string {
	var list []string
	for _, v := range s.Services {
		if g := v.Glass; g != nil {
			when := "is broken"
			if !g.Broken {
				when = fmt.Sprintf("will be broken from %s", g.From.Format(time.RFC3339))
			}
			list = append(list, fmt.Sprintf("the glass of %s %s until %s: %s may stand in; %s",
				v.Service, when, g.Until.Format(time.RFC3339), listed(regionTexts(g.Regions)), g.Reason))
		}
		if v.Disputed {
			list = append(list, fmt.Sprintf("peers disagree about the policy of %s: only what all of them permit holds, until they have one configuration", v.Service))
		}
	}
	for _, p := range s.Skew {
		told := fmt.Sprintf("sees the policies of %d services otherwise", len(p.Services))
		if !p.Told {
			told = "has other policies, and has not told them yet"
		}
		list = append(list, fmt.Sprintf("peer %s of %s %s: what both permit holds", p.Peer, p.Region, told))
	}
	for _, d := range s.Audit.Drift {
		list = append(list, "the Envoy is not as it was published: "+d.String())
	}
	if s.Ledger.Damage != "" {
		list = append(list, "the ledger: "+s.Ledger.Damage)
	}
	return list
}

func regionTexts(regions []polder.RegionName) []string {
	names := make([]string, len(regions))
	for i, r := range regions {
		names[i] = string(r)
	}
	return names
}

func refusedNode(r gateway.Refusal) string {
	who := r.From
	if r.Node != "" {
		who += fmt.Sprintf(", which says that it is node %s of region %s", r.Node, r.Region)
	}
	if r.Certificate != "" {
		who += " with the certificate of " + r.Certificate
	}
	return fmt.Sprintf("refused %s (%d times, last at %s): %s", who, r.Count, r.At.Format("15:04:05"), r.Reason)
}

// shortType is the last word of a resource's type URL.
func shortType(url string) string { return url[strings.LastIndexByte(url, '.')+1:] }

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}
