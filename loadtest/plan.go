package loadtest

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// Plan says what to send where and when.
type Plan struct {
	Description string // for people; goes into the report as it is
	Targets     []Target
}

// Target is one receiver with its own schedule.
type Target struct {
	Name    string // unique in the plan
	URL     string // http or https; its host is what TLS (SNI) and HTTP (Host) name
	Connect string // host:port to connect to instead of the URL's; "" means the URL's
	// Dial, unless nil, opens the connections instead, to Connect or the URL's. It may
	// choose where to: a caller that asks DNS, or is in a network of its own.
	Dial     func(ctx context.Context, network, address string) (net.Conn, error)
	Method   string // "" means GET
	Header   http.Header
	Body     []byte
	Arrivals Arrivals
}

// Protocol is the version of HTTP to speak.
type Protocol string

// The choices of Protocol.
const (
	ProtocolAuto Protocol = "auto"     // HTTP/2 where TLS agrees on it, else HTTP/1.1
	HTTP1        Protocol = "http/1.1" // HTTP/1.1 only
	HTTP2        Protocol = "h2"       // HTTP/2 only; with an http URL by prior knowledge
)

// Connections says how long a connection lives.
type Connections string

// The choices of Connections.
const (
	ConnectionsKept  Connections = "kept"  // used again while the other side lets them be
	ConnectionsFresh Connections = "fresh" // a new one, with its handshake, for each request
)

// Options say how to send. Begin with DefaultOptions.
type Options struct {
	// InProgress is how many requests may be under way at once. Arrivals beyond
	// it wait; their latency counts all the same.
	InProgress int

	// Backlog is how many arrivals may wait. Those beyond it are dropped, and
	// counted as dropped.
	Backlog int

	// Timeout is for one request, from when it left to its last byte.
	Timeout time.Duration

	// Grace is how long requests under way may go on after the context ended.
	Grace time.Duration

	Protocol    Protocol
	Connections Connections
	Roots       *x509.CertPool // authorities to trust; nil means those of the system

	// Progress, unless nil, is called every ProgressEvery and once at the end,
	// from the goroutine of Run. It must return soon: it holds up recording.
	Progress      func(Progress)
	ProgressEvery time.Duration

	// Examine, unless nil, looks at each answer with the first MaxExamined bytes of
	// its body, and makes the note of its Result. It is called by many goroutines.
	Examine func(target string, answer *http.Response, body []byte) string

	// Results, unless nil, is called with each result in the order in which they
	// come in, from the goroutine of Run. Its first error ends the run.
	Results func(Result) error
}

// DefaultOptions are good for one machine that loads a few others.
func DefaultOptions() Options {
	return Options{
		InProgress:    1024,
		Backlog:       16384,
		Timeout:       60 * time.Second,
		Grace:         10 * time.Second,
		Protocol:      ProtocolAuto,
		Connections:   ConnectionsKept,
		ProgressEvery: time.Second,
	}
}

// MaxExamined is how many bytes of a body Options.Examine gets to see.
const MaxExamined = 64 << 10

// The limits of a run. A hundred thousand sockets are beyond one process, and
// who waits behind a million others will not be served in time.
const (
	MaxTargets    = 10_000
	MaxInProgress = 100_000
	MaxBacklog    = 1_000_000
)

// Validate reports all that is wrong with the options.
func (o Options) Validate() error {
	var faults []error
	bad := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if o.InProgress < 1 || o.InProgress > MaxInProgress {
		bad("%d requests in progress; allow 1 to %d", o.InProgress, MaxInProgress)
	}
	if o.Backlog < 0 || o.Backlog > MaxBacklog {
		bad("a backlog of %d; allow 0 to %d", o.Backlog, MaxBacklog)
	}
	if o.Timeout <= 0 || o.Timeout > time.Hour {
		bad("a timeout of %v; it must be above 0 and at most 1h", o.Timeout)
	}
	if o.Grace < 0 || o.Grace > time.Hour {
		bad("a grace of %v; it must be 0 to 1h", o.Grace)
	}
	switch o.Protocol {
	case ProtocolAuto, HTTP1, HTTP2:
	default:
		bad("protocol %q; write %q, %q or %q", o.Protocol, ProtocolAuto, HTTP1, HTTP2)
	}
	switch o.Connections {
	case ConnectionsKept, ConnectionsFresh:
	default:
		bad("connections %q; write %q or %q", o.Connections, ConnectionsKept, ConnectionsFresh)
	}
	if o.Progress != nil && o.ProgressEvery <= 0 {
		bad("progress every %v; it must be above 0", o.ProgressEvery)
	}
	return errors.Join(faults...)
}

// Validate reports all that is wrong with the plan, each fault with the
// target's name.
func (p Plan) Validate() error {
	var faults []error
	if len(p.Targets) == 0 || len(p.Targets) > MaxTargets {
		faults = append(faults, fmt.Errorf("the plan has %d targets; it must have 1 to %d", len(p.Targets), MaxTargets))
	}
	seen := make(map[string]bool)
	for i, t := range p.Targets {
		name := t.Name
		switch {
		case name == "":
			name = fmt.Sprintf("number %d", i+1)
			faults = append(faults, fmt.Errorf("target %s has no name", name))
		case seen[name]:
			faults = append(faults, fmt.Errorf("two targets are named %q", name))
		}
		seen[name] = true
		for _, err := range t.faults() {
			faults = append(faults, fmt.Errorf("target %s: %w", name, err))
		}
	}
	if len(faults) == 0 && p.Count() == 0 {
		faults = append(faults, errors.New("the schedules of all targets are empty: there is nothing to send"))
	}
	return errors.Join(faults...)
}

// Count is the number of requests that the plan schedules.
func (p Plan) Count() uint64 {
	var sum uint64
	for _, t := range p.Targets {
		sum += t.Arrivals.Count()
	}
	return sum
}

// Length is when the last schedule of the plan is over.
func (p Plan) Length() time.Duration {
	var longest time.Duration
	for _, t := range p.Targets {
		longest = max(longest, t.Arrivals.Length())
	}
	return longest
}

func (t Target) faults() (faults []error) {
	if _, err := t.url(); err != nil {
		faults = append(faults, err)
	}
	if t.Connect != "" {
		if err := checkAddress(t.Connect); err != nil {
			faults = append(faults, err)
		}
	}
	if _, err := http.NewRequest(t.Method, "http://host/", nil); err != nil {
		faults = append(faults, fmt.Errorf("method %q is not an HTTP method", t.Method))
	}
	if t.Arrivals == nil {
		return append(faults, errors.New("no arrivals: say when to send"))
	}
	if shape, ok := t.Arrivals.(interface{ Validate() error }); ok {
		if err := shape.Validate(); err != nil {
			return append(faults, err)
		}
	}
	if length := t.Arrivals.Length(); length > MaxLength {
		faults = append(faults, fmt.Errorf("the schedule is %v long; the most is %v", length, MaxLength))
	}
	return faults
}

// url checks and parses the target's URL.
func (t Target) url() (*url.URL, error) {
	u, err := url.Parse(t.URL)
	switch {
	case err != nil:
		return nil, fmt.Errorf("URL %q: %w", t.URL, errors.Unwrap(err))
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, fmt.Errorf("URL %q: begin it with http:// or https://", t.URL)
	case u.Hostname() == "":
		return nil, fmt.Errorf("URL %q has no host", t.URL)
	case u.User != nil:
		return nil, fmt.Errorf("the URL for host %s carries a password: send it as a header", u.Host)
	}
	return u, nil
}

func checkAddress(address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil || host == "" {
		return fmt.Errorf("connect address %q is not host:port, like 127.0.0.1:8443", address)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("connect address %q: the port is not a number from 1 to 65535", address)
	}
	return nil
}
