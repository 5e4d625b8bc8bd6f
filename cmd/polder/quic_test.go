package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/quic-go/quic-go/http3"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/protobuf/proto"

	"github.com/polder/polder/gateway"
)

// TestEventsOverQUICOutlivePolder: server-sent events that woke their service over
// HTTP/3 are not the activator's for life, and go on when Polder is killed.
func TestEventsOverQUICOutlivePolder(t *testing.T) {
	u := startUp(t, kinds)
	caller := u.callOverQUIC(t, "flow.example.com")
	events := caller.ask(t, http.MethodGet, "/events", http.Header{"Accept": {"text/event-stream"}}, nil)
	defer events.Body.Close()
	u.wantMoved(t, "flow")

	before := u.mustStatus("fr").PID
	u.kill(before)
	u.wantGone(map[int]string{before: "region fr"})
	caller.ask(t, http.MethodPost, "/say", nil, strings.NewReader("nobody is here")).Body.Close()
	lines := bufio.NewScanner(events.Body)
	for !strings.Contains(lines.Text(), "data: nobody is here") {
		if !lines.Scan() {
			t.Fatalf("the events ended with Polder: %v", lines.Err())
		}
	}
	eventually(t, "region fr is back", func() bool { s, err := u.status("fr"); return err == nil && s.PID != before && s.Serving() })
}

// TestUploadsOverQUICMoveWhole sends gRPC as fast as it can while its service starts
// and while the stream moves, again and again on one connection, whose window grows:
// all of it arrives, once.
func TestUploadsOverQUICMoveWhole(t *testing.T) {
	u := startUp(t, kinds)
	caller := u.callOverQUIC(t, "pour.example.com")
	const messages, size = 300, 16 << 10
	message, err := proto.Marshal(&testgrpc.StreamingInputCallRequest{Payload: &testgrpc.Payload{Body: bytes.Repeat([]byte("0123456789abcdef"), size/16)}})
	if err != nil {
		t.Fatal(err)
	}
	frames := bytes.Repeat(append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message))), message...), messages) // not compressed, length, message
	for round := range 8 {
		u.asleep("pour")
		upload := caller.ask(t, http.MethodPost, "/grpc.testing.TestService/StreamingInputCall",
			http.Header{"Content-Type": {"application/grpc"}, "Te": {"trailers"}}, bytes.NewReader(frames))
		answer, err := io.ReadAll(upload.Body)
		upload.Body.Close()
		if err != nil || len(answer) < 5 {
			t.Fatalf("round %d: answered with %q, %v, %v", round, answer, err, upload.Trailer)
		}
		var arrived testgrpc.StreamingInputCallResponse
		if err := proto.Unmarshal(answer[5:], &arrived); err != nil || arrived.AggregatedPayloadSize != messages*size {
			t.Errorf("round %d: %d of %d bytes arrived, %v", round, arrived.AggregatedPayloadSize, messages*size, err)
		}
		if status := upload.Trailer.Get("Grpc-Status"); status != "0" {
			t.Errorf("round %d: grpc-status %q %s", round, status, upload.Trailer.Get("Grpc-Message"))
		}
	}
	if !slices.ContainsFunc(u.why(t, "pour").Requests, func(r gateway.ColdRequest) bool { return r.Moved }) {
		t.Error("none has moved")
	}
}

// quicCaller asks one host over one connection.
type quicCaller struct {
	host string
	conn *http3.ClientConn
}

// callOverQUIC makes a connection to the entrypoint of fr, which ends with the test.
func (u *fleetUnderTest) callOverQUIC(t *testing.T, host string) quicCaller {
	t.Helper()
	conn := u.quic(t, &tls.Config{RootCAs: u.roots, ServerName: host, NextProtos: []string{http3.NextProtoH3}})
	transport := &http3.Transport{}
	t.Cleanup(func() {
		transport.Close()
		conn.CloseWithError(0, "")
	})
	return quicCaller{host, transport.NewClientConn(conn)}
}

// ask sends a request. Its answer must say that all is well.
func (c quicCaller) ask(t *testing.T, method, path string, header http.Header, body io.Reader) *http.Response {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	t.Cleanup(cancel)
	request, err := http.NewRequestWithContext(ctx, method, "https://"+c.host+path, body)
	if err != nil {
		t.Fatal(err)
	}
	if header != nil {
		request.Header = header
	}
	response, err := c.conn.RoundTrip(request)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("%s: got %v, %v", path, response, err)
	}
	return response
}
