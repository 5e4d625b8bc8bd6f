package activator_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway/activator"
)

// benchRig serves a Unix socket for a benchmark.
func benchRig(b *testing.B, wake activator.Wake) (*activator.Activator, string) {
	b.Helper()
	o := options(wake)
	o.Limits.Cold = activator.Budget{Held: 1 << 20, PerService: 1 << 20, Bytes: 1 << 40, Wait: patience * 10}
	o.Log = slog.New(slog.DiscardHandler)
	a, err := activator.New(o)
	if err != nil {
		b.Fatal(err)
	}
	socket := filepath.Join(b.TempDir(), "a.sock")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- a.Serve(ctx, listener) }()
	b.Cleanup(func() {
		stop()
		if err := <-served; err != nil {
			b.Error(err)
		}
	})
	return a, socket
}

// inUse is the memory of heap and stacks that is reachable now, in bytes.
func inUse() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

// BenchmarkHeld tells what one held request costs. The callers are bare
// sockets, so that nearly all of it is the activator's.
func BenchmarkHeld(b *testing.B) {
	const held = 1000
	body := make([]byte, 1<<20) // more than any window: what can be sent is sent
	for name, hold := range map[string]func(b *testing.B, socket string) []net.Conn{
		"http1-without-body": func(b *testing.B, socket string) []net.Conn {
			var conns []net.Conn
			for range held {
				conn, err := net.Dial("unix", socket)
				if err != nil {
					b.Fatal(err)
				}
				fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: h\r\nX-Polder-Service: svc\r\n\r\n")
				conns = append(conns, conn)
			}
			return conns
		},
		"http1-with-body": func(b *testing.B, socket string) []net.Conn {
			var conns []net.Conn
			for range held {
				conn, err := net.Dial("unix", socket)
				if err != nil {
					b.Fatal(err)
				}
				fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: h\r\nX-Polder-Service: svc\r\nContent-Length: %d\r\n\r\n", len(body))
				go conn.Write(body)
				conns = append(conns, conn)
			}
			return conns
		},
		"h2c-with-body": func(b *testing.B, socket string) []net.Conn {
			conn, err := net.Dial("unix", socket)
			if err != nil {
				b.Fatal(err)
			}
			var text bytes.Buffer
			io.WriteString(&text, http2.ClientPreface)
			framer := http2.NewFramer(&text, nil)
			framer.WriteSettings()
			var block bytes.Buffer
			encoder := hpack.NewEncoder(&block)
			for i := range uint32(held) {
				block.Reset()
				for _, f := range [][2]string{{":method", "POST"}, {":scheme", "http"}, {":authority", "h"}, {":path", "/"}, {"x-polder-service", "svc"}} {
					encoder.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
				}
				framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1 + 2*i, BlockFragment: block.Bytes(), EndHeaders: true})
			}
			go io.Copy(io.Discard, conn)
			conn.Write(text.Bytes())
			text.Reset()
			for i := range uint32(held) { // the connection's window is known to be large once the streams are accepted
				for range 3 {
					framer.WriteData(1+2*i, false, body[:16<<10])
				}
				conn.Write(text.Bytes())
				text.Reset()
			}
			return []net.Conn{conn}
		},
	} {
		b.Run(name, func(b *testing.B) {
			var perRequest float64
			for b.Loop() {
				all := make(chan struct{})
				n := make(chan struct{}, held)
				a, socket := benchRig(b, func(ctx context.Context, _ polder.ServiceName, _ activator.Cause) (activator.Target, error) {
					n <- struct{}{}
					select {
					case <-all:
					case <-ctx.Done():
					}
					return activator.Target{}, context.Canceled
				})
				before := inUse()
				conns := hold(b, socket)
				for range held {
					<-n
				}
				perRequest = float64(inUse()-before) / held
				for _, conn := range conns {
					conn.Close()
				}
				for a.Stats().Classes[0].Held > 0 {
					runtime.Gosched()
				}
			}
			b.ReportMetric(perRequest, "bytes/held")
		})
	}
}

// BenchmarkForward is the whole way through the activator with an instance at
// hand, against the way without it.
func BenchmarkForward(b *testing.B) {
	for _, p := range []polder.Protocol{polder.HTTP1, polder.HTTP2} {
		handler := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") })
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		protocols := new(http.Protocols)
		protocols.SetHTTP1(p == polder.HTTP1)
		protocols.SetUnencryptedHTTP2(p == polder.HTTP2)
		server := &http.Server{Handler: handler, Protocols: protocols}
		done := make(chan struct{})
		go func() {
			defer close(done)
			server.Serve(listener)
		}()
		to := target(listener.Addr(), p)
		to.Warm = true
		_, socket := benchRig(b, at(to))
		for name, dial := range map[string][2]string{
			"direct":    {"tcp", listener.Addr().String()},
			"activator": {"unix", socket},
		} {
			b.Run(string(p)+"/"+name, func(b *testing.B) {
				transport := &http.Transport{Protocols: protocols, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
					return new(net.Dialer).DialContext(ctx, dial[0], dial[1])
				}}
				defer transport.CloseIdleConnections()
				client := &http.Client{Transport: transport}
				b.ReportAllocs()
				for b.Loop() {
					if g := send(client, newRequest(b, context.Background(), "GET", "/", nil)); g.err != nil || g.StatusCode != 200 {
						b.Fatalf("%+v", g)
					}
				}
			})
		}
		server.Close()
		<-done
	}
}
