package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/polder/polder/bench/testbed"
)

const (
	// startLimit bounds the start of a site, and wellLimit the time after a fault
	// until all is well again; as much again where the machine stalled meanwhile.
	startLimit, wellLimit = 2 * time.Minute, 30 * time.Second
	// calm is how long nothing happens before the first fault and after the last.
	calm = 2 * time.Second
	// silenceOf is how long the machine has to stand still for peers to be declared
	// dead: what the failure detector needs at least.
	silenceOf = 2 * time.Second
	// mostUnsent is of how many calls one may stay unsent.
	mostUnsent = 20
	// settled is how long calls may still carry traces of a fault once all is well.
	settled = time.Second
)

// options of a campaign.
type options struct {
	first, seeds           uint64
	beside                 int // campaigns that share the seeds
	polder, tools, samples string
	peers                  int
	faults                 int
	only                   string // faults whose name contains it
	disks                  bool
	lenient                bool
	verbose                bool
	keep                   bool
}

// verdict is what a seed came to.
type verdict struct {
	seed    uint64
	calls   int
	excused map[string]pardon
	stalled time.Duration // the machine, not the product
	unsent  int           // calls that the campaign had no room for
	faults  []string      // what went against the expectations; none is good
	// overlooked is what would be among the faults if the campaign were not lenient.
	overlooked []string
	timeline   *timeline
}

// timeline is what happened when, for people.
type timeline struct {
	began time.Time
	lines strings.Builder
	also  io.Writer
}

func (t *timeline) say(format string, values ...any) {
	line := fmt.Sprintf("%8.3f s  %s\n", time.Since(t.began).Seconds(), fmt.Sprintf(format, values...))
	t.lines.WriteString(line)
	io.WriteString(t.also, line)
}

// play runs one seed on a site of its own.
func play(ctx context.Context, o options, seed uint64, out io.Writer) (v verdict, err error) {
	v = verdict{seed: seed, timeline: &timeline{began: time.Now(), also: io.Discard}}
	if o.verbose {
		v.timeline.also = out
	}
	dir, err := os.MkdirTemp("", "pdr")
	if err != nil {
		return v, err
	}
	s := &stage{samples: o.samples, moods: filepath.Join(dir, "moods")}
	if err := s.prepare(o, dir, seed); err != nil {
		return v, err
	}
	running, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- s.site.Run(running) }()
	err = s.perform(ctx, o, seed, &v)
	stop()
	if e := <-ended; e != nil {
		v.faults = append(v.faults, "at the end: "+e.Error())
	}
	v.faults = append(v.faults, s.leftOver()...)
	if o.keep || len(v.faults) > 0 {
		v.timeline.say("logs and state are kept in %s", dir)
		return v, err
	}
	return v, errors.Join(err, s.clear(dir))
}

func (s *stage) prepare(o options, dir string, seed uint64) error {
	if err := os.Mkdir(s.moods, 0o700); err != nil {
		return err
	}
	program := strings.ReplaceAll(moody, "BILLING", filepath.Join(o.samples, "billing/bin/billing"))
	if err := os.WriteFile(filepath.Join(s.moods, "moody"), []byte(program), 0o700); err != nil {
		return err
	}
	s.options = testbed.DefaultOptions()
	s.options.Polder, s.options.Tools, s.options.Dir, s.options.Peers, s.options.Disks, s.options.Seed = o.polder, o.tools, dir, o.peers, o.disks, seed
	s.options.Services = configuration(o.samples, s.moods)
	var err error
	s.site, err = testbed.New(s.options)
	return err
}

// perform starts the load, lets the faults strike one after the other, and judges.
func (s *stage) perform(ctx context.Context, o options, seed uint64, v *verdict) error {
	say := v.timeline.say
	if err := s.well(ctx, startLimit); err != nil {
		return fmt.Errorf("seed %d: the site does not start: %w", seed, err)
	}
	say("all is well: %d peers", len(s.site.Peers))
	l := startLoad(ctx, s.site)
	offset := time.Since(v.timeline.began) - l.now()
	say("callers begin; times of calls below count from here (%.3f s)", offset.Seconds())
	var marks traces
	r := rand.New(rand.NewPCG(seed, 0))
	choice := s.choice(o)
	err := rest(ctx, calm)
	for i := 0; i < o.faults && err == nil; i++ {
		f := choice[r.IntN(len(choice))]
		hit := f.draw(r, s)
		length := time.Duration(500+r.IntN(5000)) * time.Millisecond
		if err = s.strike(ctx, f, hit, length, l, say, &marks); err != nil {
			v.faults = append(v.faults, fmt.Sprintf("RECOVERY: %s on %s: %v", f.name, hit.on, err))
			say("NOT WELL: %v", err)
			err = nil
			break
		}
		err = rest(ctx, time.Duration(r.IntN(1500))*time.Millisecond)
	}
	if err == nil {
		err = rest(ctx, calm)
	}
	loadErr := l.finish()
	marks.standStill(l.stalls, say)
	v.stalled, v.unsent, v.calls = stalled(l.stalls, 0, l.now()), l.unsent, len(l.calls)
	say("callers have ended: %d calls", v.calls)
	v.judge(l.calls, marks, o.lenient)
	if err == nil && marks.struck == 0 {
		v.faults = append(v.faults, "no fault has struck: this shows nothing")
	}
	if err == nil && len(v.faults) == 0 {
		v.faults = append(v.faults, s.inspect(ctx, o)...)
	}
	return errors.Join(err, loadErr)
}

// traces are what faults, and the machine, leave in the calls.
type traces struct {
	struck   int
	excuses  []excuse
	silences []silence
}

// standStill takes in the machine's stalls: what they upset is excused, and what was
// to be noticed within some time may take as much longer.
func (t *traces) standStill(stalls []stall, say func(string, ...any)) {
	for i, e := range t.excuses {
		t.excuses[i].end += stalled(stalls, e.begin, e.end)
	}
	for _, st := range stalls {
		say("THE MACHINE STOOD STILL for %.0f ms, from %.3f s of the calls' time on", (st.end-st.begin).Seconds()*1000, st.begin.Seconds())
		t.excuses = append(t.excuses, excuse{why: fmt.Sprintf("the machine stood still for %.0f ms", (st.end-st.begin).Seconds()*1000), begin: st.begin, end: st.over(),
			kinds: []kind{transport, labelled, unlabelled}, holds: func(call) bool { return true }})
		if st.end-st.begin < silenceOf {
			continue
		}
		for _, of := range testbed.Regions() {
			for _, in := range testbed.Regions() {
				t.silences = append(t.silences, silence{of, in, st.begin, st.over()})
			}
		}
	}
}

// choice is what may strike.
func (s *stage) choice(o options) []fault {
	return slices.DeleteFunc(slices.Clone(catalogue), func(f fault) bool {
		return f.disk && !o.disks || !strings.Contains(f.name, o.only)
	})
}

// strike lets one fault happen, heals it, and waits until all is well. What it may
// leave in the calls goes to marks.
func (s *stage) strike(ctx context.Context, f fault, hit strike, length time.Duration, l *load, say func(string, ...any), marks *traces) error {
	began := l.now()
	say("%s on %s for %.1f s: %s", f.name, hit.on, length.Seconds(), f.expect)
	heal, err := hit.begin(ctx)
	if err != nil {
		say("did not strike: %v", err)
		return rest(ctx, 0)
	}
	marks.struck++
	err = rest(ctx, length)
	if e := heal(); e != nil {
		return fmt.Errorf("healing: %w", e)
	}
	healed := l.now()
	if err == nil {
		err = s.well(ctx, wellLimit)
	}
	if err != nil && ctx.Err() == nil && l.stalledSince(healed) > 0 {
		err = s.well(ctx, wellLimit)
	}
	say("healed; all is well %.1f s later", (l.now() - healed).Seconds())
	end := l.now() + settled
	for _, of := range testbed.Regions() {
		for _, in := range testbed.Regions() {
			if hit.silent(of, in, s.options.Peers) {
				marks.silences = append(marks.silences, silence{of, in, began, end})
			}
		}
	}
	for _, e := range hit.excuse {
		e.begin, e.why = began, f.name+" on "+hit.on+": "+e.why
		if e.end == 0 {
			e.end = end + e.beyond
		} else {
			e.end += began
		}
		marks.excuses = append(marks.excuses, e)
	}
	return err
}

// well waits until every peer is.
func (s *stage) well(ctx context.Context, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return s.site.Await(ctx)
}

func (v *verdict) judge(calls []call, marks traces, lenient bool) {
	unlawful, unexcused, excused := judge(calls, marks.excuses, marks.silences)
	v.excused = excused
	const enough = 20
	for i, c := range unlawful {
		if i < enough {
			v.faults = append(v.faults, "AGAINST THE LAW, "+c.rule+": "+c.String())
		}
	}
	into := &v.faults
	if lenient {
		into = &v.overlooked
	}
	for i, c := range unexcused {
		if i >= enough {
			break
		}
		*into = append(*into, "AN ERROR that nothing excuses: "+c.String())
		for _, line := range c.lookedAt(marks.excuses) {
			*into = append(*into, "    looked at: "+line)
		}
	}
	if more := len(unexcused) - enough; more > 0 {
		*into = append(*into, fmt.Sprintf("and %d calls more that nothing excuses", more))
	}
	switch {
	case len(calls) == 0:
		v.faults = append(v.faults, "nobody called: this shows nothing")
	case v.unsent > len(calls)/mostUnsent:
		v.faults = append(v.faults, fmt.Sprintf("%d calls could not be sent beside %d that were: the campaign saw too little", v.unsent, len(calls)))
	}
}

// rest waits, unless ctx ends.
func rest(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
