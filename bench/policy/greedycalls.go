package policy

import (
	"cmp"
	"container/heap"
	"time"
)

// greedyCalls is greedy-dual (see greedyDual) call by call. All functions share one
// room, so it walks them together. A call without a place has an instance started,
// for which the idle ones with the lowest priority go until there is room. When none
// is idle it starts beyond the room, and goes when its calls have ended. Frequency
// counts calls since the function had no instance. Its memory is that of the
// functions, of the instances, and of what is in progress.
type greedyCalls struct {
	o           Options
	room        float64
	used, clock float64
	now         time.Duration
	count       uint64 // of starts
	functions   map[[2]string]*lodgers
	starting    []*lodger // in the order in which they are ready
	ends        stays
	idle        idlers
}

// lodgers are one function's part in it.
type lodgers struct {
	weight    float64
	frequency float64
	list      []*lodger
	starting  int
	waiting   []call
	tally     callTally
}

// lodger is an instance.
type lodger struct {
	place
	of       *lodgers
	number   uint64 // of its start
	priority float64
	at       int // in idle; -1 when it is not there
}

// stay is a call in progress.
type stay struct {
	until  time.Duration
	lodger *lodger
}

type stays []stay

func (s stays) Len() int { return len(s) }
func (s stays) Less(i, j int) bool {
	return cmp.Or(cmp.Compare(s[i].until, s[j].until), cmp.Compare(s[i].lodger.number, s[j].lodger.number)) < 0
}
func (s stays) Swap(i, j int) { s[i], s[j] = s[j], s[i] }
func (s *stays) Push(x any)   { *s = append(*s, x.(stay)) }
func (s *stays) Pop() any {
	last := (*s)[len(*s)-1]
	*s = (*s)[:len(*s)-1]
	return last
}

type idlers []*lodger

func (l idlers) Len() int { return len(l) }
func (l idlers) Less(i, j int) bool {
	return cmp.Or(cmp.Compare(l[i].priority, l[j].priority), cmp.Compare(l[i].number, l[j].number)) < 0
}
func (l idlers) Swap(i, j int) { l[i], l[j] = l[j], l[i]; l[i].at, l[j].at = i, j }
func (l *idlers) Push(x any)   { p := x.(*lodger); p.at = len(*l); *l = append(*l, p) }
func (l *idlers) Pop() any {
	last := (*l)[len(*l)-1]
	*l, last.at = (*l)[:len(*l)-1], -1
	return last
}

func newGreedyCalls(o Options, room float64) *greedyCalls {
	return &greedyCalls{o: o, room: room * (1 + 1e-9), functions: map[[2]string]*lodgers{}}
}

// take has a call of a function arrive. Calls come in the order of their starts; one
// that does not arrives now.
func (g *greedyCalls) take(function [2]string, weight float64, c call) {
	f := g.functions[function]
	if f == nil {
		f = &lodgers{weight: weight}
		g.functions[function] = f
	}
	c.at = max(c.at, g.now)
	g.run(c.at)
	f.frequency++
	if g.o.counts(c.at) {
		f.tally.calls++
	}
	if p := f.free(g.o.Concurrency); p != nil {
		g.put(p, c)
		return
	}
	if g.o.counts(c.at) {
		f.tally.cold++
	}
	f.waiting = append(f.waiting, c)
	if len(f.waiting) > f.starting*g.o.Concurrency {
		g.start(f)
	}
}

// run lets the time pass up to an instant, and happen what happens until then.
func (g *greedyCalls) run(until time.Duration) {
	for {
		ready, over := never, never
		if len(g.starting) > 0 {
			ready = g.starting[0].ready
		}
		if len(g.ends) > 0 {
			over = g.ends[0].until
		}
		next := min(ready, over)
		if next > until {
			break
		}
		g.now = max(g.now, next)
		var p *lodger
		if ready <= over {
			p, g.starting = g.starting[0], g.starting[1:]
			p.started = true
			p.of.starting--
		} else {
			p = heap.Pop(&g.ends).(stay).lodger
			p.load--
		}
		g.settle(p)
	}
	g.now = max(g.now, until)
}

// settle gives an instance with a place the calls that wait, or has it wait or go.
func (g *greedyCalls) settle(p *lodger) {
	f := p.of
	if p.load == 0 {
		p.idleFrom = g.now
	}
	for len(f.waiting) > 0 && p.load < g.o.Concurrency {
		g.put(p, f.waiting[0])
		f.waiting = f.waiting[1:]
	}
	switch {
	case p.load > 0:
	case g.used > g.room:
		g.drop(p)
	default:
		heap.Push(&g.idle, p)
	}
}

func (f *lodgers) free(concurrency int) *lodger {
	for _, p := range f.list {
		if p.started && p.load < concurrency {
			return p
		}
	}
	return nil
}

func (g *greedyCalls) put(p *lodger, c call) {
	if p.at >= 0 {
		heap.Remove(&g.idle, p.at)
	}
	p.of.tally.begin(g.o, &p.place, c, g.now)
	p.priority = g.clock + p.of.frequency
	heap.Push(&g.ends, stay{g.now + c.takes, p})
}

func (g *greedyCalls) start(f *lodgers) {
	for g.used+f.weight > g.room && len(g.idle) > 0 {
		out := heap.Pop(&g.idle).(*lodger)
		g.clock = out.priority
		g.drop(out)
	}
	g.count++
	g.used += f.weight
	p := &lodger{place: place{ready: g.now + g.o.StartUp}, of: f, number: g.count, at: -1}
	f.list, f.starting = append(f.list, p), f.starting+1
	g.starting = append(g.starting, p)
	if g.o.counts(g.now) {
		f.tally.starts++
	}
}

func (g *greedyCalls) drop(p *lodger) {
	f := p.of
	for i, other := range f.list {
		if other == p {
			f.list = append(f.list[:i], f.list[i+1:]...)
			break
		}
	}
	if len(f.list) == 0 {
		f.frequency = 0
	}
	g.used -= f.weight
	f.tally.end(g.o, &p.place, g.now)
}

// finish ends the counting: instances that are left cost until Options.To.
func (g *greedyCalls) finish() {
	g.run(time.Duration(g.o.To) * time.Minute)
	for _, f := range g.functions {
		for _, p := range f.list {
			f.tally.end(g.o, &p.place, g.now)
		}
	}
}
