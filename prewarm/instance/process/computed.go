package process

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Computed is the processor time that the process has used: with a cgroup of
// its own (v2) that of all it started, otherwise its own and that of children
// it has waited for.
func (p *Process) Computed() (time.Duration, error) {
	for _, dir := range p.record.Cgroups {
		words, err := readWords(dir, "cpu.stat")
		if i := slices.Index(words, "usage_usec"); err == nil && i >= 0 && i+1 < len(words) {
			micros, err := strconv.ParseInt(words[i+1], 10, 64)
			if err == nil {
				return time.Duration(micros) * time.Microsecond, nil
			}
		}
	}
	data, err := os.ReadFile("/proc/" + strconv.Itoa(p.record.PID) + "/stat")
	if err != nil {
		return 0, fmt.Errorf("processor time of %s: %w", p.record.Label, err)
	}
	d, err := parseComputed(string(data))
	if err != nil {
		return 0, fmt.Errorf("processor time of %s: %w", p.record.Label, err)
	}
	return d, nil
}

// parseComputed sums proc(5)'s fields 14 to 17, in ticks of 10 ms.
func parseComputed(line string) (time.Duration, error) {
	field := strings.Fields(line[strings.LastIndexByte(line, ')')+1:]) // field[0] is number 3
	if len(field) < 15 {
		return 0, fmt.Errorf("unexpected /proc/PID/stat %q", line)
	}
	var sum time.Duration
	for _, text := range field[11:15] {
		n, err := strconv.ParseInt(text, 10, 62)
		if err != nil {
			return 0, fmt.Errorf("unexpected /proc/PID/stat %q: %w", line, err)
		}
		sum += time.Duration(n) * 10 * time.Millisecond
	}
	return sum, nil
}
