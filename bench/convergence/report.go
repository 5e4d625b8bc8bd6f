package convergence

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"
)

// Report is the outcome of a run; its JSON is stable enough to compare two.
// Times are in nanoseconds.
type Report struct {
	Envoy      string  `json:"envoy"`
	Processors int     `json:"processors"`
	Workers    int     `json:"workers"`     // of Envoy
	LoadBefore string  `json:"load_before"` // load average of the machine
	LoadAfter  string  `json:"load_after"`
	Points     []Point `json:"points"`
	Ratios     []Ratio `json:"ratios"`
	FanOut     *FanOut `json:"fan_out,omitempty"`
}

// Point is one shape with one number of services.
type Point struct {
	Shape          string        `json:"shape"`
	Services       int           `json:"services"`
	Translate      time.Duration `json:"translate"` // of all services, at the start
	ColdStart      time.Duration `json:"cold_start"`
	EnvoyResident  int64         `json:"envoy_resident_bytes"`
	EnvoyAllocated int64         `json:"envoy_allocated_bytes"`
	PolderBytes    int64         `json:"control_plane_bytes"`
	PerService     int64         `json:"bytes_per_service,omitempty"` // of both; only if there is a smaller point
	Changes        []Change      `json:"changes"`
	Unknown        *Flood        `json:"unknown_names,omitempty"`
}

// Flood is what callers for names that nobody owns cost, each once.
type Flood struct {
	Connections int           `json:"connections"`
	CPU         time.Duration `json:"control_plane_cpu"` // for each, the caller in the same process included
	EnvoyCPU    time.Duration `json:"envoy_cpu"`         // of all threads, for each
	Bytes       float64       `json:"bytes"`             // of discovery, for each
	EnvoyGrowth int64         `json:"envoy_growth_bytes"`
}

// Change is what one change of a kind takes, on average where nothing else is said.
type Change struct {
	Kind        string        `json:"kind"`
	Count       int           `json:"count"`
	ToACK       Spread        `json:"to_ack"`
	ToEffect    Spread        `json:"to_effect"`
	Bytes       float64       `json:"bytes"` // in both directions
	BytesDown   float64       `json:"bytes_to_envoy"`
	CPU         time.Duration `json:"control_plane_cpu"`
	EnvoyCPU    time.Duration `json:"envoy_main_cpu"`
	EnvoyAllCPU time.Duration `json:"envoy_all_cpu"`
}

// Spread are quantiles of a time.
type Spread struct {
	P50 time.Duration `json:"p50"`
	P95 time.Duration `json:"p95"`
	Max time.Duration `json:"max"`
}

// Ratio compares the most services with the fewest, by the median.
type Ratio struct {
	Shape    string  `json:"shape"`
	Kind     string  `json:"kind"`
	From     int     `json:"from_services"`
	To       int     `json:"to_services"`
	ToACK    float64 `json:"to_ack"`
	ToEffect float64 `json:"to_effect,omitempty"` // unless callers cannot see the change
}

// derive fills what follows from the points.
func (r *Report) derive() {
	first := map[string]Point{}
	last := map[string]Point{}
	var shapes []string
	for i, p := range r.Points {
		base, ok := first[p.Shape]
		if !ok {
			first[p.Shape] = p
			shapes = append(shapes, p.Shape)
			continue
		}
		more := int64(p.Services - base.Services)
		r.Points[i].PerService = (p.EnvoyResident - base.EnvoyResident + p.PolderBytes - base.PolderBytes) / more
		last[p.Shape] = r.Points[i]
	}
	for _, shape := range shapes {
		for i, c := range last[shape].Changes {
			base := first[shape].Changes[i]
			x := Ratio{Shape: shape, Kind: c.Kind, From: first[shape].Services, To: last[shape].Services,
				ToACK: float64(c.ToACK.P50) / float64(base.ToACK.P50)}
			if base.ToEffect.P50 > 0 {
				x.ToEffect = float64(c.ToEffect.P50) / float64(base.ToEffect.P50)
			}
			r.Ratios = append(r.Ratios, x)
		}
	}
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// WriteText writes the report as tables.
func (r Report) WriteText(w io.Writer) error {
	fmt.Fprintf(w, "Envoy %s with %d workers, %d processors, load average %s before and %s after; times are medians in ms\n\n",
		r.Envoy, r.Workers, r.Processors, r.LoadBefore, r.LoadAfter)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "change\tservices\tshape\tto ACK\tp95\tto effect\tp95\tbytes\tCPU\tEnvoy main CPU\t")
	for _, kind := range r.kinds() {
		for _, p := range r.Points {
			for _, c := range p.Changes {
				if c.Kind == kind {
					fmt.Fprintf(t, "%s\t%d\t%s\t%.2f\t%.2f\t%.2f\t%.2f\t%.0f\t%.2f\t%.2f\t\n", c.Kind, p.Services, p.Shape,
						ms(c.ToACK.P50), ms(c.ToACK.P95), ms(c.ToEffect.P50), ms(c.ToEffect.P95), c.Bytes, ms(c.CPU), ms(c.EnvoyCPU))
				}
			}
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(w)
	fmt.Fprintln(t, "services\tshape\tcold start s\ttranslate s\tEnvoy MB\tcontrol plane MB\tkB/service\t")
	for _, p := range r.Points {
		fmt.Fprintf(t, "%d\t%s\t%.2f\t%.2f\t%.1f\t%.1f\t%.1f\t\n", p.Services, p.Shape, p.ColdStart.Seconds(), p.Translate.Seconds(),
			float64(p.EnvoyResident)/1e6, float64(p.PolderBytes)/1e6, float64(p.PerService)/1e3)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(w)
	for _, x := range r.Ratios {
		fmt.Fprintf(w, "%s, %s: %d services against %d: to ACK %.2f, to effect %.2f times as long\n", x.Shape, x.Kind, x.To, x.From, x.ToACK, x.ToEffect)
	}
	for _, p := range r.Points {
		if f := p.Unknown; f != nil {
			fmt.Fprintf(w, "%d services, %s: a connection for a name that nobody owns takes %.3f ms of Envoy, %.3f ms of the control plane and the caller, and %.1f bytes of discovery; after %d of them Envoy has %d kB more\n",
				p.Services, p.Shape, ms(f.EnvoyCPU), ms(f.CPU), f.Bytes, f.Connections, f.EnvoyGrowth/1000)
		}
	}
	if f := r.FanOut; f != nil {
		fmt.Fprintf(w, "\nfan-out: %d Envoys with %d services each; all acknowledge a change after %.1f ms (p95 %.1f), %.0f bytes and %.3f ms of CPU for each Envoy, its fake included; %.1f kB of memory for each Envoy; all start with nothing and have everything after %.2f s\n",
			f.Envoys, f.Services, ms(f.ToACK.P50), ms(f.ToACK.P95), f.Bytes, ms(f.CPU), float64(f.PerEnvoy)/1e3, f.ColdStart.Seconds())
	}
	return nil
}

func (r Report) kinds() []string {
	var names []string
	if len(r.Points) > 0 {
		for _, c := range r.Points[0].Changes {
			names = append(names, c.Kind)
		}
	}
	return names
}
