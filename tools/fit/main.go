// Command fit writes what the predictor's model is fitted on: for each function
// of the fitted half of a trace, the features of its minute slots as the serving
// code computes them, and whether calls came. fit.py reads it. See README.md.
package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"hash/fnv"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"

	"github.com/polder/polder/bench/policy"
	"github.com/polder/polder/loadtest/trace"
	"github.com/polder/polder/prewarm"
)

// What is taken of a function, where the model is asked: every slot of the second half day, every third
// of the first but its first hour; and, since services that just came into
// being are rare in a trace, some that begin after a silence.
const (
	firstSlot  = 60
	halfDay    = 720
	everyEarly = 3
	lateStarts = 2   // made of each function
	lateActive = 12  // active slots until such a one is no longer new
	lateSlots  = 700 // at most
	ahead      = 6   // slots of the look-ahead
)

func main() {
	trace := flag.String("trace", "", "trace in the format of Azure Functions 2019")
	half := flag.String("functions", string(policy.Fitted), "fitted, held-out or all; only fitted may be fitted on")
	out := flag.String("out", "", "folder for rows.bin and names.txt")
	flag.Parse()
	if err := run(*trace, policy.Half(*half), *out); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(name string, half policy.Half, out string) error {
	in, err := trace.Open(name)
	if err != nil {
		return err
	}
	defer in.Close()
	names := strings.Join(prewarm.FeatureNames(), "\n") + "\n"
	if err := os.WriteFile(filepath.Join(out, "names.txt"), []byte(names), 0o600); err != nil {
		return err
	}
	file, err := os.Create(filepath.Join(out, "rows.bin"))
	if err != nil {
		return err
	}
	rows := rows{w: bufio.NewWriterSize(file, 1<<20)}
	functions, err := os.Create(filepath.Join(out, "functions.txt"))
	if err != nil {
		return err
	}
	n := 0
	for f, err := range trace.Read(in, name) {
		if err != nil {
			return err
		}
		if half != policy.All && policy.HalfOf(f.Name) != half {
			continue
		}
		if _, err := fmt.Fprintln(functions, f.Name); err != nil {
			return err
		}
		if err := rows.whole(n, f); err != nil {
			return err
		}
		if half == policy.Fitted {
			if err := rows.late(n, f); err != nil {
				return err
			}
		}
		n++
	}
	return errors.Join(rows.w.Flush(), file.Close(), functions.Close())
}

// rows writes float32s: the features, then calls in the slot (0 or 1), calls in
// the look-ahead (0 or 1), the slot, the function's number, 1 if it starts late.
type rows struct {
	w *bufio.Writer
	b []byte
}

func (r *rows) put(e *prewarm.Example, f trace.Function, slot, number int, late float32) error {
	if e.Sure() {
		return nil // the model is not asked
	}
	var now, soon float32
	for i := slot; i < min(slot+ahead, len(f.Counts)); i++ {
		if f.Counts[i] > 0 {
			soon = 1
			if i == slot {
				now = 1
			}
		}
	}
	r.b = r.b[:0]
	for _, x := range append(e.Features(), now, soon, float32(slot), float32(number), late) {
		r.b = binary.LittleEndian.AppendUint32(r.b, math.Float32bits(x))
	}
	_, err := io.Writer(r.w).Write(r.b)
	return err
}

func hash(name string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(name))
	return h.Sum64()
}

func (r *rows) whole(number int, f trace.Function) error {
	e := prewarm.NewExample(0)
	phase := int(hash(f.Name) >> 8 % everyEarly)
	for slot, calls := range f.Counts {
		if slot >= halfDay || slot >= firstSlot && slot%everyEarly == phase {
			if err := r.put(e, f, slot, number, 0); err != nil {
				return err
			}
		}
		e.Close(calls)
	}
	return nil
}

// late replays the function from a random slot on, after a random silence.
func (r *rows) late(number int, f trace.Function) error {
	random := rand.New(rand.NewPCG(hash(f.Name), 1))
	for range lateStarts {
		start, silence := random.IntN(1000), 200+random.IntN(1200)
		e := prewarm.NewExample(int64((start-silence)%60 + 60))
		for range silence {
			e.Close(0)
		}
		for slot := start; slot < min(len(f.Counts), start+lateSlots) && e.Active() <= lateActive; slot++ {
			if e.Active() > 0 && (e.Idle() < 30 || e.Idle()%4 == 0) {
				if err := r.put(e, f, slot, number, 1); err != nil {
					return err
				}
			}
			e.Close(f.Counts[slot])
		}
	}
	return nil
}
