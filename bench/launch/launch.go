package launch

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway"
	"github.com/polder/polder/gateway/authority"
	"github.com/polder/polder/gateway/fleet"
	"github.com/polder/polder/gateway/source"
)

const (
	// Patience bounds every single wait and request.
	Patience = 2 * time.Minute
	// poll is how often a region is asked how it is.
	poll = 20 * time.Millisecond
	// shown is how many of the regions' last lines an error carries.
	shown = 40
)

// Options say what to run.
type Options struct {
	Polder        string   // path of the polder command
	Tools         string   // folder in which make envoy puts Envoy, absolute
	Configuration string   // text of the file
	Extra         []string // arguments of polder run beside the usual ones
	// Prepare is called before anything starts. It may be nil.
	Prepare func([]fleet.Member) error
}

// Site is what runs.
type Site struct {
	Members []fleet.Member
	Clients []*gateway.Client // of each member's API
	roots   *x509.CertPool
}

// Run runs every region of the configuration, hands them to do once their Envoys
// serve, and ends them.
func Run(ctx context.Context, o Options, do func(context.Context, *Site) error) (err error) {
	dir, err := os.MkdirTemp("", "polder-bench-") // short enough for sockets
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	said := newTail(shown)
	plan, err := o.plan(dir, said)
	if err != nil {
		return err
	}
	s, err := newSite(plan)
	if err != nil {
		return err
	}
	defer s.close()
	if o.Prepare != nil {
		if err := o.Prepare(s.Members); err != nil {
			return err
		}
	}
	running, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- plan.Run(running) }()
	err = s.awaitReady(running, ended)
	if err == nil {
		err = do(running, s)
	}
	stop()
	if err = errors.Join(err, <-ended); err != nil && ctx.Err() == nil {
		err = fmt.Errorf("%w\nthe last lines of what ran:\n%s", err, said)
	}
	return err
}

// plan writes the configuration into the folder, and plans its fleet.
func (o Options) plan(dir string, said *tail) (*fleet.Fleet, error) {
	config, state := filepath.Join(dir, "polder.yaml"), filepath.Join(dir, "state")
	if err := os.WriteFile(config, []byte(o.Configuration), 0o600); err != nil {
		return nil, err
	}
	reading := source.Source{Path: config}.Load()
	if len(reading.Faults) > 0 {
		return nil, fmt.Errorf("configuration of the benchmark: %w", reading.Faults[0])
	}
	if err := os.Mkdir(state, 0o700); err != nil {
		return nil, err
	}
	return fleet.New(fleet.Options{
		Program: o.Polder, Config: config, State: state, Extra: append([]string{"--tools", o.Tools, "--server-timing"}, o.Extra...),
		Log: slog.New(slog.DiscardHandler), Output: func(_ string, line []byte) { said.add(string(line)) },
	}, reading.Model.Regions)
}

func newSite(plan *fleet.Fleet) (*Site, error) {
	s := &Site{Members: plan.Members(), roots: x509.NewCertPool()}
	ca, err := authority.Open(s.Members[0].Layout.Authority())
	if err != nil {
		return nil, err
	}
	s.roots.AppendCertsFromPEM(ca.Root())
	for _, m := range s.Members {
		s.Clients = append(s.Clients, gateway.NewClient(m.Layout))
	}
	return s, nil
}

func (s *Site) close() {
	for _, c := range s.Clients {
		c.Close()
	}
}

// awaitReady returns when every Envoy serves.
func (s *Site) awaitReady(ctx context.Context, ended chan error) error {
	for i, m := range s.Members {
		err := Await(ctx, "region "+string(m.Region.Name)+" is ready", func() (bool, error) {
			select {
			case err := <-ended:
				ended <- nil
				return false, fmt.Errorf("the regions have ended: %w", err)
			default:
			}
			status, err := s.Clients[i].Status(ctx)
			if err != nil {
				return false, nil // not yet
			}
			return status.Serving() && listens(ctx, m.Listen.HTTPS), nil // an acknowledgement comes before the workers
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// listens tells whether somebody accepts connections at the address.
func listens(ctx context.Context, address string) bool {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return false
	}
	return conn.Close() == nil
}

// Await asks until the answer is yes, for Patience at most.
func Await(ctx context.Context, what string, ok func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, Patience)
	defer cancel()
	ticker := time.NewTicker(poll)
	defer ticker.Stop()
	for {
		yes, err := ok()
		if err != nil {
			return err
		}
		if yes {
			return nil
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return fmt.Errorf("waiting until %s: %w", what, ctx.Err())
		}
	}
}

// Asleep returns when none of the services has an instance.
func (s *Site) Asleep(ctx context.Context, names ...string) error {
	wanted := map[polder.ServiceName]bool{}
	for _, n := range names {
		wanted[polder.ServiceName(n)] = true
	}
	return Await(ctx, strings.Join(names[:min(3, len(names))], ", ")+" sleep", func() (bool, error) {
		for _, c := range s.Clients {
			status, err := c.Status(ctx)
			if err != nil {
				return false, err
			}
			for _, service := range status.Services {
				if wanted[service.Service] && len(service.Instances) > 0 {
					return false, nil
				}
			}
		}
		return true, nil
	})
}

// TLS is how callers check the regions' certificates.
func (s *Site) TLS() *tls.Config { return &tls.Config{RootCAs: s.roots} }

// Caller makes a client with a connection of its own to an address, an Envoy's
// or a relay's to it.
func (s *Site) Caller(to string, http2 bool) *http.Client {
	return &http.Client{Timeout: Patience, Transport: &http.Transport{
		TLSClientConfig: s.TLS(), ForceAttemptHTTP2: http2, MaxConnsPerHost: 1,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", to)
		},
	}}
}
