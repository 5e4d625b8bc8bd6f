// Command chaos runs fault campaigns: three regions of real peers on a network of
// real distances, callers who call on a schedule, and faults that a seed chooses.
// Every answer is held against the law, and every error against what may be
// expected of the faults. A seed that fails is replayed with --seed.
//
//	chaos --seeds 10
//	chaos --seeds 100 --beside 2
//	chaos --seed 7 --verbose
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/polder/polder/bench/testbed"
)

func main() {
	if parts := apart(os.Args[1:]); len(parts) > 1 {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		if err := sideBySide(ctx, os.Args[1:], parts, os.Stdout); err != nil {
			os.Exit(1) // each campaign has said why
		}
		return
	}
	inside, err := testbed.Enter()
	if !inside {
		os.Exit(codeOf(err))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	failed, err := campaign(ctx, os.Args[1:], os.Stdout)
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, "chaos:", err)
		os.Exit(2)
	case failed > 0:
		os.Exit(1)
	}
}

// codeOf is the exit code of a program that ended in a test bed.
func codeOf(err error) int {
	ended := testbed.Ended{}
	if err != nil && !errors.As(err, &ended) {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		return 2
	}
	return ended.Code
}

// apart tells how the arguments divide the seeds among campaigns side by side. What is
// wrong with them is told by the campaign.
func apart(args []string) []share {
	flags, o := flagsOf()
	flags.SetOutput(io.Discard)
	if flags.Parse(args) != nil {
		return nil
	}
	return shares(o.first, o.seeds, o.beside)
}

// flagsOf are the flags of a campaign, and where they are kept.
func flagsOf() (*flag.FlagSet, *options) {
	o := &options{}
	flags := flag.NewFlagSet("chaos", flag.ContinueOnError)
	flags.Uint64Var(&o.seeds, "seeds", 1, "how many seeds to run, one after the other")
	flags.Uint64Var(&o.first, "seed", 1, "the first one")
	flags.IntVar(&o.beside, "beside", 1, "how many campaigns share the seeds, side by side; each needs a processor of its own")
	flags.StringVar(&o.polder, "polder", "bin/polder", "the command, as make build leaves it")
	flags.StringVar(&o.tools, "tools", ".tools", "folder with the Envoy of make envoy")
	flags.StringVar(&o.samples, "samples", "examples", "folder of the sample services, built")
	flags.IntVar(&o.peers, "peers", 2, "peers of each region")
	flags.IntVar(&o.faults, "faults", 6, "faults of each seed")
	flags.StringVar(&o.only, "only", "", "only faults whose name contains this")
	flags.BoolVar(&o.disks, "disks", os.Getuid() == 0, "give each peer a disk of its own, which can hang and be full; root only")
	flags.BoolVar(&o.lenient, "lenient", false, "errors that nothing excuses are told, and fail no seed: for a machine that has other work. The law is not lenient")
	flags.BoolVar(&o.verbose, "verbose", false, "show the timeline as it happens")
	flags.BoolVar(&o.keep, "keep", false, "keep logs and state")
	return flags, o
}

// campaign runs the seeds that the arguments name, and tells how many failed.
func campaign(ctx context.Context, args []string, out io.Writer) (failed int, err error) {
	flags, parsed := flagsOf()
	if err := flags.Parse(args); err != nil {
		return 0, err
	}
	o := *parsed
	for _, path := range []*string{&o.polder, &o.tools, &o.samples} {
		if *path, err = filepath.Abs(*path); err != nil {
			return 0, err
		}
	}
	for seed := o.first; seed < o.first+o.seeds && ctx.Err() == nil; seed++ {
		v, err := play(ctx, o, seed, out)
		if err != nil {
			return failed, err
		}
		v.tell(out, o)
		if len(v.faults) > 0 {
			failed++
		}
	}
	fmt.Fprintf(out, "%d of %d seeds failed\n", failed, o.seeds)
	return failed, ctx.Err()
}

// shadow says by how much the verdict is worth less.
func (v verdict) shadow() string {
	if v.stalled == 0 {
		return ""
	}
	return fmt.Sprintf("; the machine stood still for %.1f s, in which nothing shows", v.stalled.Seconds())
}

func (v verdict) tell(out io.Writer, o options) {
	if len(v.faults) == 0 {
		n := 0
		for _, c := range v.excused {
			n += c.n
		}
		fmt.Fprintf(out, "seed %d: passed, %d calls, %d errors that were to be expected%s\n", v.seed, v.calls, n, v.shadow())
		for _, line := range v.overlooked {
			fmt.Fprintln(out, "  overlooked: "+line)
		}
		if o.verbose {
			v.tellExcused(out)
		}
		return
	}
	fmt.Fprintf(out, "seed %d: FAILED, %d calls%s\n", v.seed, v.calls, v.shadow())
	if !o.verbose {
		io.WriteString(out, v.timeline.lines.String())
	}
	v.tellExcused(out)
	for _, line := range v.faults {
		fmt.Fprintln(out, "  "+line)
	}
	fmt.Fprintf(out, "again: ./bin/chaos --seed %d --faults %d --peers %d --disks=%t --only %q --keep --verbose\n", v.seed, o.faults, o.peers, o.disks, o.only)
}

// tellExcused tells which errors were to be expected, and of what.
func (v verdict) tellExcused(out io.Writer) {
	whys := make([]string, 0, len(v.excused))
	for why, p := range v.excused {
		whys = append(whys, fmt.Sprintf("%5d excused, the last after %.1f s: %s; the longest: %s", p.n, p.last.Seconds(), why, p.longest))
	}
	slices.Sort(whys)
	for _, line := range whys {
		fmt.Fprintln(out, "  "+line)
	}
}
