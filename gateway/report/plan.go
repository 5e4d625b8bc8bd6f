package report

import (
	"fmt"
	"math"
	"slices"

	"github.com/polder/polder"
	"github.com/polder/polder/regions"
)

// The map's size, in the units of its SVG.
const (
	planWidth  = 960
	planHeight = 420
	planMargin = 90
	// leastSpan is the least that the map shows, in degrees, so that regions which
	// are near each other do not look like continents.
	leastSpan = 6.0
)

// plan is the map: regions where they are, in an equirectangular projection that
// is true to scale in its middle latitude.
type plan struct {
	Width, Height int
	Lines         []gridLine
	Ties          []tie
	Spots         []spot
	ScaleX        float64 // length of the scale's bar
	ScaleText     string
}

type gridLine struct {
	X1, Y1, X2, Y2 float64
	Text           string
	TextX, TextY   float64
}

// tie is the distance between two regions.
type tie struct {
	X1, Y1, X2, Y2, TextX, TextY float64
	Text                         string
}

type spot struct {
	X, Y                       float64
	LabelX, LabelY             float64
	Anchor                     string
	Name, Title, Jurisdictions string
	Mark                       string // good, bad or unknown
}

func newPlan(list []polder.Region, marks map[polder.RegionName]string) plan {
	p := plan{Width: planWidth, Height: planHeight}
	if len(list) == 0 {
		return p
	}
	south, north, west, east := 90.0, -90.0, 180.0, -180.0
	for _, r := range list {
		south, north = min(south, r.Location.Latitude), max(north, r.Location.Latitude)
		west, east = min(west, r.Location.Longitude), max(east, r.Location.Longitude)
	}
	middle := (south + north) / 2
	squeeze := max(0.2, math.Cos(middle*math.Pi/180)) // a degree of longitude is shorter
	scale := min(
		(planWidth-2*planMargin)/(max(east-west, leastSpan)*squeeze),
		(planHeight-2*planMargin)/max(north-south, leastSpan))
	x := func(longitude float64) float64 { return planWidth/2 + (longitude-(west+east)/2)*squeeze*scale }
	y := func(latitude float64) float64 { return planHeight/2 - (latitude-middle)*scale }
	p.addGrid(x, y, scale, squeeze, middle, (west+east)/2)
	p.addTies(list, x, y)
	for _, r := range list {
		p.Spots = append(p.Spots, newSpot(r, x(r.Location.Longitude), y(r.Location.Latitude), marks[r.Name]))
	}
	p.spread()
	const perDegree = 111.2 // km of latitude
	for _, km := range []float64{10, 20, 50, 100, 200, 500, 1000, 2000, 5000} {
		if length := km / perDegree * scale; length <= 180 {
			p.ScaleX, p.ScaleText = length, fmt.Sprintf("%.0f km", km)
		}
	}
	return p
}

func newSpot(r polder.Region, x, y float64, mark string) spot {
	s := spot{X: x, Y: y, LabelX: x + 16, LabelY: y - 6, Anchor: "start", Name: string(r.Name), Title: r.Title,
		Jurisdictions: joined(r.Jurisdictions, " · "), Mark: mark}
	if s.Mark == "" {
		s.Mark = "unknown"
	}
	if x > planWidth*0.72 {
		s.LabelX, s.Anchor = x-16, "end"
	}
	return s
}

// spread moves labels apart that would cover each other.
func (p *plan) spread() {
	const height = 40
	order := make([]int, len(p.Spots))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int {
		if p.Spots[a].LabelY < p.Spots[b].LabelY {
			return -1
		}
		return 1
	})
	for i, at := range order {
		for _, above := range order[:i] {
			s, other := &p.Spots[at], p.Spots[above]
			if math.Abs(s.X-other.X) < 220 && s.LabelY-other.LabelY < height {
				s.LabelY = other.LabelY + height
			}
		}
	}
}

// addGrid draws meridians and parallels.
func (p *plan) addGrid(x, y func(float64) float64, scale, squeeze, latitude, longitude float64) {
	step := 30.0
	for _, s := range []float64{0.5, 1, 2, 5, 10, 20} {
		if s*scale >= 60 {
			step = s
			break
		}
	}
	span := planHeight / scale
	for at := math.Ceil((latitude-span/2)/step) * step; at <= latitude+span/2 && math.Abs(at) <= 90; at += step {
		p.Lines = append(p.Lines, gridLine{0, y(at), planWidth, y(at), degrees(at, "N", "S"), 8, y(at) - 5})
	}
	span = planWidth / (scale * squeeze)
	for at := math.Ceil((longitude-span/2)/step) * step; at <= longitude+span/2; at += step {
		p.Lines = append(p.Lines, gridLine{x(at), 0, x(at), planHeight, degrees(math.Mod(at+540, 360)-180, "E", "W"), x(at) + 5, planHeight - 8})
	}
}

func degrees(at float64, positive, negative string) string {
	if at < 0 {
		return fmt.Sprintf("%g° %s", -at, negative)
	}
	return fmt.Sprintf("%g° %s", at, positive)
}

// addTies draws the distances, while they are few.
func (p *plan) addTies(list []polder.Region, x, y func(float64) float64) {
	const most = 5 // regions
	if len(list) > most {
		return
	}
	for i, a := range list {
		for _, b := range list[i+1:] {
			t := tie{X1: x(a.Location.Longitude), Y1: y(a.Location.Latitude), X2: x(b.Location.Longitude), Y2: y(b.Location.Latitude)}
			t.TextX, t.TextY = (t.X1+t.X2)/2, (t.Y1+t.Y2)/2-6
			t.Text = fmt.Sprintf("%.0f km", regions.Distance(a.Location, b.Location))
			p.Ties = append(p.Ties, t)
		}
	}
}
