package policy

import (
	"container/heap"
	"slices"
	"time"

	"github.com/polder/polder/prewarm"
)

// flow is one function under one policy, call by call: every call takes its time
// and a place at an instance, and every start the start-up time. It asks its keeper
// whenever something happens, as the reconciler does. Its memory is that of what is
// in progress.
type flow struct {
	o       Options
	keeper  keeper        // nil for the oracle
	now     time.Duration // since minute 0
	due     time.Duration // when to ask again
	list    []*place      // of instances, the oldest first
	ends    ends          // of calls in progress
	waiting []call
	tally   callTally
}

// place is one instance.
type place struct {
	ready    time.Duration // when it is, or was
	started  bool          // it is ready
	leaving  bool          // it ends when its calls have
	load     int           // calls in progress
	idleFrom time.Duration // since when load is 0
}

// call is one call.
type call struct{ at, takes time.Duration }

// end is a call in progress.
type end struct {
	at    time.Duration
	place *place
}

type ends []end

func (e ends) Len() int           { return len(e) }
func (e ends) Less(i, j int) bool { return e[i].at < e[j].at }
func (e ends) Swap(i, j int)      { e[i], e[j] = e[j], e[i] }
func (e *ends) Push(x any)        { *e = append(*e, x.(end)) }
func (e *ends) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}

// callTally counts one function under one policy, in the counted minutes.
type callTally struct {
	calls, cold, starts uint64
	waited              time.Duration // of cold calls, until an instance took them
	warm, idle          time.Duration // of instances, and of them without a call
}

// mostInstances bounds those of one function.
const mostInstances = 1000

// never is no time.
const never = time.Duration(1<<63 - 1)

// newFlow without a keeper is the oracle: an instance is ready when a call needs it,
// because it was started its start-up time before, and ends with its calls. No policy
// can miss or waste less.
func newFlow(o Options, k keeper) *flow { return &flow{o: o, keeper: k, due: never} }

// take has a call arrive. Calls come in the order of their starts; one that does
// not arrives now.
func (f *flow) take(c call) {
	c.at = max(c.at, f.now)
	f.run(c.at)
	if f.o.counts(c.at) {
		f.tally.calls++
	}
	if f.keeper == nil && f.free() == nil {
		f.start(f.now)
	}
	if p := f.free(); p != nil {
		f.put(p, c)
	} else {
		if f.o.counts(c.at) {
			f.tally.cold++
		}
		f.waiting = append(f.waiting, c)
	}
	f.step(1, nil)
}

// run lets the time pass up to an instant, and happen what happens until then.
func (f *flow) run(until time.Duration) {
	for {
		next, what := f.due, func() { f.step(0, nil) }
		if len(f.ends) > 0 && f.ends[0].at <= next {
			next, what = f.ends[0].at, f.endOne
		}
		if p := f.starting(); p != nil && p.ready <= next {
			next, what = p.ready, func() { f.becomeReady(p) }
		}
		if next > until {
			break
		}
		f.now = max(f.now, next)
		what()
	}
	f.now = max(f.now, until)
}

// finish ends the counting: instances that are left cost until To.
func (f *flow) finish() {
	f.run(time.Duration(f.o.To) * time.Minute)
	for _, p := range slices.Clone(f.list) {
		f.drop(p)
	}
}

// free is the oldest instance with a place.
func (f *flow) free() *place {
	for _, p := range f.list {
		if p.started && !p.leaving && p.load < f.o.Concurrency {
			return p
		}
	}
	return nil
}

// starting is the instance that will be ready next.
func (f *flow) starting() *place {
	for _, p := range f.list { // they start in turn and take equally long
		if !p.started {
			return p
		}
	}
	return nil
}

// put has an instance work on a call.
func (f *flow) put(p *place, c call) {
	f.tally.begin(f.o, p, c, f.now)
	heap.Push(&f.ends, end{f.now + c.takes, p})
}

// endOne ends the call that ends next.
func (f *flow) endOne() {
	p := heap.Pop(&f.ends).(end).place
	if p.load--; p.load == 0 {
		p.idleFrom = f.now
		if p.leaving || f.keeper == nil {
			f.drop(p)
		}
	}
	f.serve()
	f.step(0, nil)
}

// becomeReady has an instance serve.
func (f *flow) becomeReady(p *place) {
	p.started, p.idleFrom = true, f.now
	f.serve()
	f.step(0, []time.Duration{f.o.StartUp})
}

// serve gives waiting calls the places that there are.
func (f *flow) serve() {
	for len(f.waiting) > 0 {
		p := f.free()
		if p == nil {
			return
		}
		f.put(p, f.waiting[0])
		f.waiting = f.waiting[1:]
	}
}

// step asks the policy and does what it says, as the reconciler does: what starts
// is not stopped, and of those that are ready the youngest go, when their calls
// have ended.
func (f *flow) step(arrivals int, startUps []time.Duration) {
	if f.keeper == nil {
		return
	}
	var have prewarm.Instances
	for _, p := range f.list {
		switch {
		case !p.started:
			have.Starting++
		case !p.leaving:
			have.Ready++
		}
	}
	desired, until := f.keeper.ask(prewarm.Observation{
		Now: epoch.Add(f.now), Arrivals: arrivals, InProgress: len(f.ends), Waiting: len(f.waiting), Instances: have, StartUps: startUps,
	})
	f.due = max(until, f.now+time.Millisecond) // a decision's Until is later, but for rounding
	for n := have.Warm(); n < desired; n++ {
		f.start(f.now + f.o.StartUp)
	}
	for i, less := len(f.list)-1, have.Ready-desired; i >= 0 && less > 0; i-- {
		if p := f.list[i]; p.started && !p.leaving {
			less--
			if p.leaving = true; p.load == 0 {
				f.drop(p)
			}
		}
	}
}

// start has an instance that is ready at an instant.
func (f *flow) start(ready time.Duration) {
	f.list = append(f.list, &place{ready: ready, started: ready == f.now, idleFrom: f.now})
	if f.o.counts(f.now) {
		f.tally.starts++
	}
}

// drop ends an instance, and counts what it cost.
func (f *flow) drop(p *place) {
	f.list = slices.DeleteFunc(f.list, func(other *place) bool { return other == p })
	f.tally.end(f.o, p, f.now)
}

// end counts what an instance cost until now.
func (t *callTally) end(o Options, p *place, now time.Duration) {
	t.warm += o.counted(p.ready-o.StartUp, now)
	if p.started && p.load == 0 {
		t.idle += o.counted(p.idleFrom, now)
	}
}

// begin counts that an instance takes a call, now.
func (t *callTally) begin(o Options, p *place, c call, now time.Duration) {
	if p.load == 0 {
		t.idle += o.counted(p.idleFrom, now)
	}
	p.load++
	if o.counts(c.at) {
		t.waited += now - c.at
	}
}

// counts tells whether an instant is in a counted minute.
func (o *Options) counts(at time.Duration) bool {
	return at >= time.Duration(o.From)*time.Minute && at < time.Duration(o.To)*time.Minute
}

// counted is the part of a span that lies in counted minutes.
func (o *Options) counted(from, to time.Duration) time.Duration {
	return max(0, min(to, time.Duration(o.To)*time.Minute)-max(from, time.Duration(o.From)*time.Minute))
}
