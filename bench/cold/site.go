package cold

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
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
	// patience bounds every single wait and request.
	patience = 2 * time.Minute
	// poll is how often the region is asked how it is.
	poll = 20 * time.Millisecond
	// keepAlive is that of every service: short, so that they sleep again soon.
	keepAlive = 500 * time.Millisecond
)

// site is a running region that has every service of the benchmark.
type site struct {
	client  *gateway.Client
	layout  gateway.Layout
	address string // of Envoy's HTTPS entrypoint
	roots   *x509.CertPool
}

func host(service string) string { return service + ".example.com" }

// service is one entry of the configuration.
type service struct {
	program
	name    string
	prewarm string // off ignores the ClientHello
	most    int    // instances
}

// services lists every service that the options need.
func services(o Options) []service {
	var list []service
	byName := map[string]program{}
	for _, p := range programs(o) {
		byName[p.name] = p
	}
	for _, name := range o.Programs {
		list = append(list, service{byName[name], name, "off", 1})
	}
	sleeper := byName["sleeper-0"]
	if len(o.RTTs) > 0 {
		list = append(list, service{byName["sleeper-50"], helloAwaited, "auto", 1}, service{byName["sleeper-50"], helloIgnored, "off", 1},
			service{byName["sleeper-50"], helloResident, "auto", 1})
	}
	if o.Warm > 0 {
		list = append(list, service{sleeper, warmed, "off", 1})
	}
	if o.Callers > 0 {
		list = append(list, service{byName["sleeper-1000"], crowded, "off", 1})
	}
	for i := range o.Sleepers {
		list = append(list, service{sleeper, fmt.Sprintf("many-%d", i), "off", 1})
	}
	if o.Cycles > 0 {
		for i := range cyclers {
			list = append(list, service{sleeper, fmt.Sprintf("cycle-%d", i), "off", 1})
		}
	}
	return list
}

// keys is the policy's choice for the service's key.
func (s service) keys() string {
	if s.name == helloResident {
		return "resident"
	}
	return "on-demand"
}

// configuration writes the file of a region with the services.
func configuration(list []service) string {
	var b strings.Builder
	b.WriteString("regions:\n  fr: { jurisdiction: [FR, EU], location: [48.86, 2.35] }\nservices:\n")
	for _, s := range list {
		listen := "port"
		if s.inherit {
			listen = "inherit"
		}
		fmt.Fprintf(&b, "  %s:\n    hosts: [%s]\n    residency: { allow: [fr], keys: %s }\n    run: { command: [%s], directory: %q, listen: %s }\n    scale: { max: %d, keep-alive: %s, prewarm: %s }\n",
			s.name, host(s.name), s.keys(), quoted(s.command), s.dir, listen, s.most, keepAlive, s.prewarm)
	}
	return b.String()
}

func quoted(words []string) string {
	list := make([]string, len(words))
	for i, w := range words {
		list[i] = fmt.Sprintf("%q", w)
	}
	return strings.Join(list, ", ")
}

// at runs a region with the services in a folder of its own, hands it to do, and
// ends it.
func at(ctx context.Context, o Options, do func(context.Context, *site) error) (err error) {
	dir, err := os.MkdirTemp("", "polder-cold-") // short enough for sockets
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	config := filepath.Join(dir, "polder.yaml")
	if err := os.WriteFile(config, []byte(configuration(services(o))), 0o600); err != nil {
		return err
	}
	reading := source.Source{Path: config}.Load()
	if len(reading.Faults) > 0 {
		return fmt.Errorf("configuration of the benchmark: %w", reading.Faults[0])
	}
	state := filepath.Join(dir, "state")
	if err := os.Mkdir(state, 0o700); err != nil {
		return err
	}
	said := newTail(40)
	plan, err := fleet.New(fleet.Options{
		Program: o.Polder, Config: config, State: state, Extra: []string{"--tools", o.Tools, "--server-timing"},
		Log: slog.New(slog.DiscardHandler), Output: func(_ string, line []byte) { said.add(string(line)) },
	}, reading.Model.Regions)
	if err != nil {
		return err
	}
	member := plan.Members()[0]
	ca, err := authority.Open(member.Layout.Authority())
	if err != nil {
		return err
	}
	pem, err := os.ReadFile(ca.RootFile())
	if err != nil {
		return err
	}
	s := &site{client: gateway.NewClient(member.Layout), layout: member.Layout, address: member.Listen.HTTPS, roots: x509.NewCertPool()}
	defer s.client.Close()
	s.roots.AppendCertsFromPEM(pem)
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
		err = fmt.Errorf("%w\nthe region's last lines:\n%s", err, said)
	}
	return err
}

// awaitReady returns when Envoy serves every service.
func (s *site) awaitReady(ctx context.Context, ended chan error) error {
	return s.await(ctx, "the region is ready", func() (bool, error) {
		select {
		case err := <-ended:
			ended <- nil
			return false, fmt.Errorf("the region has ended: %w", err)
		default:
		}
		status, err := s.client.Status(ctx)
		if err != nil {
			return false, nil // not yet
		}
		for _, node := range status.Nodes {
			for _, t := range node.Types {
				if strings.HasSuffix(t.Type, "Listener") && t.Accepted > 0 && t.Pending == 0 {
					return s.listens(ctx), nil // an acknowledgement comes before the workers
				}
			}
		}
		return false, nil
	})
}

// listens tells whether Envoy accepts connections.
func (s *site) listens(ctx context.Context) bool {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", s.address)
	if err != nil {
		return false
	}
	return conn.Close() == nil
}

// await asks until the answer is yes.
func (s *site) await(ctx context.Context, what string, ok func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
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

// asleep returns when none of the services has an instance.
func (s *site) asleep(ctx context.Context, names ...string) error {
	wanted := map[polder.ServiceName]bool{}
	for _, n := range names {
		wanted[polder.ServiceName(n)] = true
	}
	return s.await(ctx, strings.Join(names[:min(3, len(names))], ", ")+" sleep", func() (bool, error) {
		status, err := s.client.Status(ctx)
		if err != nil {
			return false, err
		}
		for _, service := range status.Services {
			if wanted[service.Service] && len(service.Instances) > 0 {
				return false, nil
			}
		}
		return true, nil
	})
}

// totals sums what happened to the services.
func (s *site) totals(ctx context.Context, names ...string) (gateway.Totals, error) {
	status, err := s.client.Status(ctx)
	if err != nil {
		return gateway.Totals{}, err
	}
	var sum gateway.Totals
	for _, service := range status.Services {
		for _, n := range names {
			if string(service.Service) == n {
				sum.Starts += service.Totals.Starts
				sum.Cold += service.Totals.Cold
				sum.Crashes += service.Totals.Crashes
			}
		}
	}
	return sum, nil
}

// keyless returns when Envoy does not hold the key of the host.
func (s *site) keyless(ctx context.Context, host string) error {
	client := &http.Client{Timeout: patience, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", s.layout.Admin())
		}}}
	return s.await(ctx, "Envoy has forgotten the key of "+host, func() (bool, error) {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://envoy/config_dump?resource=dynamic_active_secrets", nil)
		if err != nil {
			return false, err
		}
		response, err := client.Do(request)
		if err != nil {
			return false, err
		}
		defer response.Body.Close()
		text, err := io.ReadAll(response.Body)
		return !strings.Contains(string(text), `"name": "`+host+`"`), err
	})
}

// caller makes a client with a connection of its own, to Envoy or a relay.
func (s *site) caller(to string, http2 bool) *http.Client {
	return &http.Client{Timeout: patience, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: s.roots}, ForceAttemptHTTP2: http2, MaxConnsPerHost: 1,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", to)
		},
	}}
}

// reply is an answer as the caller saw it.
type reply struct {
	took   time.Duration // until the answer's header
	cold   bool
	start  time.Duration // of took: what the instance's start took, as the gateway tells
	reused bool          // the connection was open before
}

func (s *site) port() string { return s.address[strings.LastIndexByte(s.address, ':'):] }
