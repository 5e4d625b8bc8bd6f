package polder

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

func (c *checker) failover(path string, shape failoverShape, allow []Place, regions []Region) Failover {
	f := Failover{Class: FailoverClass(shape.Class)}
	if !c.present(path) || shape.Class == "" { // told already
		return Failover{Class: FailoverClosed}
	}
	_, listed := c.places[path+".listed"]
	_, glass := c.places[path+".break-glass"]
	_, broken := c.places[path+".broken"]
	switch {
	case f.Class == FailoverClosed:
		return f
	case f.Class == FailoverListed && !listed && !broken:
		c.wrong(path, "failover is listed, and no region is", "write { listed: [nl] }")
		return f
	case f.Class == FailoverBreakGlass && !glass:
		c.wrong(path, "failover is break-glass, and no region may stand in", "write { break-glass: [nl] }")
		return f
	case f.Class != FailoverListed && f.Class != FailoverBreakGlass:
		c.wrong(path, quote(shape.Class)+" is not a failover", "write closed, or { listed: [nl] } with the regions that may stand in")
		return f
	case listed && glass:
		c.wrongKey(path+".listed", "the failover is listed and break-glass; regions stand in either by themselves, or only while the glass is broken", "remove one of the two")
		return f
	case broken && !glass:
		c.wrongKey(path+".broken", "there is no glass to break", "write break-glass: [nl] with the regions that may stand in, or remove it")
		return f
	}
	names := shape.Listed
	if path += ".listed"; glass {
		path, names = strings.TrimSuffix(path, "listed")+"break-glass", shape.BreakGlass
	}
	f.Regions = c.standIns(path, names, allow, regions)
	if shape.Broken != nil {
		f.Broken = c.glass(strings.TrimSuffix(path, "break-glass")+"broken", *shape.Broken)
	}
	return f
}

// standIns checks the regions that may stand in, in order of preference.
func (c *checker) standIns(path string, names []string, allow []Place, regions []Region) []RegionName {
	if len(names) == 0 {
		c.wrong(path, "the list of regions that may stand in is empty", "write the regions in order of preference, or failover: closed")
	}
	c.unique(path, names)
	var list []RegionName
	for i, name := range names {
		p := index(path, i)
		list = append(list, RegionName(name))
		if !c.present(p) || !c.sureOfRegions {
			continue
		}
		_, known := c.shape.Regions[name]
		switch {
		case !known && slices.Contains(c.jurisdictions, name):
			c.wrong(p, quote(name)+" is a jurisdiction; failover goes by an order of single regions", "write the regions that are meant, in order of preference")
		case !known:
			c.wrong(p, "there is no region "+quote(name), "write "+alternatives(name, c.regionNames()))
		case allows(allow, RegionName(name), regions):
			c.wrong(p, fmt.Sprintf("the region %s is allowed anyway, so it cannot stand in", quote(name)), "remove it")
		}
	}
	return list
}

// maxReason bounds the text of a reason, in bytes.
const maxReason = 1000

// glass checks for how long, and why, the glass is broken.
func (c *checker) glass(path string, shape brokenShape) *BrokenGlass {
	b := &BrokenGlass{
		From: c.instant(path+".from", shape.From), Until: c.instant(path+".until", shape.Until),
		Reason: strings.TrimSpace(shape.Reason),
	}
	sure := c.present(path+".from") && c.present(path+".until")
	switch p := path + ".until"; {
	case sure && !b.Until.After(b.From):
		c.wrong(p, "the glass would be whole again before it is broken", "write a time after from")
	case sure && b.Until.Sub(b.From) < MinBroken:
		c.wrong(p, fmt.Sprintf("the glass would be broken for %s; nothing would come of it", b.Until.Sub(b.From)),
			"write "+b.From.Add(MinBroken).Format(time.RFC3339)+" or later")
	case sure && b.Until.Sub(b.From) > MaxBroken:
		c.wrong(p, fmt.Sprintf("the glass would be broken for %s; at most %s are possible at once", b.Until.Sub(b.From), MaxBroken),
			"write "+b.From.Add(MaxBroken).Format(time.RFC3339)+" or earlier, and break it once more if need be")
	}
	switch p := path + ".reason"; {
	case c.present(p) && b.Reason == "":
		c.wrong(p, "the reason is empty", "write why the regions must stand in, such as reason: power cut in Paris")
	case c.present(p) && len(b.Reason) > maxReason:
		c.wrong(p, fmt.Sprintf("the reason has %d bytes, more than %d", len(b.Reason), maxReason), "write it shorter, and where to read more")
	}
	return b
}

func (c *checker) instant(path string, text timeText) time.Time {
	if !c.present(path) {
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339, string(text))
	if err != nil {
		c.wrong(path, quote(string(text))+" is not a time", "write date, time and time zone, such as 2026-05-01T08:00:00Z")
		return time.Time{}
	}
	return t.UTC()
}

// telemetry checks where records may be kept. Each kind has a default of its own.
func (c *checker) telemetry(path string, shape telemetryShape) Telemetry {
	t := DefaultTelemetry()
	for _, kind := range []struct {
		record Record
		word   string
		into   *Kept
	}{
		{RecordAccessLog, shape.AccessLog, &t.AccessLog}, {RecordTraces, shape.Traces, &t.Traces}, {RecordMetrics, shape.Metrics, &t.Metrics},
		{RecordProfiles, shape.Profiles, &t.Profiles}, {RecordLedger, shape.Ledger, &t.Ledger},
	} {
		if p := path + "." + string(kind.record); c.present(p) {
			*kind.into = oneOf(c, p, kind.word, KeptServing, KeptAllowed, KeptNowhere)
		}
	}
	return t
}
