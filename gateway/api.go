package gateway

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway/audit"
)

const (
	// apiTimeout bounds a question that has one answer.
	apiTimeout = 5 * time.Second
	// auditTimeout bounds an audit, and the reading of a whole ledger.
	auditTimeout = time.Minute
	// apiStop bounds how long answers may take to end when the region stops.
	apiStop = 2 * time.Second
	// MaxLogLines bounds what one question for logs returns of each instance
	// before it follows.
	MaxLogLines = 10_000
)

// LogLine is one line that an instance wrote.
type LogLine struct {
	Region   polder.RegionName  `json:"region"`
	Service  polder.ServiceName `json:"service"`
	Instance polder.InstanceID  `json:"instance"`
	Line     string             `json:"line"`
}

// LogQuery chooses lines of logs.
type LogQuery struct {
	Service polder.ServiceName
	Lines   int  // of the past, per instance
	Follow  bool // go on until the caller has enough
}

// apiSource is what the API tells of; *Region is one.
type apiSource interface {
	Status(ctx context.Context) (Status, error)
	Logs(ctx context.Context, q LogQuery, line func(LogLine) error) error
	Cold(q ColdQuery) []ColdRequest
	Audit(ctx context.Context) (audit.Result, error)
	Ledger() (LedgerReport, error)
	Drain(ctx context.Context, with []string, force bool) (DrainStatus, error)
	Undrain(ctx context.Context) (DrainStatus, error)
	DrainStatus(ctx context.Context, with []string) (DrainStatus, error)
	Cost(ctx context.Context) (CostReport, error)
	Calls(ctx context.Context, name polder.ServiceName) (CallRecord, error)
	Noticed(ctx context.Context, name polder.ServiceName, cause NoticeCause) error
}

// api is the region's interface for commands, on a Unix socket for the owner only.
func api(source apiSource, metrics http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", answer(apiTimeout, source.Status))
	mux.HandleFunc("GET /v1/audit", answer(auditTimeout, source.Audit))
	mux.HandleFunc("GET /v1/ledger", answer(auditTimeout, func(context.Context) (LedgerReport, error) { return source.Ledger() }))
	mux.HandleFunc("GET /v1/logs", func(w http.ResponseWriter, r *http.Request) {
		lines, err := strconv.Atoi(r.FormValue("lines"))
		if err != nil || lines < 0 || lines > MaxLogLines {
			http.Error(w, fmt.Sprintf("lines is %q, want a number from 0 to %d", r.FormValue("lines"), MaxLogLines), http.StatusBadRequest)
			return
		}
		w.Header().Set("content-type", "application/x-ndjson")
		flush, _ := w.(http.Flusher)
		encoder := json.NewEncoder(w)
		query := LogQuery{Service: polder.ServiceName(r.FormValue("service")), Lines: lines, Follow: r.FormValue("follow") == "true"}
		err = source.Logs(r.Context(), query, func(line LogLine) error {
			if err := encoder.Encode(line); err != nil {
				return err
			}
			flush.Flush()
			return nil
		})
		if err != nil && r.Context().Err() == nil {
			http.Error(w, err.Error(), http.StatusNotFound)
		}
	})
	drainRoutes(mux, source)
	costRoutes(mux, source)
	mux.Handle("GET /metrics", metrics)
	mux.HandleFunc("GET /v1/cold", coldHandler(source.Cold))
	return mux
}

// answer answers a question with JSON, or says why it cannot.
func answer[T any](timeout time.Duration, ask func(context.Context) (T, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), timeout)
		defer cancel()
		value, err := ask(ctx)
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("content-type", "application/json")
		json.NewEncoder(w).Encode(value) // an error means that the caller has gone
	}
}

// serveAPI serves until the context ends.
func serveAPI(ctx context.Context, socket string, source apiSource, metrics http.Handler) error {
	listener, err := listenUnix(socket)
	if err != nil {
		return err
	}
	return serveHTTP(ctx, listener, api(source, metrics))
}

// serveHTTP serves until the context ends.
func serveHTTP(ctx context.Context, listener net.Listener, handler http.Handler) error {
	server := &http.Server{
		Handler: handler, ReadHeaderTimeout: apiTimeout,
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	stopped := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), apiStop)
		defer cancel()
		stopped <- server.Shutdown(grace)
	})
	defer stop()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving on %s: %w", listener.Addr(), err)
	}
	if err := <-stopped; err != nil {
		server.Close()
	}
	return nil
}

// listenUnix listens on a socket that only the owner can use, and replaces one
// that a crashed process left behind.
func listenUnix(path string) (net.Listener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("socket %s: %w", path, err)
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("socket %s: %w", path, err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		listener.Close()
		return nil, fmt.Errorf("socket %s: %w", path, err)
	}
	return listener, nil
}

// Client asks a running region. It is safe for concurrent use.
type Client struct {
	layout Layout
	http   *http.Client
}

// NewClient makes a client for the region of that layout.
func NewClient(l Layout) *Client {
	return &Client{layout: l, http: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", l.API())
		},
		MaxIdleConns: 1, IdleConnTimeout: time.Minute,
	}}}
}

// Status asks for the region's status. The error tells when it does not run.
func (c *Client) Status(ctx context.Context) (Status, error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	var status Status
	err := c.ask(ctx, "/v1/status", &status)
	return status, err
}

// Audit has the region's Envoy audited now. An error says that it could not be.
func (c *Client) Audit(ctx context.Context) (audit.Result, error) {
	ctx, cancel := context.WithTimeout(ctx, auditTimeout)
	defer cancel()
	var result audit.Result
	err := c.ask(ctx, "/v1/audit", &result)
	return result, err
}

// Cost asks what the region's services cost.
func (c *Client) Cost(ctx context.Context) (CostReport, error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	var report CostReport
	err := c.ask(ctx, "/v1/cost", &report)
	return report, err
}

// Calls asks for the calls of a service that the region has on record.
func (c *Client) Calls(ctx context.Context, name polder.ServiceName) (CallRecord, error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	var record CallRecord
	err := c.ask(ctx, "/v1/calls?"+url.Values{"service": {string(name)}}.Encode(), &record)
	return record, err
}

// Ledger has the region's ledger verified now.
func (c *Client) Ledger(ctx context.Context) (LedgerReport, error) {
	ctx, cancel := context.WithTimeout(ctx, auditTimeout)
	defer cancel()
	var report LedgerReport
	err := c.ask(ctx, "/v1/ledger", &report)
	return report, err
}

// ask asks a question that has one answer, in JSON.
func (c *Client) ask(ctx context.Context, path string, answer any) error {
	body, err := c.get(ctx, path)
	if err != nil {
		return err
	}
	defer body.Close()
	if err := json.NewDecoder(body).Decode(answer); err != nil {
		return fmt.Errorf("region %s: %s: %w", c.layout.Region, path, err)
	}
	return nil
}

// Logs hands over the lines of a service's instances until there are no more,
// line returns an error, or the context ends.
func (c *Client) Logs(ctx context.Context, q LogQuery, line func(LogLine) error) error {
	query := url.Values{"service": {string(q.Service)}, "lines": {strconv.Itoa(q.Lines)}, "follow": {strconv.FormatBool(q.Follow)}}
	body, err := c.get(ctx, "/v1/logs?"+query.Encode())
	if err != nil {
		return err
	}
	defer body.Close()
	decoder := json.NewDecoder(bufio.NewReader(body))
	for {
		var l LogLine
		switch err := decoder.Decode(&l); {
		case errors.Is(err, io.EOF) || ctx.Err() != nil:
			return nil
		case err != nil:
			return fmt.Errorf("region %s: logs: %w", c.layout.Region, err)
		}
		if err := line(l); err != nil {
			return err
		}
	}
}

// Close lets go of the connection.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// ErrNotRunning says that no region answers on its socket.
var ErrNotRunning = errors.New("region does not run")

func (c *Client) get(ctx context.Context, path string) (io.ReadCloser, error) {
	response, err := c.do(ctx, http.MethodGet, path)
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		defer response.Body.Close()
		return nil, c.refusal(response)
	}
	return response.Body, nil
}

func (c *Client) do(ctx context.Context, method, path string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, method, "http://polder"+path, nil)
	if err != nil {
		return nil, err
	}
	response, err := c.http.Do(request)
	if err != nil {
		var dial *net.OpError
		if errors.As(err, &dial) && dial.Op == "dial" {
			return nil, fmt.Errorf("%w: %s (no answer on %s); start it with polder up or polder run", ErrNotRunning, c.layout.Name(), c.layout.API())
		}
		return nil, fmt.Errorf("region %s: %w", c.layout.Name(), err)
	}
	return response, nil
}

// refusal is the error that an answer stands for.
func (c *Client) refusal(response *http.Response) error {
	text, _ := io.ReadAll(io.LimitReader(response.Body, 4096))
	return fmt.Errorf("region %s: %s: %s", c.layout.Name(), response.Status, text)
}
