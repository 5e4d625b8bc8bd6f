package cold

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/polder/polder/bench/launch"
	"github.com/polder/polder/gateway"
)

// keepAlive is that of every service: short, so that they sleep again soon.
const keepAlive = 500 * time.Millisecond

// site is a running region that has every service of the benchmark.
type site struct {
	*launch.Site
	client  *gateway.Client
	layout  gateway.Layout
	address string // of Envoy's HTTPS entrypoint
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

// at runs a region with the services, hands it to do, and ends it.
func at(ctx context.Context, o Options, do func(context.Context, *site) error) error {
	l := launch.Options{Polder: o.Polder, Tools: o.Tools, Configuration: configuration(services(o))}
	return launch.Run(ctx, l, func(ctx context.Context, s *launch.Site) error {
		member := s.Members[0]
		return do(ctx, &site{s, s.Clients[0], member.Layout, member.Listen.HTTPS})
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
	client := &http.Client{Timeout: launch.Patience, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", s.layout.Admin())
		}}}
	return launch.Await(ctx, "Envoy has forgotten the key of "+host, func() (bool, error) {
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

// reply is an answer as the caller saw it.
type reply struct {
	took   time.Duration // until the answer's header
	cold   bool
	start  time.Duration // of took: what the instance's start took, as the gateway tells
	reused bool          // the connection was open before
}

func (s *site) port() string { return s.address[strings.LastIndexByte(s.address, ':'):] }
