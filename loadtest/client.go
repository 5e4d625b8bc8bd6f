package loadtest

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"time"
)

// answer is what one request brought.
type answer struct {
	status   int
	protocol string
	cold     bool
	fresh    bool
	retries  int
	bytes    int64
	note     string
	err      error
}

// sender sends one request to the target of that index in the plan and returns
// when it is over. The context bounds it.
type sender func(ctx context.Context, target int) answer

// client sends over HTTP; each target has its own connections.
type client struct {
	timeout    time.Duration
	errTimeout error
	requests   []*http.Request // one pattern per target; never changed
	bodies     [][]byte
	transports []*http.Transport
	names      []string                                    // of the targets
	examine    func(string, *http.Response, []byte) string // may be nil
}

func newClient(targets []Target, o Options) (*client, error) {
	c := &client{
		timeout:    o.Timeout,
		errTimeout: fmt.Errorf("timeout: no whole answer within %v", o.Timeout),
		examine:    o.Examine,
	}
	for _, t := range targets {
		u, err := t.url()
		if err != nil {
			return nil, fmt.Errorf("target %s: %w", t.Name, err)
		}
		request, err := http.NewRequest(t.Method, u.String(), nil)
		if err != nil {
			return nil, fmt.Errorf("target %s: %w", t.Name, err)
		}
		if t.Header != nil {
			request.Header = t.Header.Clone()
		}
		if host := request.Header.Get("Host"); host != "" { // Go sends only the field
			request.Host = host
			request.Header.Del("Host")
		}
		c.requests = append(c.requests, request)
		c.bodies = append(c.bodies, t.Body)
		c.transports = append(c.transports, transport(t, o))
		c.names = append(c.names, t.Name)
	}
	return c, nil
}

// transport makes the connections of one target.
func transport(t Target, o Options) *http.Transport {
	var protocols http.Protocols
	protocols.SetHTTP1(o.Protocol != HTTP2)
	protocols.SetHTTP2(o.Protocol != HTTP1)
	protocols.SetUnencryptedHTTP2(o.Protocol == HTTP2)
	dial := t.Dial
	if dial == nil {
		dial = (&net.Dialer{Timeout: o.Timeout}).DialContext
	}
	return &http.Transport{
		Proxy: nil, // the load goes where the plan says, whatever the environment says
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			if t.Connect != "" {
				address = t.Connect
			}
			return dial(ctx, network, address)
		},
		TLSClientConfig:        &tls.Config{RootCAs: o.Roots, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    o.Timeout,
		DisableKeepAlives:      o.Connections == ConnectionsFresh,
		DisableCompression:     true,
		MaxIdleConnsPerHost:    o.InProgress,
		IdleConnTimeout:        90 * time.Second,
		MaxResponseHeaderBytes: 1 << 20,
		Protocols:              &protocols,
	}
}

// send implements sender. Redirects are answers and are not followed.
func (c *client) send(ctx context.Context, target int) (a answer) {
	began := time.Now()
	ctx, cancel := context.WithTimeoutCause(ctx, c.timeout, c.errTimeout)
	defer cancel()
	connections := 0
	request := c.requests[target].WithContext(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(info httptrace.GotConnInfo) {
			connections++
			a.fresh = a.fresh || !info.Reused
		},
	}))
	if body := c.bodies[target]; len(body) > 0 {
		request.ContentLength = int64(len(body))
		request.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
		request.Body, _ = request.GetBody()
	}
	response, err := c.transports[target].RoundTrip(request)
	a.retries = max(0, connections-1)
	if err == nil {
		a.bytes, a.note, err = c.read(target, response)
		response.Body.Close()
	}
	if err != nil {
		// Dialling and handshake have timers of their own, which go off at the
		// same time and word it differently.
		timer := net.Error(nil)
		if errors.Is(context.Cause(ctx), c.errTimeout) || errors.As(err, &timer) && timer.Timeout() && time.Since(began) >= c.timeout {
			err = c.errTimeout
		}
		a.err = err
		return a
	}
	a.status, a.protocol = response.StatusCode, response.Proto
	a.cold = hasMetric(response.Header.Values("Server-Timing"), coldMetric)
	return a
}

// read reads the whole body, and has it looked at.
func (c *client) read(target int, response *http.Response) (n int64, note string, err error) {
	if c.examine == nil {
		n, err = io.Copy(io.Discard, response.Body)
		return n, "", err
	}
	var seen bytes.Buffer
	if n, err = io.Copy(&seen, io.LimitReader(response.Body, MaxExamined)); err == nil {
		var rest int64
		rest, err = io.Copy(io.Discard, response.Body)
		n += rest
	}
	if err == nil {
		note = c.examine(c.names[target], response, seen.Bytes())
	}
	return n, note, err
}

// close ends all connections, those that are being opened too, when no request
// is under way any more.
func (c *client) close() {
	for _, t := range c.transports {
		t.CloseIdleConnections()
	}
}

// maxReason bounds one error text in bytes.
const maxReason = 200

// reason words an error so that equal causes read equal: without the ephemeral
// ports of our own side.
func reason(err error) string {
	text := err.Error()
	if op := (*net.OpError)(nil); errors.As(err, &op) && op.Source != nil {
		text = strings.ReplaceAll(text, op.Source.String()+"->", "")
	}
	if len(text) > maxReason {
		text = text[:maxReason] + "…"
	}
	return strings.ToValidUTF8(text, "")
}
