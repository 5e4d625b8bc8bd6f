package live

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/polder/polder/bench/launch"
)

// caller calls one service over one connection, which it opens beforehand.
type caller struct {
	client *http.Client
	url    string

	mu    sync.Mutex
	ready net.Conn // opened, and not in use yet
	dials int
}

// newCaller opens the connection.
func newCaller(ctx context.Context, s *launch.Site, address, host string) (*caller, error) {
	config := s.TLS()
	config.ServerName = host
	dialer := &tls.Dialer{Config: config, NetDialer: &net.Dialer{Timeout: launch.Patience}}
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return dialer.DialContext(ctx, "tcp", address)
	}
	conn, err := dial(ctx, "", "")
	if err != nil {
		return nil, fmt.Errorf("connection to %s at %s: %w", host, address, err)
	}
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	c := &caller{url: "https://" + net.JoinHostPort(host, port) + "/", ready: conn, dials: 1}
	c.client = &http.Client{Timeout: launch.Patience, Transport: &http.Transport{
		MaxConnsPerHost: 1,
		DialTLSContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			c.mu.Lock()
			defer c.mu.Unlock()
			if conn := c.ready; conn != nil {
				c.ready = nil
				return conn, nil
			}
			c.dials++
			return dial(ctx, network, address)
		},
	}}
	return c, nil
}

// call sends one request, and tells whether it found no warm instance.
func (c *caller) call(ctx context.Context) (cold bool, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url, nil)
	if err != nil {
		return false, err
	}
	response, err := c.client.Do(request)
	if err != nil {
		return false, err
	}
	defer response.Body.Close()
	if _, err := io.Copy(io.Discard, io.LimitReader(response.Body, 1<<20)); err != nil {
		return false, err
	}
	if response.StatusCode != http.StatusOK {
		return false, fmt.Errorf("%s: %d %s", c.url, response.StatusCode, response.Header.Get("x-polder-reason"))
	}
	return response.Header.Get("x-polder-cold") != "", nil
}

// reopened is how often the connection was lost and opened again, which wakes a
// service that sleeps.
func (c *caller) reopened() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dials - 1
}

func (c *caller) close() {
	c.client.CloseIdleConnections()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ready != nil {
		c.ready.Close()
	}
}

// sleepUntil waits for an instant, or until the context ends.
func sleepUntil(ctx context.Context, at time.Time) error {
	timer := time.NewTimer(time.Until(at))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
