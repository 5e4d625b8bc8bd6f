//lint:file-ignore SA1019 net/http has no way yet to share one HTTP/2 connection by lease, and caps the window of a connection

package activator

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/net/http2"

	"github.com/polder/polder"
)

const (
	// headerLimit is how long a new connection may take to send a request's
	// header. There is no limit for idle connections: were one closed here while
	// Envoy sends on it, a request would be lost. Envoy bounds them.
	headerLimit = time.Minute

	// cutLimit is how long requests have to end after they were cut off.
	cutLimit = 5 * time.Second

	// handOverLimit replaces Limits.Stop when another process takes over: whoever
	// calls meanwhile waits for that one.
	handOverLimit = 3 * time.Second
)

// ErrHandOver, as the cause with which Serve's context ends, says that another
// process goes on accepting from the same socket: requests then have 3 s to end.
var ErrHandOver = errors.New("the activator is handed over to the next process")

// Serve answers the listener's connections, HTTP/1.1 and HTTP/2 in clear, until
// ctx ends. Then it accepts no more, and requests have Limits.Stop to end; held
// ones that remain are refused as Stopping and forwarded ones broken off. It
// closes the listener and returns nil after a stop, else why it failed.
func (a *Activator) Serve(ctx context.Context, listener net.Listener) error {
	return a.serve(ctx, listener, a.ServeHTTP)
}

// ServeHosts does the same for callers who are not led here by an Envoy: what they
// say of the service in headers counts for nothing, and named tells which service
// they may call by the host that they ask for. Other hosts are refused as
// UnknownService, and no request is moved.
func (a *Activator) ServeHosts(ctx context.Context, listener net.Listener, named func(host string) (polder.ServiceName, bool)) error {
	return a.serve(ctx, listener, func(w http.ResponseWriter, r *http.Request) {
		dropOurs(r.Header)
		if service, ok := named(r.Host); ok {
			r.Header.Set(serviceHeader, string(service))
		}
		a.answer(w, r, true)
	})
}

func (a *Activator) serve(ctx context.Context, listener net.Listener, handle http.HandlerFunc) error {
	callers, err := newHangups()
	if err != nil {
		listener.Close()
		return err
	}
	base, cut := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cut(nil)
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	var present crowd
	server := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			present.enter()
			defer present.leave()
			handle(w, r)
		}),
		Protocols:         protocols,
		ReadHeaderTimeout: headerLimit,
		MaxHeaderBytes:    maxHeader,
		// "OPTIONS *" is the instance's to answer.
		DisableGeneralOptionsHandler: true,
		BaseContext:                  func(net.Listener) context.Context { return base },
		ConnContext: func(ctx context.Context, conn net.Conn) context.Context {
			p := new(peer)
			if err := callers.watch(conn, p); err != nil {
				a.options.Log.Warn("callers that leave are noticed late", "error", err)
			}
			return context.WithValue(ctx, peerKey{}, p)
		},
		ConnState: func(conn net.Conn, state http.ConnState) {
			if state == http.StateClosed || state == http.StateHijacked {
				callers.forget(conn)
			}
		},
		ErrorLog: a.quiet,
	}

	// Not http.HTTP2Config: its connection window ends at 4 MiB.
	if err := http2.ConfigureServer(server, &http2.Server{
		MaxConcurrentStreams:         maxStreams,
		MaxUploadBufferPerStream:     int32(receiveWindow),
		MaxUploadBufferPerConnection: maxStreams * int32(receiveWindow),
	}); err != nil {
		return errors.Join(err, listener.Close(), callers.close())
	}

	var owned sync.WaitGroup
	owned.Go(callers.run)
	failed := make(chan error, 1)
	owned.Go(func() { failed <- server.Serve(listener) })

	select {
	case err = <-failed:
		err = fmt.Errorf("accepting held requests on %s: %w", listener.Addr(), err)
	case <-ctx.Done():
	}
	limit := a.options.Limits.Stop
	if errors.Is(context.Cause(ctx), ErrHandOver) {
		limit = min(limit, handOverLimit)
	}
	stopped := a.stop(server, &present, cut, limit)
	if e := callers.close(); e != nil {
		err = errors.Join(err, e)
	}
	owned.Wait()
	return errors.Join(err, stopped)
}

// stop ends the server's requests, gently at first.
func (a *Activator) stop(server *http.Server, present *crowd, cut context.CancelCauseFunc, limit time.Duration) error {
	gentle, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	// Shutdown does not know of connections that were taken over; present does.
	if server.Shutdown(gentle) == nil && present.gone(gentle) {
		return nil
	}
	a.options.Log.Warn("requests did not end in time and are cut off", "region", a.options.Region,
		"requests", present.size(), "limit", limit)
	cut(errStopping)
	hard, cancel := context.WithTimeout(context.Background(), cutLimit)
	defer cancel()
	gone := present.gone(hard)
	server.Shutdown(hard) // lets refusals arrive: closing at once would reset callers that still send a body
	server.Close()
	if !gone {
		return fmt.Errorf("%d requests do not end: Wake must return when its context ends", present.size())
	}
	return nil
}

// crowd counts who is inside and tells when nobody is.
type crowd struct {
	mu    sync.Mutex
	n     int
	empty chan struct{} // closed when n is 0 again; nil unless somebody waits
}

func (c *crowd) enter() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n++
}

func (c *crowd) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n--
	if c.n == 0 && c.empty != nil {
		close(c.empty)
		c.empty = nil
	}
}

func (c *crowd) size() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n
}

// gone waits until nobody is inside, or reports false when ctx ends before.
func (c *crowd) gone(ctx context.Context) bool {
	c.mu.Lock()
	if c.n == 0 {
		c.mu.Unlock()
		return true
	}
	if c.empty == nil {
		c.empty = make(chan struct{})
	}
	empty := c.empty
	c.mu.Unlock()
	select {
	case <-empty:
		return true
	case <-ctx.Done():
		return false
	}
}
