package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v4"
	"golang.org/x/sys/unix"

	"github.com/polder/polder"
)

// probe is how to find out that an instance is ready.
type probe struct {
	Address  netip.AddrPort  `json:"address"`
	Path     string          `json:"path,omitempty"` // "" means that listening suffices
	Host     string          `json:"host,omitempty"` // for the Host header: some programs refuse names they do not know
	Protocol polder.Protocol `json:"protocol,omitempty"`
}

func newProbe(address netip.AddrPort, s polder.Service) probe {
	p := probe{Address: address, Path: s.Run.Ready, Protocol: s.Protocol}
	for _, host := range s.Hosts {
		if !strings.HasPrefix(string(host), "*") {
			p.Host = string(host)
			break
		}
	}
	return p
}

// answerWithin bounds one request of the readiness path. It is long, because a
// program's first answer may be slow and asking again would not help it.
const answerWithin = 5 * time.Second

// lookPart and askPart are the parts of a start by which its end may be noticed
// late: a connection costs next to nothing, a question for the readiness path is
// work for a program that has something else to do.
const (
	lookPart = 1000
	askPart  = 40
)

// await returns when the instance is ready, and when it was first seen to
// listen. queue is the listening socket that it inherited, or nil; awaited counts
// the instances that are awaited at the same time.
func (p probe) await(ctx context.Context, queue *os.File, awaited *atomic.Int64) (listening time.Time, err error) {
	awaited.Add(1)
	defer awaited.Add(-1)
	look := &pace{part: lookPart, awaited: awaited}
	if queue != nil {
		err = p.accepted(ctx, queue, look)
	} else {
		err = p.connected(ctx, look)
	}
	if err != nil {
		return time.Time{}, err
	}
	listening = time.Now()
	if p.Path == "" {
		return listening, nil
	}
	return listening, p.answered(ctx, &pace{part: askPart, awaited: awaited})
}

// connected waits until a TCP connection is accepted.
func (p probe) connected(ctx context.Context, pace *pace) error {
	if err := retry(ctx, pace, func() error { return p.dial(ctx) }); err != nil {
		return fmt.Errorf("it does not listen on %s, as PORT told it to: %w", p.Address, err)
	}
	return nil
}

func (p probe) dial(ctx context.Context) error {
	dialer := net.Dialer{Timeout: answerWithin}
	conn, err := dialer.DialContext(ctx, "tcp4", p.Address.String())
	if err != nil {
		return err
	}
	defer conn.Close()
	if conn.LocalAddr().String() == p.Address.String() {
		return errors.New("the connection met itself") // TCP's simultaneous open: nobody listens
	}
	return nil
}

// accepted waits until the program takes connections out of the inherited
// socket's queue: until ours has left it or, while callers go on joining it,
// until it gets shorter. The kernel completes connections without the program,
// so that being connected would say nothing.
func (p probe) accepted(ctx context.Context, queue *os.File, pace *pace) error {
	dialer := net.Dialer{Timeout: answerWithin}
	conn, err := dialer.DialContext(ctx, "tcp4", p.Address.String())
	if err != nil {
		return fmt.Errorf("connect to its listening socket %s: %w", p.Address, err)
	}
	defer conn.Close()
	longest := uint32(0)
	err = retry(ctx, pace, func() error {
		waiting, err := queued(queue)
		if err != nil {
			return backoff.Permanent(err)
		}
		longest = max(longest, waiting)
		if waiting > 0 && waiting == longest {
			return fmt.Errorf("%d connections wait in its queue", waiting)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("it does not accept connections from file descriptor 3, as LISTEN_FDS told it to: %w", err)
	}
	return nil
}

// queued is the length of a listening socket's accept queue (tcp(7): for a
// listening socket, tcpi_unacked counts it).
func queued(socket *os.File) (n uint32, err error) {
	conn, err := socket.SyscallConn()
	if err != nil {
		return 0, err
	}
	var failed error
	err = conn.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		if err != nil {
			failed = err
			return
		}
		n = info.Unacked
	})
	return n, errors.Join(err, failed)
}

// answered waits until the readiness path answers with 2xx.
func (p probe) answered(ctx context.Context, pace *pace) error {
	transport := &http.Transport{DisableKeepAlives: true, Protocols: new(http.Protocols)}
	transport.Protocols.SetHTTP1(p.Protocol != polder.HTTP2)
	transport.Protocols.SetUnencryptedHTTP2(p.Protocol == polder.HTTP2)
	defer transport.CloseIdleConnections()
	client := http.Client{
		Transport:     transport,
		Timeout:       answerWithin,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	err := retry(ctx, pace, func() error { return p.ask(ctx, &client) })
	if err != nil {
		return fmt.Errorf("it listens on %s but its readiness path does not answer 2xx: %w", p.Address, err)
	}
	return nil
}

func (p probe) ask(ctx context.Context, client *http.Client) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.Address.String()+p.Path, nil)
	if err != nil {
		return backoff.Permanent(err)
	}
	request.Host = p.Host
	request.Header.Set("User-Agent", "polder-ready")
	answer, err := client.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(answer.Body, 64<<10))
	if answer.StatusCode/100 != 2 {
		return fmt.Errorf("GET %s: %s", p.Path, answer.Status)
	}
	return nil
}

// retry tries until it succeeds or ctx ends; then the last failure is told,
// with ctx's.
func retry(ctx context.Context, pace *pace, try func() error) error {
	var last error
	err := backoff.Retry(func() error {
		err := try()
		// What fails at the end may fail because of the end.
		if deadline, ok := ctx.Deadline(); err != nil && ctx.Err() == nil && (!ok || time.Now().Before(deadline)) {
			last = err
		}
		return err
	}, backoff.WithContext(pace, ctx))
	if err != nil && ctx.Err() != nil && last != nil {
		return fmt.Errorf("%w (last: %w)", ctx.Err(), last)
	}
	return err
}
