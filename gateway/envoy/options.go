package envoy

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// maxSocketPath is what fits into a Unix socket's address on Linux, the closing
// zero byte excluded.
const maxSocketPath = 107

// Options say what a Supervisor runs. All but OnEvent are needed.
type Options struct {
	Node        string        // names the Envoy in logs, "fr-1"
	Binary      string        // from Find
	Bootstrap   []byte        // JSON; its admin address is a pipe of mode 0600 in a folder that exists
	Dir         string        // where record, bootstrap and log lie; exists, for its owner only
	Concurrency int           // worker threads, at least 1
	DrainTime   time.Duration // most that requests in progress get at a stop, at least 1 s
	Grace       time.Duration // from SIGTERM to SIGKILL after that
	Log         *slog.Logger
	OnEvent     func(Event) // called from Run's goroutine; must return at once. May be nil
}

// State is what happened to the Envoy.
type State string

// The states of an Envoy, as events tell them.
const (
	Starting State = "starting" // a process was started; it is not live yet
	Adopted  State = "adopted"  // a process of an owner before us was taken over
	Running  State = "running"  // it is live: it has its configuration and serves
	Exited   State = "exited"   // it ended by itself; another start follows after Wait
	Draining State = "draining" // it finishes what it has
	Stopped  State = "stopped"  // it was stopped
	Left     State = "left"     // it runs on for the next owner
)

// Event is a change of the Envoy's state.
type Event struct {
	State    State
	PID      int
	Restarts int           // how often it was started again since Run began
	Reason   string        // for Exited: how it ended, with Envoy's own words
	Wait     time.Duration // for Exited: until the next start
}

// RejectedError is an Envoy that ended before it was ever live, because of what
// it was given: its bootstrap, or a port that is not free.
type RejectedError struct {
	Node  string
	Exit  string // how it ended
	Words string // what Envoy said
}

func (e *RejectedError) Error() string {
	return fmt.Sprintf("node %s: Envoy does not start: %s (%s)", e.Node, e.Words, e.Exit)
}

// checked returns the options with absolute paths and the bootstrap in one
// canonical form, and the path of the admin socket that it names.
func (o Options) checked() (Options, string, error) {
	var bootstrap struct {
		Admin struct {
			Address struct {
				Pipe struct {
					Path string `json:"path"`
					Mode int    `json:"mode"`
				} `json:"pipe"`
			} `json:"address"`
		} `json:"admin"`
	}
	var faults []error
	if err := json.Unmarshal(o.Bootstrap, &bootstrap); err != nil {
		faults = append(faults, fmt.Errorf("bootstrap: %w", err))
	}
	admin := bootstrap.Admin.Address.Pipe
	switch {
	case len(faults) > 0:
	case !filepath.IsAbs(admin.Path):
		faults = append(faults, fmt.Errorf("bootstrap: admin.address.pipe.path is %q: it must be an absolute path", admin.Path))
	case admin.Mode != 0o600:
		faults = append(faults, fmt.Errorf("bootstrap: admin.address.pipe.mode is %#o: it must be 0600 (384), because the admin interface can do anything", admin.Mode))
	case len(longestSocket(admin.Path)) > maxSocketPath:
		faults = append(faults, fmt.Errorf("admin socket %s: a path of %d bytes does not leave room for %d: choose a shorter folder for sockets",
			admin.Path, len(admin.Path), maxSocketPath))
	}
	if o.Concurrency < 1 {
		faults = append(faults, fmt.Errorf("concurrency is %d: at least one worker is needed", o.Concurrency))
	}
	if o.DrainTime < time.Second {
		faults = append(faults, fmt.Errorf("drain time is %s: it must be at least 1s", o.DrainTime))
	}
	if o.Node == "" || o.Binary == "" || o.Dir == "" || o.Log == nil || o.Grace <= 0 {
		faults = append(faults, errors.New("node, binary, dir, log and grace are needed"))
	}
	var errs [3]error
	o.Binary, errs[0] = filepath.Abs(o.Binary)
	o.Dir, errs[1] = filepath.Abs(o.Dir)
	o.Bootstrap, errs[2] = canonical(o.Bootstrap)
	if err := errors.Join(append(faults, errs[:]...)...); err != nil {
		return Options{}, "", fmt.Errorf("node %s: %w", o.Node, err)
	}
	return o, admin.Path, nil
}

// canonical writes the same JSON value in the same bytes, whatever its author
// did with spaces and order.
func canonical(text []byte) ([]byte, error) {
	if !json.Valid(text) {
		return nil, nil // told above
	}
	var value any
	if err := json.Unmarshal(text, &value); err != nil {
		return nil, err
	}
	return json.Marshal(value)
}

// parked is where the admin socket of a process is kept after its successor
// took its place.
func parked(socket string, pid int) string {
	return filepath.Join(filepath.Dir(socket), "old-"+strconv.Itoa(pid)+".sock")
}

// longestSocket is the longer one of the socket's path and of any place where
// it may be parked.
func longestSocket(socket string) string {
	if old := parked(socket, 4<<20); len(old) > len(socket) { // the kernel's highest PID
		return old
	}
	return socket
}

// args are the command line for a bootstrap file.
func (o Options) args(file string) []string {
	return []string{
		"--config-path", file,
		"--disable-hot-restart",
		"--concurrency", strconv.Itoa(o.Concurrency),
		"--drain-time-s", strconv.Itoa(int((o.DrainTime + time.Second - 1) / time.Second)),
		"--drain-strategy", "immediate",
		"--log-format", logFormat,
		"--log-format-escaped",
		"--log-level", "info",
		// Log files are written ten times a second instead of each ten seconds: whom
		// Envoy gives up is evidence that shall be read at once.
		"--file-flush-interval-msec", "100",
		// main's info is a list of all extensions; misc's warnings say again with each
		// update which parts of the API are new (docs/decisions tells which we use).
		"--component-log-level", "main:warning,misc:error",
	}
}

// meta is what a process's record says of it.
type meta struct {
	Digest string `json:"digest"` // of program, options and bootstrap: what makes two Envoys the same
	Admin  string `json:"admin"`  // its admin socket
}

func (o Options) meta(admin string) meta {
	hash := sha256.New()
	for _, part := range append(o.args(""), Version, edition(o.Binary), string(o.Bootstrap)) {
		fmt.Fprintf(hash, "%d:%s", len(part), part)
	}
	return meta{Digest: hex.EncodeToString(hash.Sum(nil)), Admin: admin}
}

// edition tells a program's file from the one that replaces it: by size and
// time of change. A program that is not there has none.
func edition(program string) string {
	info, err := os.Stat(program)
	if err != nil {
		return ""
	}
	return fmt.Sprintf("%d %d", info.Size(), info.ModTime().UnixNano())
}
