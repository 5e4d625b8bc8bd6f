package envoy

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	adminWait  = 30 * time.Second // for one answer, a large config dump included
	mostAnswer = 1 << 30          // bytes of one answer; 10,000 hosts dump about a tenth
)

// Admin speaks with an Envoy's admin interface over its Unix socket. Each call
// is a connection of its own, ends with ctx or after half a minute, and may be
// made from any goroutine.
type Admin struct {
	socket string
	client *http.Client
}

// NewAdmin returns the admin interface that listens on the socket.
func NewAdmin(socket string) *Admin {
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
		DisableKeepAlives: true,
	}
	return &Admin{socket: socket, client: &http.Client{Transport: transport, Timeout: adminWait}}
}

// Ready is nil while Envoy serves. While it waits for its first configuration,
// or does not answer, the error says so.
func (a *Admin) Ready(ctx context.Context) error {
	_, err := a.call(ctx, http.MethodGet, "/ready", nil)
	return err
}

// ConfigDump returns the running configuration as JSON. Parameters are Envoy's:
// resource, mask, name_regex, include_eds.
func (a *Admin) ConfigDump(ctx context.Context, parameters url.Values) ([]byte, error) {
	return a.call(ctx, http.MethodGet, "/config_dump", parameters)
}

// Runtime returns the runtime values as JSON, with the layers that set them.
func (a *Admin) Runtime(ctx context.Context) ([]byte, error) {
	return a.call(ctx, http.MethodGet, "/runtime", nil)
}

// Stats returns the counters and gauges whose names match the regular
// expression (Google RE2), by name. An empty expression means all.
func (a *Admin) Stats(ctx context.Context, filter string) (map[string]uint64, error) {
	var answer struct {
		Stats []struct {
			Name  string          `json:"name"`
			Value json.RawMessage `json:"value"` // a string for text readouts; absent for histograms
		} `json:"stats"`
	}
	parameters := url.Values{"format": {"json"}}
	if filter != "" {
		parameters.Set("filter", filter)
	}
	if err := a.object(ctx, "/stats", parameters, &answer); err != nil {
		return nil, err
	}
	stats := make(map[string]uint64, len(answer.Stats))
	for _, s := range answer.Stats {
		var value uint64
		if s.Value != nil && json.Unmarshal(s.Value, &value) == nil {
			stats[s.Name] = value
		}
	}
	return stats, nil
}

// InProgress counts requests in progress and connections that are passed
// through, the admin interface's own aside. It needs Envoy's stats
// http.*.downstream_rq_active and tcp.*.downstream_cx_active: a bootstrap whose
// stats matcher excludes them makes every Envoy look idle.
func (a *Admin) InProgress(ctx context.Context) (int, error) {
	return a.sum(ctx, `^(http\..*\.downstream_rq_active|tcp\..*\.downstream_cx_active)$`)
}

// Connected counts the connections of HTTP clients, the admin interface's own aside,
// by Envoy's stats http.*.downstream_cx_active.
func (a *Admin) Connected(ctx context.Context) (int, error) {
	return a.sum(ctx, `^http\..*\.downstream_cx_active$`)
}

// sum adds up the stats that a filter lets through, the admin interface's own aside.
func (a *Admin) sum(ctx context.Context, filter string) (int, error) {
	stats, err := a.Stats(ctx, filter)
	if err != nil {
		return 0, err
	}
	sum := 0
	for name, value := range stats {
		if !strings.HasPrefix(name, "http.admin.") {
			sum += int(value)
		}
	}
	return sum, nil
}

// ReopenLogs lets Envoy write to new files where those that it writes to were
// renamed.
func (a *Admin) ReopenLogs(ctx context.Context) error {
	_, err := a.call(ctx, http.MethodPost, "/reopen_logs", nil)
	return err
}

// DrainListeners stops accepting at once. With graceful, Envoy goes on
// accepting for its drain time, and asks the clients of every connection to
// leave: by "connection: close" or GOAWAY with the next response.
func (a *Admin) DrainListeners(ctx context.Context, graceful bool) error {
	parameters := url.Values{}
	if graceful {
		parameters.Set("graceful", "")
	}
	_, err := a.call(ctx, http.MethodPost, "/drain_listeners", parameters)
	return err
}

func (a *Admin) object(ctx context.Context, path string, parameters url.Values, into any) error {
	answer, err := a.call(ctx, http.MethodGet, path, parameters)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(answer, into); err != nil {
		return fmt.Errorf("admin interface of Envoy: %s: %w", path, err)
	}
	return nil
}

func (a *Admin) call(ctx context.Context, method, path string, parameters url.Values) ([]byte, error) {
	target := url.URL{Scheme: "http", Host: "envoy", Path: path, RawQuery: parameters.Encode()}
	request, err := http.NewRequestWithContext(ctx, method, target.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("admin interface of Envoy: %w", err)
	}
	response, err := a.client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("admin interface of Envoy on %s: %w", a.socket, err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, mostAnswer+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("admin interface of Envoy: %s: %w", path, err)
	case len(answer) > mostAnswer:
		return nil, fmt.Errorf("admin interface of Envoy: %s: answer is longer than %d bytes: ask for less", path, mostAnswer)
	case response.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("admin interface of Envoy: %s: %s: %.200s", path, response.Status, strings.TrimSpace(string(answer)))
	}
	return answer, nil
}
