package policy

import (
	"fmt"

	"github.com/polder/polder/loadtest/trace"
)

// walk is one policy, at several settings, on its way along one function.
type walk interface {
	// before says, for each setting, whether an instance is warm in the slot.
	before(minute int, warm []bool)
	// after tells the calls of the same slot.
	after(minute int, calls uint32)
}

// family is one policy with its settings.
type family struct {
	name     string
	settings []string
	// start sets off along a function. Walks of one replay go in step.
	start func(f trace.Function, r *replay) walk
}

func none() family {
	return family{"none", []string{"stop at once"}, func(trace.Function, *replay) walk { return noWalk{} }}
}

type noWalk struct{}

func (noWalk) before(_ int, warm []bool) { clear(warm) }
func (noWalk) after(int, uint32)         {}

// keepAlive keeps an instance for so many minutes after each call.
func keepAlive(minutes []int) family {
	f := family{name: "keep-alive"}
	for _, m := range minutes {
		f.settings = append(f.settings, fmt.Sprintf("%d min", m))
	}
	f.start = func(trace.Function, *replay) walk { return &keepWalk{minutes: minutes, last: -1} }
	return f
}

type keepWalk struct {
	minutes []int
	last    int // slot of the last call; -1 before the first
}

func (k *keepWalk) before(minute int, warm []bool) {
	for i, m := range k.minutes {
		warm[i] = k.last >= 0 && minute-k.last <= m
	}
}

func (k *keepWalk) after(minute int, calls uint32) {
	if calls > 0 {
		k.last = minute
	}
}

// oracle knows the calls of the slot: no policy can waste or miss less.
func oracle() family {
	return family{"oracle", []string{"knows the future"}, func(f trace.Function, _ *replay) walk { return oracleWalk(f.Counts) }}
}

type oracleWalk []uint32

func (o oracleWalk) before(minute int, warm []bool) {
	warm[0] = minute < len(o) && o[minute] > 0
}
func (oracleWalk) after(int, uint32) {}
