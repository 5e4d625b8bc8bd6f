package cold

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/polder/polder/bench/launch"
	"github.com/polder/polder/gateway"
)

// keepAlive is that of services that shall sleep again soon, and awake that of
// one that shall not.
const (
	keepAlive = 500 * time.Millisecond
	awake     = time.Hour
)

// site is a running region with the services of one measurement. Each has a
// region of its own, so that none is measured among the services of another.
type site struct {
	*launch.Site
	client   *gateway.Client
	layout   gateway.Layout
	address  string // of Envoy's HTTPS entrypoint
	services []string
}

func host(service string) string { return service + ".example.com" }

// service is one entry of the configuration.
type service struct {
	program
	name      string
	prewarm   string // off ignores the ClientHello; "" means off
	keys      string // "" means on-demand
	keepAlive time.Duration
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
		fmt.Fprintf(&b, "  %s:\n    hosts: [%s]\n    residency: { allow: [fr], keys: %s }\n    run: { command: [%s], directory: %q, listen: %s }\n    scale: { max: 1, keep-alive: %s, prewarm: %s }\n",
			s.name, host(s.name), cmp.Or(s.keys, keysOnDemand), quoted(s.command), s.dir, listen, cmp.Or(s.keepAlive, keepAlive), cmp.Or(s.prewarm, "off"))
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
func at(ctx context.Context, o Options, services []service, do func(context.Context, *site) error) error {
	l := launch.Options{Polder: o.Polder, Tools: o.Tools, Configuration: configuration(services)}
	return launch.Run(ctx, l, func(ctx context.Context, running *launch.Site) error {
		member := running.Members[0]
		s := &site{Site: running, client: running.Clients[0], layout: member.Layout, address: member.Listen.HTTPS}
		for _, service := range services {
			s.services = append(s.services, service.name)
		}
		return do(ctx, s)
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
