package convergence

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/polder/polder/xds"
)

const (
	// pace is the pause of a caller after each answer.
	pace = 500 * time.Microsecond
	// effectLimit bounds the wait for the effect of one change.
	effectLimit = 30 * time.Second
	// answerLimit bounds the wait for one answer.
	answerLimit = 10 * time.Second
	// connectionTries bounds the connections made to reach every worker.
	connectionTries = 256
)

// callers call one entrypoint.
type callers struct {
	entrypoint netip.AddrPort
	encrypted  bool
	workers    int
	envoy      *process
}

// connection is one kept connection of a caller.
type connection struct {
	wire   net.Conn
	reader *bufio.Reader
	host   string
}

func (c callers) connect(ctx context.Context, host string) (*connection, error) {
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	wire, err := new(net.Dialer).DialContext(ctx, "tcp", c.entrypoint.String())
	if err != nil {
		return nil, err
	}
	if c.encrypted {
		// What is measured is when a host is served, not by which certificate.
		secure := tls.Client(wire, &tls.Config{ServerName: host, InsecureSkipVerify: true})
		if err := secure.HandshakeContext(ctx); err != nil {
			wire.Close()
			return nil, err
		}
		wire = secure
	}
	return &connection{wire: wire, reader: bufio.NewReader(wire), host: host}, nil
}

// ask sends one request and tells "ORIGIN SERVICE", or the status if it is not 200.
func (c *connection) ask() (string, error) {
	c.wire.SetDeadline(time.Now().Add(answerLimit)) //nolint:errcheck // then the next line fails
	if _, err := io.WriteString(c.wire, "GET / HTTP/1.1\r\nhost: "+c.host+"\r\n\r\n"); err != nil {
		return "", err
	}
	response, err := http.ReadResponse(c.reader, nil)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if response.StatusCode != http.StatusOK {
		return response.Status, err
	}
	return string(body), err
}

// everyWorker opens a connection for the host to each worker of Envoy.
func (c callers) everyWorker(ctx context.Context, host string) ([]*connection, error) {
	found := make([]*connection, c.workers)
	missing := c.workers
	before, err := c.envoy.connections(ctx, c.workers, c.entrypoint.Port())
	if err != nil {
		return nil, err
	}
	for range connectionTries {
		opened, err := c.connect(ctx, host)
		if err != nil {
			closeAll(found)
			return nil, fmt.Errorf("call %s: %w", host, err)
		}
		after, err := c.envoy.connections(ctx, c.workers, c.entrypoint.Port())
		if err != nil {
			closeAll(append(found, opened))
			return nil, err
		}
		kept := false
		for worker := range after {
			if after[worker] > before[worker] && found[worker] == nil {
				found[worker], kept = opened, true
				missing--
				break
			}
		}
		if missing == 0 {
			return found, nil
		}
		if kept {
			before = after
		} else {
			opened.wire.Close()
		}
	}
	closeAll(found)
	return nil, fmt.Errorf("%d connections reached not every of Envoy's %d workers", connectionTries, c.workers)
}

func closeAll(connections []*connection) {
	for _, c := range connections {
		if c != nil {
			c.wire.Close()
		}
	}
}

// watch asks on every connection until each got the wanted answer, and tells
// when the last did. It closes begun when every connection got a first answer.
func watch(ctx context.Context, connections []*connection, want string, begun func()) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, effectLimit)
	defer cancel()
	var (
		group errgroup.Group
		first sync.WaitGroup
		seen  = make([]time.Time, len(connections))
	)
	first.Add(len(connections))
	for i, c := range connections {
		group.Go(func() error {
			answered := sync.OnceFunc(first.Done)
			defer answered()
			for {
				got, err := c.ask()
				if err != nil {
					return fmt.Errorf("call %s: %w", c.host, err)
				}
				answered()
				if got == want {
					seen[i] = time.Now()
					return nil
				}
				select {
				case <-time.After(pace):
				case <-ctx.Done():
					return fmt.Errorf("call %s: want %q, and still get %q: %w", c.host, want, got, ctx.Err())
				}
			}
		})
	}
	first.Wait()
	begun()
	if err := group.Wait(); err != nil {
		return time.Time{}, err
	}
	last := seen[0]
	for _, at := range seen {
		if at.After(last) {
			last = at
		}
	}
	return last, nil
}

// appears opens connections for a host until enough in a row got the wanted
// answer, or error in so many words, and tells when the first of these did.
func (c callers) appears(ctx context.Context, host, want string) (time.Time, error) {
	const enough = 4
	ctx, cancel := context.WithTimeout(ctx, effectLimit)
	defer cancel()
	var since time.Time
	for row := 0; row < enough; {
		got, err := c.once(ctx, host)
		if err != nil {
			got = err.Error()
		}
		if got == want {
			if row++; row == 1 {
				since = time.Now()
			}
			continue
		}
		row = 0
		select {
		case <-time.After(pace):
		case <-ctx.Done():
			return time.Time{}, fmt.Errorf("call %s: want %q, and still get %q", host, want, got)
		}
	}
	return since, nil
}

func (c callers) once(ctx context.Context, host string) (string, error) {
	opened, err := c.connect(ctx, host)
	if err != nil {
		return "", err
	}
	defer opened.wire.Close()
	return opened.ask()
}

// serveOrigin answers every request with its name and the service that the
// gateway says it is for, until ctx ends.
func serveOrigin(ctx context.Context, l net.Listener, name string) error {
	origin := &http.Server{ReadHeaderTimeout: answerLimit, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, strings.Join([]string{name, r.Header.Get(xds.HeaderService)}, " ")) //nolint:errcheck // the caller sees it
	})}
	defer context.AfterFunc(ctx, func() { origin.Close() })()
	if err := origin.Serve(l); ctx.Err() == nil {
		return fmt.Errorf("origin %s: %w", name, err)
	}
	return nil
}
