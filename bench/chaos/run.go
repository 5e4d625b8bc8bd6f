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
	// until all is well again.
	startLimit, wellLimit = 2 * time.Minute, 2 * time.Minute
	// calm is how long nothing happens before the first fault and after the last.
	calm = 2 * time.Second
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
	var excuses []excuse
	r := rand.New(rand.NewPCG(seed, 0))
	choice := s.choice(o)
	err := rest(ctx, calm)
	for i := 0; i < o.faults && err == nil; i++ {
		f := choice[r.IntN(len(choice))]
		hit := f.draw(r, s)
		length := time.Duration(500+r.IntN(5000)) * time.Millisecond
		var e []excuse
		if e, err = s.strike(ctx, f, hit, length, l, say); err != nil {
			v.faults = append(v.faults, fmt.Sprintf("%s on %s: %v", f.name, hit.on, err))
			say("NOT WELL: %v", err)
			err = nil
			excuses = append(excuses, e...)
			break
		}
		excuses = append(excuses, e...)
		err = rest(ctx, time.Duration(r.IntN(1500))*time.Millisecond)
	}
	if err == nil {
		err = rest(ctx, calm)
	}
	calls, stalls, loadErr := l.finish()
	for _, st := range stalls {
		say("the machine stalled for %.1f s, from %.3f s of the calls' time on", (st.end - st.begin).Seconds(), st.begin.Seconds())
		v.stalled += st.end - st.begin
		excuses = append(excuses, excuse{why: "the machine stalled", begin: st.begin, end: st.end + aftermath,
			kinds: []kind{transport, labelled, unlabelled}, holds: func(call) bool { return true }})
	}
	say("callers have ended: %d calls", len(calls))
	v.calls = len(calls)
	v.judge(calls, excuses, o.lenient)
	if err == nil && len(v.faults) == 0 {
		v.faults = append(v.faults, s.inspect(ctx, o)...)
	}
	return errors.Join(err, loadErr)
}

// choice is what may strike.
func (s *stage) choice(o options) []fault {
	return slices.DeleteFunc(slices.Clone(catalogue), func(f fault) bool {
		return f.disk && !o.disks || !strings.Contains(f.name, o.only)
	})
}

// strike lets one fault happen, heals it, and waits until all is well.
func (s *stage) strike(ctx context.Context, f fault, hit strike, length time.Duration, l *load, say func(string, ...any)) ([]excuse, error) {
	began := l.now()
	say("%s on %s for %.1f s: %s", f.name, hit.on, length.Seconds(), f.expect)
	heal, err := hit.begin(ctx)
	if err != nil {
		say("did not strike: %v", err)
		return nil, rest(ctx, 0)
	}
	err = rest(ctx, length)
	if e := heal(); e != nil {
		return nil, fmt.Errorf("healing: %w", e)
	}
	healed := time.Now()
	if err == nil {
		err = s.well(ctx, wellLimit)
	}
	say("healed; all is well %.1f s later", time.Since(healed).Seconds())
	var excuses []excuse
	for _, e := range hit.excuse {
		e.begin, e.why = began, f.name+" on "+hit.on+": "+e.why
		if e.end == 0 {
			e.end = l.now() + settled + e.beyond
		} else {
			e.end += began
		}
		excuses = append(excuses, e)
	}
	return excuses, err
}

// well waits until every peer is.
func (s *stage) well(ctx context.Context, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return s.site.Await(ctx)
}

func (v *verdict) judge(calls []call, excuses []excuse, lenient bool) {
	unlawful, unexcused, excused := judge(calls, excuses)
	v.excused = excused
	const enough = 20
	for i, c := range unlawful {
		if i < enough {
			v.faults = append(v.faults, "AGAINST THE LAW: "+c.String())
		}
	}
	into := &v.faults
	if lenient {
		into = &v.overlooked
	}
	for i, c := range unexcused {
		if i < enough {
			*into = append(*into, "not excused: "+c.String())
		}
	}
	if more := len(unexcused) - enough; more > 0 {
		*into = append(*into, fmt.Sprintf("and %d calls more that nothing excuses", more))
	}
	if len(calls) == 0 {
		v.faults = append(v.faults, "nobody called: this shows nothing")
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
