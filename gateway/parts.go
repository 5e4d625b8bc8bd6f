package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway/envoy"
	"github.com/polder/polder/prewarm/instance"
	"github.com/polder/polder/xds"
	"github.com/polder/polder/xds/server"
)

const (
	// renewTick is how often certificates are looked at.
	renewTick = time.Hour
	// healthTick is how often the health of the own Envoy is looked at.
	healthTick = 200 * time.Millisecond
	// controlStop bounds how long Envoy's streams may take to end.
	controlStop = 2 * time.Second
	// controlPing is how often an idle stream is checked.
	controlPing = 30 * time.Second
	// maxControlMessage bounds what an Envoy may send in one message, in bytes:
	// its list of ten thousand names takes about one megabyte.
	maxControlMessage = 16 << 20
)

// context is that of the running region, for callbacks that have none.
func (r *Region) context() context.Context {
	if ctx := r.ctx.Load(); ctx != nil {
		return *ctx
	}
	return context.Background()
}

// acceptNode lets only the region's own Envoy connect.
func (r *Region) acceptNode(node string) error {
	if node != r.node {
		return fmt.Errorf("region %s has the node %s only", r.options.Region, r.node)
	}
	return nil
}

// localSecret is secret for the region's own Envoy.
func (r *Region) localSecret(name string) (xds.Resource, bool) { return r.secret(r.node, name) }

// secret gives an Envoy what the keyring has and the proof lets it have.
func (r *Region) secret(node, name string) (xds.Resource, bool) {
	if !r.reconciler.gate.mayHave(name) {
		return xds.Resource{}, false
	}
	secret, ok := r.keys.Secret(name)
	if ok && name != xds.SecretTrust { // which is no secret at all
		service, certificate := r.keys.certificate(name)
		r.journal.delivered(node, service, name, certificate)
	}
	return secret, ok
}

func (r *Region) isKnown(name polder.ServiceName) bool {
	_, is := r.served.of(name)
	return is
}

// cold tells what callers of a sleeping service get.
func (r *Region) cold(name polder.ServiceName) polder.Cold {
	approved, _ := r.served.of(name)
	return approved.Service().Cold
}

// forgetCallers drops what is remembered of callers of services that are not served
// here any more.
func (r *Region) forgetCallers(of []polder.ServiceName) {
	r.greetings.forget(of)
	r.wakes.forget(of)
}

// envoyServices are what Envoys of the region are served: discovery, load reports,
// and an ear for ClientHellos.
func (r *Region) envoyServices(discovery *server.Server) func(grpc.ServiceRegistrar) {
	return func(to grpc.ServiceRegistrar) {
		discovery.Register(to)
		r.load.Register(to)
		r.greeter.Register(to)
		if r.tracer != nil {
			r.tracer.Register(to)
		}
	}
}

// serveControl serves a control plane's gRPC services.
func (r *Region) serveControl(ctx context.Context, listener net.Listener, services func(grpc.ServiceRegistrar), more ...grpc.ServerOption) error {
	control := grpc.NewServer(append(more,
		grpc.MaxRecvMsgSize(maxControlMessage),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: controlPing}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: time.Second, PermitWithoutStream: true}),
	)...)
	services(control)
	stopped := make(chan struct{})
	end := func() {
		defer close(stopped)
		if errors.Is(context.Cause(ctx), ErrHandOver) {
			control.Stop() // Envoy asks again, and the next process answers
			return
		}
		force := time.AfterFunc(controlStop, control.Stop)
		control.GracefulStop()
		force.Stop()
	}
	stop := context.AfterFunc(ctx, end)
	err := control.Serve(listener)
	if stop() {
		if ctx.Err() == nil {
			return fmt.Errorf("control plane: %w", err)
		}
		end() // a listener that others feed, as the door does, was closed first
	}
	<-stopped
	return nil
}

// followConfig tells of every new configuration.
func (r *Region) followConfig(ctx context.Context) error {
	return r.config.watch(ctx, func(m *polder.Model) {
		r.followHold(m)
		select {
		case r.modelChanged <- struct{}{}:
		default: // one is waiting already, and will see this model
		}
	})
}

// renew replaces certificates before they end.
func (r *Region) renew(ctx context.Context) error {
	ticker := time.NewTicker(renewTick)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
		if identity, err := r.issuer.Peer(r.options.Peer); err != nil {
			r.options.Log.Error("the peer's identity is not renewed", "reason", err)
		} else {
			r.keys.setIdentity(identity)
		}
		if err := r.keys.renew(ctx); err != nil {
			r.options.Log.Error("certificates are not renewed", "reason", err)
		}
		r.touchSecrets()
	}
}

// watchHealth tells the membership whether this region can serve: it can while
// its Envoy follows its control plane, and no audit speaks against it.
func (r *Region) watchHealth(ctx context.Context) error {
	ticker := time.NewTicker(healthTick)
	defer ticker.Stop()
	was := false
	for {
		select {
		case <-ticker.C:
			// An Envoy that starts accepts its listeners before it opens them.
			was = r.server.Listens(r.node) && (was || r.envoyLive()) && !r.attestation.distrust.Load()
			r.setHealthy(was)
		case <-ctx.Done():
			return nil
		}
	}
}

// Status tells everything about the region.
func (r *Region) Status(ctx context.Context) (Status, error) {
	services, err := r.reconciler.Status(ctx)
	if err != nil {
		return Status{}, err
	}
	return Status{
		Region: r.options.Region, Peer: r.options.Peer, PID: os.Getpid(), Started: r.started, Version: r.options.Version,
		Listen: r.listen, Envoy: r.envoyStatus(), Config: r.config.Status(), Nodes: r.allNodes(), RefusedNodes: r.refusedNodes(),
		Peers: r.peers(), Keys: r.membershipKeys(), Services: services, Skew: r.skewNow(), Degraded: r.degraded, Refused: r.reconciler.gate.Refused(),
		Audit: r.attestation.status(), Ledger: r.journal.status(),
	}, nil
}

// envoyChanged keeps the last state of the Envoy for status.
func (r *Region) envoyChanged(e envoy.Event) { r.envoyState.Store(&e) }

// envoyLive tells whether the Envoy that was started last has come so far that it
// serves.
func (r *Region) envoyLive() bool {
	e := r.envoyState.Load()
	return e != nil && e.State == envoy.Running
}

func (r *Region) envoyStatus() EnvoyStatus {
	e := r.envoyState.Load()
	if e == nil {
		return EnvoyStatus{State: "not started"}
	}
	return EnvoyStatus{State: string(e.State), PID: e.PID, Restarts: e.Restarts, Reason: e.Reason}
}

// Logs hands over what a service's instances wrote.
func (r *Region) Logs(ctx context.Context, q LogQuery, line func(LogLine) error) error {
	for l, err := range instance.Logs(ctx, r.layout.Instances(), q.Service, "", q.Lines, q.Follow) {
		if err != nil {
			return err
		}
		if err := line(LogLine{Region: r.options.Region, Service: q.Service, Instance: l.Instance, Line: l.Text}); err != nil {
			return err
		}
	}
	return nil
}

func regionNames(m *polder.Model) string {
	names := make([]string, len(m.Regions))
	for i, region := range m.Regions {
		names[i] = string(region.Name)
	}
	return strings.Join(names, ", ")
}
