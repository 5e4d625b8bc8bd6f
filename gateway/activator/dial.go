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
	dialLimit   = 3 * time.Second  // for one target, all tries together
	window      = 256 << 10        // bytes of an HTTP/2 answer that wait here for a slow caller
	maxAnswer   = 256 << 10        // bytes of an answer's header
)

// dialer connects to instances, one connection per request: a connection that
// was never idle cannot have died unnoticed while it was.
type dialer struct {
	http1 *http.Transport
	http2 *http.Transport
}

func newDialer() *dialer {
	of := func(set func(*http.Protocols, bool)) *http.Transport {
		protocols := new(http.Protocols)
		set(protocols, true)
		return &http.Transport{
			DialContext:            (&net.Dialer{}).DialContext,
			Protocols:              protocols,
			DisableCompression:     true, // pass on what is asked for and what is answered
			MaxResponseHeaderBytes: maxAnswer,
			HTTP2:                  &http.HTTP2Config{MaxReceiveBufferPerConnection: window, MaxReceiveBufferPerStream: window},
		}
	}
	return &dialer{http1: of((*http.Protocols).SetHTTP1), http2: of((*http.Protocols).SetUnencryptedHTTP2)}
}

// dial connects, trying again for some 15 ms while the connection is refused.
func (d *dialer) dial(ctx context.Context, target Target) (*http.ClientConn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialLimit)
	defer cancel()
	transport := d.http1
	if target.Protocol == polder.HTTP2 {
		transport = d.http2
	}
	pause := backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(dialFirst), backoff.WithMultiplier(2), backoff.WithRandomizationFactor(0))
	conn, err := backoff.RetryWithData(func() (*http.ClientConn, error) {
		return transport.NewClientConn(ctx, "http", target.Address.String())
	}, backoff.WithContext(backoff.WithMaxRetries(pause, dialRetries), ctx))
	if err != nil {
		return nil, fmt.Errorf("instance %q does not accept connections at %s: %w", target.Instance, target.Address, err)
	}
	return conn, nil
}
