package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway"
	"github.com/polder/polder/gateway/fleet"
)

// defaultState is where polder run keeps its files in production.
const defaultState = "/var/lib/polder"

func runCommand() *cobra.Command {
	var (
		o            gateway.Options
		region       string
		tracesRegion string
		tether       int
		tempo        string
		debug        bool
	)
	c := &cobra.Command{
		Use:   "run --region NAME",
		Short: "Run one region: its Envoy, its instances, its part of the membership",
		Long: `Runs one region until it is told to stop (Ctrl-C or SIGTERM). A crash leaves
Envoy and the instances running; the next polder run with the same state folder
adopts them. SIGUSR2 replaces the program by what is now in its place, without a
lost request. Addresses are taken from the flags, else from the configuration,
else they are the defaults below.`,
		Example: `  polder run --region fr --config /etc/polder
  polder run --region fr --https 192.0.2.1:443 --join nl.example.net:7946`,
		Args: cobra.NoArgs,
	}
	output := outputFlag(c)
	f := c.Flags()
	f.StringVar(&region, "region", "", "the region to run, as `name`d in the configuration (required)")
	f.StringVar(&o.Config, "config", defaultConfig, "`path` of the configuration: a file, or a folder of .yaml files")
	f.StringVar(&o.State, "state", defaultState, "`folder` for what must survive a restart")
	f.StringVar(&o.Peer, "name", "", "this peer's `name`, unique among all peers (default REGION-1)")
	f.StringVar(&o.Listen.HTTPS, "https", "", "`address` of the HTTPS entrypoint (default :443)")
	f.StringVar(&o.Listen.HTTP, "http", "", "`address` that redirects to HTTPS (default :80)")
	f.StringVar(&o.Listen.Peer, "peer", "", "`address` for connections that other regions pass on (default :7443)")
	f.StringVar(&o.Listen.Gossip, "gossip", "", "`address` of the membership, TCP and UDP (default :7946)")
	f.StringVar(&o.Listen.XDS, "xds", "", "`address` that Envoys on other machines connect to, or off (default as configured, else off)")
	f.StringVar(&o.Listen.Clients, "clients", "", "`address` of the activator for programs that call without an Envoy, beside --xds, where they have their control plane (default as configured, else off)")
	f.StringVar(&o.Listen.DNS, "dns", "", "`address` that answers DNS queries, TCP and UDP, or off (default as configured, else off)")
	f.IntVar(&o.Peers, "peers", 0, "`number` of peers that the region has at one time, at most, among which its budgets are split (default as configured; the larger of both holds)")
	f.StringArrayVar(&o.Join, "join", nil, "gossip `address` of another peer; may be repeated")
	f.StringVar(&o.Tools, "tools", ".tools", "`folder` in which make envoy put Envoy, for when PATH has none")
	f.BoolVar(&o.ServerTiming, "server-timing", false, "tell callers in Server-Timing what was cold")
	f.StringVar(&o.Metrics, "metrics", "", "loopback `address` to serve Prometheus metrics on, such as 127.0.0.1:9464 (they are always on the API's socket, api.sock)")
	f.StringVar(&o.Traces, "traces", "", "export what cold requests waited for as spans, over OTLP, to this collector, such as https://collector.example.net:4317 or http://127.0.0.1:4317")
	f.StringVar(&tracesRegion, "traces-region", "", "the region whose law the collector is under, by `name` (default the region that runs)")
	f.IntVar(&tether, "tether", 0, "file descriptor of a pipe; when it closes, the region stops with all that it started")
	f.BoolVar(&debug, "debug", false, "log more")
	f.StringVar(&tempo, "tempo", "", "the predictor's `clock`, for benchmarks that replay a day faster than it was")
	must(f.MarkHidden("tether"))
	must(f.MarkHidden("tempo"))
	must(c.MarkFlagRequired("region"))
	folder(c, "state", "tools")
	complete(c, "region", completeConfigured(&o.Config))
	c.RunE = func(c *cobra.Command, _ []string) (err error) {
		ctx, stop := patient(c.Context())
		defer stop()
		if tether > 0 {
			ctx = fleet.Tether(ctx, os.NewFile(uintptr(tether), "tether"))
		}
		level := slog.LevelInfo
		if debug {
			level = slog.LevelDebug
		}
		o.Region, o.TracesRegion, o.Version = polder.RegionName(region), polder.RegionName(tracesRegion), version()
		o.Log = newLogger(os.Stderr, *output, level)
		if o.Peers < 0 || o.Peers > polder.MaxRegionPeers {
			return misused("--peers is %d, want 1 to %d", o.Peers, polder.MaxRegionPeers)
		}
		if o.Tempo, err = gateway.ParseTempo(tempo); err != nil {
			return misused("--tempo: %w", err)
		}
		if o.Tempo != (gateway.Tempo{}) {
			o.Log.Warn("the predictor lives by a clock of its own: keep-alives and forecasts are not those of the configuration", "tempo", o.Tempo.String())
		}
		program, err := os.Executable()
		if err != nil {
			return err
		}
		o.Keeper = []string{program, "keep"}
		r, err := gateway.New(o)
		if err != nil {
			return err
		}
		ctx, stopListening := replaceable(ctx, o.Log, program)
		defer stopListening()
		if err := r.Run(ctx); err != nil || !errors.Is(context.Cause(ctx), gateway.ErrHandOver) {
			return err
		}
		return become(program)
	}
	return c
}

func guardCommand() *cobra.Command {
	var state string
	var tether int
	c := &cobra.Command{
		Use: "guard", Hidden: true, Args: cobra.NoArgs,
		Short: "End what polder up left behind, once it has ended",
		RunE: func(c *cobra.Command, _ []string) error {
			log := newLogger(os.Stderr, formatText, slog.LevelInfo)
			ctx, stop := patient(c.Context())
			defer stop()
			return fleet.Guard(ctx, log, state, os.NewFile(uintptr(tether), "tether"))
		},
	}
	c.Flags().StringVar(&state, "state", "", "state folder")
	c.Flags().IntVar(&tether, "tether", fleet.TetherFD, "file descriptor of the pipe to polder up")
	return c
}

// patient keeps a second Ctrl-C or SIGTERM from ending what must stop in order.
func patient(ctx context.Context) (context.Context, context.CancelFunc) {
	return signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
}

// absolute resolves paths that child processes must understand too.
func absolute(paths ...*string) error {
	for _, p := range paths {
		a, err := filepath.Abs(*p)
		if err != nil {
			return fmt.Errorf("path %s: %w", *p, err)
		}
		*p = a
	}
	return nil
}
