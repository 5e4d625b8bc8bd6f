package polder

import (
	"errors"
	"fmt"
	"maps"
	gopath "path"
	"slices"
	"strings"
	"time"
)

func (c *checker) run(path string, shape runShape) *Run {
	r := &Run{
		Command:     shape.Command,
		Directory:   c.directory(path, shape.Directory),
		Environment: shape.Environment,
		Listen:      oneOf(c, path+".listen", shape.Listen, ListenPort, ListenInherit),
		Ready:       shape.Ready,
		Memory:      c.memory(path+".memory", shape.Memory),
	}
	if p := path + ".command"; c.present(p) {
		c.command(p, shape.Command)
	}
	for _, name := range slices.Sorted(maps.Keys(shape.Environment)) {
		c.variable(key(path+".environment", name), name, shape.Environment[name])
	}
	if p := path + ".ready"; c.present(p) {
		bad := strings.ContainsFunc(r.Ready, func(r rune) bool { return r <= ' ' || r == '#' || r > '~' })
		switch {
		case !strings.HasPrefix(r.Ready, "/"):
			c.wrong(p, quote(r.Ready)+" is not a path", "write /"+strings.TrimLeft(r.Ready, "/"))
		case bad:
			c.wrong(p, quote(r.Ready)+" has characters that a path does not carry", "escape them, as in /health%20check")
		}
	}
	return r
}

func (c *checker) command(path string, command []string) {
	if len(command) == 0 {
		c.wrong(path, "the command is empty", "write "+exampleOf[runShape]("command"))
		return
	}
	for i, arg := range command {
		p := index(path, i)
		switch {
		case i == 0 && strings.TrimSpace(arg) == "" && c.present(p):
			c.wrong(p, "the program has no name", "write "+exampleOf[runShape]("command"))
		case strings.ContainsRune(arg, 0):
			c.wrong(p, quote(arg)+" has a NUL, which no program can be given", "remove it")
		}
	}
}

// directory resolves the working directory against the folder of the file that
// names it, without a look at the disk.
func (c *checker) directory(runPath, directory string) string {
	path := runPath + ".directory"
	at := c.places[runPath].key
	if c.present(path) {
		at = c.places[path].value
		switch {
		case directory == "":
			c.wrong(path, "the directory has no name", "write one, relative to the folder of this file, or remove it")
		case strings.ContainsRune(directory, 0):
			c.wrong(path, quote(directory)+" has a NUL, which no file system can take", "remove it")
		case strings.HasPrefix(directory, "~"):
			c.wrong(path, quote(directory)+" begins with ~, which only shells understand", "write the whole path")
		}
	}
	if gopath.IsAbs(directory) {
		return gopath.Clean(directory)
	}
	return gopath.Join(c.folders[at.File], directory)
}

// reserved are the variables by which an instance learns where to listen.
var reserved = []string{"PORT", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"}

func (c *checker) variable(path, name, value string) {
	upper := strings.ToUpper(name)
	switch {
	case slices.Contains(reserved, name) || strings.HasPrefix(name, "POLDER_"):
		c.wrongKey(path, quote(name)+" is set by Polder itself", "remove it, or use another name")
	case !variableSyntax.MatchString(name):
		fix := "write letters, digits and _, and no digit first"
		if better := strings.NewReplacer("-", "_", ".", "_", " ", "_").Replace(upper); variableSyntax.MatchString(better) {
			fix = "write " + better
		}
		c.wrongKey(path, quote(name)+" is not a name for an environment variable", fix)
	case strings.ContainsRune(value, 0):
		c.wrong(path, "the value has a NUL, which no program can be given", "remove it")
	}
}

func (c *checker) scale(path string, shape *scaleShape) Scale {
	s := Scale{Min: DefaultMin, Max: DefaultMax, Concurrency: DefaultConcurrency, KeepAlive: AutoKeepAlive, Pause: AutoPause, Prewarm: PrewarmAuto}
	if shape == nil {
		return s
	}
	s.Min = c.count(path+".min", shape.Min, s.Min, 0, 1000)
	s.Max = c.count(path+".max", shape.Max, max(s.Max, s.Min), 1, 1000)
	s.Concurrency = c.count(path+".concurrency", shape.Concurrency, s.Concurrency, 1, 100_000)
	if s.Min > s.Max && shape.Max != nil && !c.faulty[path+".min"] && !c.faulty[path+".max"] {
		c.wrong(path+".min", fmt.Sprintf("min is %d and max is %d", s.Min, s.Max), fmt.Sprintf("write at most %d, or raise max", s.Max))
	}
	switch shape.Pause {
	case "auto":
	case "never":
		s.Pause = NeverPause
	default:
		s.Pause = c.duration(path+".pause", string(shape.Pause), AutoPause, 0, mostIdle)
	}
	s.KeepAlive = c.keepAlive(path+".keep-alive", shape.KeepAlive, s.KeepAlive)
	s.Prewarm = oneOf(c, path+".prewarm", shape.Prewarm, PrewarmAuto, PrewarmOff)
	s.Budget = c.budget(path+".budget", shape.Budget)
	s.ColdStart = c.coldStart(path+".cold-start", shape.ColdStart, 0)
	for i, schedule := range shape.Schedule {
		s.Schedule = append(s.Schedule, c.schedule(index(path+".schedule", i), schedule, s.Max))
	}
	s.Shadow = c.shadow(path+".shadow", shape.Shadow, s)
	return s
}

// mostIdle is the longest that an idle instance may be kept by a fixed rule.
const mostIdle = 30 * 24 * time.Hour

// keepAlive checks an idle time; otherwise when absent.
func (c *checker) keepAlive(path string, text keepAliveText, otherwise time.Duration) time.Duration {
	if text == "auto" {
		return AutoKeepAlive
	}
	return c.duration(path, string(text), otherwise, 0, mostIdle)
}

// coldStart checks what a cold start is rated at; otherwise when absent.
func (c *checker) coldStart(path string, text priceText, otherwise Rate) Rate {
	rate := c.rate(path, text)
	if rate == nil {
		return otherwise
	}
	if c.prices == nil && c.sureOfPrices {
		c.wrong(path, "a cold start is rated and there is no price list to weigh it by", "write "+exampleOf[configShape]("prices"))
	}
	return *rate
}

// shadow checks the policy that is scored beside a scale's own.
func (c *checker) shadow(path string, shape *shadowShape, own Scale) *Shadow {
	if shape == nil {
		return nil
	}
	s := &Shadow{KeepAlive: c.keepAlive(path+".keep-alive", shape.KeepAlive, own.KeepAlive), Prewarm: own.Prewarm,
		ColdStart: c.coldStart(path+".cold-start", shape.ColdStart, own.ColdStart)}
	if c.present(path + ".prewarm") {
		s.Prewarm = oneOf(c, path+".prewarm", shape.Prewarm, PrewarmAuto, PrewarmOff)
	}
	if *s == (Shadow{own.KeepAlive, own.Prewarm, own.ColdStart}) && !c.faulty[path] {
		c.wrongKey(path, "the shadow is the policy that acts, so that both would score alike", "give it another keep-alive, prewarm or cold-start, or remove it")
	}
	return s
}

func (c *checker) schedule(path string, shape scheduleShape, most int) Schedule {
	zone := shape.Zone
	if !c.present(path + ".zone") {
		zone = "UTC"
	}
	d := c.duration(path+".for", string(shape.For), time.Hour, time.Minute, MaxScheduled)
	least := c.count(path+".min", shape.Min, 1, 1, 1000)
	if least > most && !c.faulty[path+".min"] {
		c.wrong(path+".min", fmt.Sprintf("the schedule asks for %d instances and max is %d", least, most), fmt.Sprintf("write at most %d, or raise max", most))
	}
	if !c.present(path + ".cron") {
		return Schedule{}
	}
	s, err := NewSchedule(shape.Cron, zone, d, least)
	var bad *zoneError
	switch {
	case errors.As(err, &bad):
		c.wrong(path+".zone", err.Error(), "write an IANA name such as Europe/Paris, or UTC")
	case err != nil:
		c.wrong(path+".cron", err.Error(), "write five fields, as in 0 8 * * 1-5 for eight o'clock on working days")
	}
	return s
}

// count checks a number in bounds; otherwise when absent.
func (c *checker) count(path string, n *int, otherwise, least, most int) int {
	if n == nil || !c.present(path) {
		return otherwise
	}
	if *n < least || *n > most {
		c.wrong(path, fmt.Sprintf("%d is out of bounds", *n), fmt.Sprintf("write %d to %d", least, most))
	}
	return *n
}
