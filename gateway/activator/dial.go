package activator

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/polder/polder"
)

const (
	dialRetries = 4                // after the first try, 1+2+4+8 ms apart
	dialFirst   = time.Millisecond // before the first retry
	dialLimit   = 10 * time.Second // for one target, all tries together
	maxAnswer   = 256 << 10        // bytes of an answer's header
)

// link is one request's way to an instance: connected, and nothing was sent.
type link interface {
	http.RoundTripper

	// watch makes the end of the connection, or of ctx, interrupt the upload,
	// which may be nil, until the returned function is called.
	watch(ctx context.Context, u *upload) (stop func())

	Close() error
}

// dialer connects to instances. No connection stays open without a request on
// it: one that was never idle cannot have died unnoticed while it was.
type dialer struct {
	http1 *http.Transport
	http2 *pool
}

func newDialer() (*dialer, error) {
	shared, err := newPool()
	if err != nil {
		return nil, err
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &dialer{
		http1: &http.Transport{
			DialContext:            new(net.Dialer).DialContext,
			Protocols:              protocols,
			DisableCompression:     true, // pass on what is asked for and what is answered
			MaxResponseHeaderBytes: maxAnswer,
		},
		http2: shared,
	}, nil
}

// dial connects, trying again for some 15 ms while that fails.
func (d *dialer) dial(ctx context.Context, target Target) (link, error) {
	ctx, cancel := context.WithTimeout(ctx, dialLimit)
	defer cancel()
	pause := backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(dialFirst), backoff.WithMultiplier(2), backoff.WithRandomizationFactor(0))
	to, err := backoff.RetryWithData(func() (link, error) {
		if target.Protocol == polder.HTTP2 {
			return d.http2.lease(ctx, target.Address)
		}
		conn, err := d.http1.NewClientConn(ctx, "http", target.Address.String())
		if err != nil {
			return nil, err
		}
		return single{conn}, nil
	}, backoff.WithContext(backoff.WithMaxRetries(pause, dialRetries), ctx))
	if err != nil {
		return nil, fmt.Errorf("instance %q does not accept %s connections at %s: %w", target.Instance, target.Protocol, target.Address, err)
	}
	return to, nil
}

// single is an HTTP/1.1 connection of its own.
type single struct{ *http.ClientConn }

func (s single) watch(ctx context.Context, u *upload) func() {
	if u != nil {
		s.SetStateHook(func(conn *http.ClientConn) {
			if conn.Err() != nil {
				u.interrupt()
			}
		})
	}
	stop := context.AfterFunc(ctx, func() { s.Close() })
	return func() { stop() }
}
