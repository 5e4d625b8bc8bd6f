package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/loadtest"
)

// kind is what a caller got.
type kind string

const (
	fine       kind = "answered"
	labelled   kind = "labelled"   // an error that says why, in Polder's words
	alert      kind = "alert"      // a TLS alert in place of an answer
	transport  kind = "transport"  // no connection, or one that broke or hung
	unlabelled kind = "unlabelled" // an error without a reason, or an answer that is none
	foreign    kind = "foreign"    // the answer of another service
)

// call is one request and what became of it. Times count from the start of the load.
type call struct {
	service     service
	entry       string // the peer that it went to; "" for one that asked DNS
	from        polder.RegionName
	begin, end  time.Duration // sent, and done
	kind        kind
	region      polder.RegionName // that answered; "" unless fine
	explanation string
}

func (c call) String() string {
	way := "by DNS from " + string(c.from)
	if c.entry != "" {
		way = "through " + c.entry
	}
	return fmt.Sprintf("%s %s at %.3f s, after %.3f s: %s %s", c.service.name, way, c.begin.Seconds(), (c.end - c.begin).Seconds(), c.kind, c.explanation)
}

// target names a way to call a service; callOf reads it again.
func target(s service, entry string, from polder.RegionName) string {
	return s.name + " " + entry + " " + string(from)
}

// examine notes which region answered, or why none did.
func examine(_ string, r *http.Response, body []byte) string {
	if reason := r.Header.Get("X-Polder-Reason"); reason != "" {
		return "reason " + reason
	}
	var answer struct{ Service, Region string }
	if r.StatusCode == http.StatusOK && json.Unmarshal(body, &answer) == nil && answer.Region != "" {
		return "region " + answer.Region + " " + answer.Service
	}
	return "body " + string(body[:min(len(body), 120)])
}

// callOf makes a call of a result.
func callOf(r loadtest.Result) call {
	parts := strings.Split(r.Target, " ")
	c := call{service: serviceOf(parts[0]), entry: parts[1], from: polder.RegionName(parts[2]), begin: r.Sent, end: r.Done}
	what, value, _ := strings.Cut(r.Note, " ")
	switch {
	case r.Outcome != loadtest.Answered && strings.Contains(r.Error, "tls: "):
		c.kind, c.explanation = alert, r.Error
	case r.Outcome != loadtest.Answered:
		c.kind, c.explanation = transport, r.Error
	case r.Status == http.StatusOK && what == "region":
		region, name, _ := strings.Cut(value, " ")
		c.kind, c.region = fine, polder.RegionName(region)
		if name != c.service.name {
			c.kind, c.explanation = foreign, "the answer of "+name
		}
	case what == "reason":
		c.kind, c.explanation = labelled, fmt.Sprintf("%d %s", r.Status, value)
	default:
		c.kind, c.explanation = unlabelled, fmt.Sprintf("%d %s", r.Status, r.Note)
	}
	return c
}

// refused tells whether the caller got what the owner wants for callers outside.
func (c call) refused() bool {
	return c.service.refuses && c.entry != "" && !c.service.mayAt(entryRegion(c.entry)) && c.kind == alert
}

func entryRegion(peer string) polder.RegionName {
	region, _, _ := strings.Cut(peer, "-")
	return polder.RegionName(region)
}

// side is the region where the call entered, or whose callers asked DNS.
func (c call) side() polder.RegionName {
	if c.entry != "" {
		return entryRegion(c.entry)
	}
	return c.from
}

// excuse lets calls fail while a fault, or its traces, are there.
type excuse struct {
	why        string
	begin, end time.Duration
	beyond     time.Duration // after all is well again; only where end is 0
	kinds      []kind        // nil means any
	holds      func(call) bool
}

func (e excuse) covers(c call) bool {
	return c.begin <= e.end && c.end >= e.begin && (e.kinds == nil || slices.Contains(e.kinds, c.kind)) && e.holds(c)
}

// pardon sums up the calls that one excuse covers.
type pardon struct {
	n       int
	last    time.Duration // from the fault to when the last of them ended
	longest call
}

// silence is a time in which one region could not be heard in another, so that a
// standby there may serve.
type silence struct {
	of, in     polder.RegionName
	begin, end time.Duration
}

// against tells which rule of the law a call breaks; "" for none. The rules hold
// whatever happens: only a silence, which is part of the law, gives a standby its turn.
func (c call) against(silences []silence) string {
	opened := c.kind == fine || c.kind == foreign || c.kind == labelled || c.kind == unlabelled // by whoever wrote HTTP
	if opened && c.service.refuses && c.entry != "" && !c.service.mayAt(entryRegion(c.entry)) {
		return "its owner refuses callers who enter there"
	}
	switch {
	case c.kind == foreign:
		return "one service's callers got the answer of another"
	case c.kind != fine:
		return ""
	case !c.service.mayAt(c.region):
		return "its policy does not permit " + string(c.region)
	case slices.Contains(c.service.at, c.region):
		return ""
	}
	for _, region := range c.service.at {
		if !slices.ContainsFunc(silences, func(s silence) bool {
			return s.of == region && s.in == c.region && c.begin <= s.end && c.end >= s.begin
		}) {
			return fmt.Sprintf("standby %s answered though nothing kept %s from being heard there", c.region, region)
		}
	}
	return ""
}

// offence is a call against the law, and the rule.
type offence struct {
	call
	rule string
}

// judge finds the calls that nothing excuses, and those that break the law, which
// nothing ever does.
func judge(calls []call, excuses []excuse, silences []silence) (unlawful []offence, unexcused []call, excused map[string]pardon) {
	excused = map[string]pardon{}
	for _, c := range calls {
		if rule := c.against(silences); rule != "" {
			unlawful = append(unlawful, offence{c, rule})
			continue
		}
		if c.kind == fine || c.refused() {
			continue
		}
		i := slices.IndexFunc(excuses, func(e excuse) bool { return e.covers(c) })
		if i < 0 {
			unexcused = append(unexcused, c)
			continue
		}
		p := excused[excuses[i].why]
		if p.n == 0 || c.end-c.begin > p.longest.end-p.longest.begin {
			p.longest = c
		}
		excused[excuses[i].why] = pardon{p.n + 1, max(p.last, c.end-excuses[i].begin), p.longest}
	}
	return unlawful, unexcused, excused
}

// near is how long before or after a call an excuse is worth telling.
const near = 10 * time.Second

// lookedAt tells why excuses from about the time of a call do not cover it.
func (c call) lookedAt(excuses []excuse) []string {
	var lines []string
	for _, e := range excuses {
		var why []string
		switch {
		case c.begin > e.end+near || c.end < e.begin-near:
			continue
		case c.begin > e.end:
			why = append(why, fmt.Sprintf("over %.3f s before the call began", (c.begin-e.end).Seconds()))
		case c.end < e.begin:
			why = append(why, fmt.Sprintf("begins %.3f s after the call ended", (e.begin-c.end).Seconds()))
		}
		if e.kinds != nil && !slices.Contains(e.kinds, c.kind) {
			why = append(why, fmt.Sprintf("is for %v", e.kinds))
		}
		if !e.holds(c) {
			why = append(why, "does not touch this call")
		}
		lines = append(lines, e.why+": "+strings.Join(why, "; "))
	}
	return lines
}
