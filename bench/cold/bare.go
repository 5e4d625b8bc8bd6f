package cold

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/polder/polder/gateway/envoy"
	"github.com/polder/polder/internal/freeport"
)

// bareStart is how long a bare Envoy may take until it runs.
const bareStart = time.Minute

// bare is an Envoy that nobody controls.
type bare struct {
	pid     int
	address string // of its HTTPS entrypoint
}

// object is a piece of Envoy's configuration, as JSON has it.
type object = map[string]any

// bare runs an Envoy beside the region's that does the same for the service
// warmed, and hands it to do. What it does is taken from what the region's Envoy
// runs with: its listener with the service's filter chain, its routes, its
// cluster with the instance that is ready. But the file says all of that, the key
// too: there is no control plane, no choice among services, no activator to go to,
// and nobody is told of load.
func (s *site) bare(ctx context.Context, o Options, do func(context.Context, *bare) error) error {
	dir := filepath.Join(s.layout.State, "bare")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	at, err := freeport.Choose(false)
	if err != nil {
		return err
	}
	bootstrap, err := s.bareBootstrap(ctx, filepath.Join(dir, "admin.sock"), at.String())
	if err != nil {
		return fmt.Errorf("configuration of a bare Envoy: %w", err)
	}
	binary, err := envoy.Find(ctx, o.Tools, os.Getenv("PATH"))
	if err != nil {
		return err
	}
	live := make(chan int, 1)
	supervisor, err := envoy.NewSupervisor(envoy.Options{
		// As many workers as the region's Envoy has.
		Node: "bare", Binary: binary, Bootstrap: bootstrap, Dir: dir, Concurrency: runtime.NumCPU(), DrainTime: time.Second, Grace: time.Second,
		Log: slog.New(slog.DiscardHandler),
		OnEvent: func(e envoy.Event) {
			if e.State == envoy.Running {
				select {
				case live <- e.PID:
				default: // another start, which the calls will notice
				}
			}
		},
	})
	if err != nil {
		return err
	}
	running, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- supervisor.Run(running) }()
	select {
	case pid := <-live:
		err = do(running, &bare{pid: pid, address: at.String()})
		stop()
		err = errors.Join(err, <-ended)
	case err = <-ended:
		err = errors.Join(errors.New("the bare Envoy has ended"), err)
	case <-time.After(bareStart):
		stop()
		err = errors.Join(fmt.Errorf("the bare Envoy does not run after %v: see %s", bareStart, filepath.Join(dir, "envoy.log")), <-ended)
	}
	return err
}

// bareBootstrap makes the file.
func (s *site) bareBootstrap(ctx context.Context, admin, address string) ([]byte, error) {
	text, err := os.ReadFile(filepath.Join(s.layout.Envoy(), "bootstrap.json"))
	if err != nil {
		return nil, err
	}
	dump, err := envoy.NewAdmin(s.layout.Admin()).ConfigDump(ctx, url.Values{"include_eds": {""}})
	if err != nil {
		return nil, err
	}
	instance, err := s.instance(ctx)
	if err != nil {
		return nil, err
	}
	key, err := s.keyFile()
	if err != nil {
		return nil, err
	}
	return bareOf(text, dump, key, admin, address, instance)
}

// instance is where the service's instance listens.
func (s *site) instance(ctx context.Context) (string, error) {
	status, err := s.client.Status(ctx)
	if err != nil {
		return "", err
	}
	for _, service := range status.Services {
		if service.Service == warmed && len(service.Instances) == 1 {
			return service.Instances[0].Address, nil
		}
	}
	return "", fmt.Errorf("service %s has not exactly one instance", warmed)
}

// keyFile is where the service's certificate and key are; the region has no other.
func (s *site) keyFile() (string, error) {
	files, err := filepath.Glob(filepath.Join(s.layout.Certificates(), "hosts", "*.pem"))
	if err == nil && len(files) != 1 {
		err = fmt.Errorf("%d certificates of hosts in %s, want one", len(files), s.layout.Certificates())
	}
	if err != nil {
		return "", err
	}
	return files[0], nil
}

// bareOf makes the bootstrap of a bare Envoy from that of another and from what
// the other runs with.
func bareOf(bootstrap, dump []byte, key, admin, address, instance string) ([]byte, error) {
	var own object
	var all struct{ Configs []object }
	if err := errors.Join(json.Unmarshal(bootstrap, &own), json.Unmarshal(dump, &all)); err != nil {
		return nil, err
	}
	listener, err1 := find(all.Configs, "listener.v3.Listener", "entrypoint-https")
	chain, err2 := find(listener, "", "serve")
	routes, err3 := find(all.Configs, "route.v3.RouteConfiguration", "host/"+host(warmed))
	cluster, err4 := find(all.Configs, "cluster.v3.Cluster", "service/"+warmed)
	manager, err5 := find(chain, "", "envoy.filters.network.http_connection_manager")
	socket, _ := chain["transport_socket"].(object)
	if err := errors.Join(err1, err2, err3, err4, err5); err != nil {
		return nil, err
	}
	place, err := socketAddress(address)
	if err != nil {
		return nil, err
	}
	target, err := socketAddress(instance)
	if err != nil {
		return nil, err
	}

	delete(listener, "filter_chain_matcher")
	filters, _ := listener["listener_filters"].([]any)
	listener["listener_filters"] = slices.DeleteFunc(filters, fetched)
	listener["address"], listener["filter_chains"] = place, []any{chain}
	manager, _ = manager["typed_config"].(object)
	delete(manager, "scoped_routes")
	delete(routes, "@type")
	manager["route_config"] = routes
	tls, _ := socket["typed_config"].(object)
	common, ok := tls["common_tls_context"].(object)
	if !ok {
		return nil, errors.New("the filter chain has no TLS context")
	}
	delete(common, "custom_tls_certificate_selector")
	common["tls_certificates"] = []any{object{"certificate_chain": object{"filename": key}, "private_key": object{"filename": key}}}

	delete(cluster, "eds_cluster_config")
	name := cluster["name"]
	cluster["type"] = "STATIC"
	cluster["load_assignment"] = object{"cluster_name": name, "endpoints": []any{object{"lb_endpoints": []any{object{"endpoint": object{"address": target}}}}}}

	delete(listener, "@type")
	delete(cluster, "@type")
	delete(own, "dynamicResources")
	if clusters, ok := own["clusterManager"].(object); ok {
		delete(clusters, "loadStatsConfig")
	}
	own["staticResources"] = object{"listeners": []any{listener}, "clusters": []any{cluster}}
	own["admin"] = object{"address": object{"pipe": object{"path": admin, "mode": 0o600}}}
	return json.Marshal(own)
}

// fetched tells whether a filter comes from a control plane.
func fetched(filter any) bool {
	f, _ := filter.(object)
	return f["config_discovery"] != nil
}

// find returns the object of that type and name, wherever it is in what Envoy
// tells. An object that is part of another says no type.
func find(in any, kind, name string) (object, error) {
	var found object
	var walk func(any)
	walk = func(at any) {
		switch at := at.(type) {
		case []object:
			for _, item := range at {
				walk(item)
			}
		case []any:
			for _, item := range at {
				walk(item)
			}
		case object:
			says, _ := at["@type"].(string)
			if at["name"] == name && strings.HasSuffix(says, kind) && found == nil {
				found = at
				return
			}
			for _, item := range at {
				walk(item)
			}
		}
	}
	walk(in)
	if found == nil {
		return nil, fmt.Errorf("the region's Envoy has no %s of the name %q", kind, name)
	}
	return found, nil
}

func socketAddress(address string) (object, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	number, err := strconv.Atoi(port)
	return object{"socket_address": object{"address": host, "port_value": number}}, err
}
