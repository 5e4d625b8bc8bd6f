package activator_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway/activator"
)

// protocols runs a test for both protocols that Envoy and instances speak.
func protocols(t *testing.T, test func(t *testing.T, p polder.Protocol)) {
	for _, p := range []polder.Protocol{polder.HTTP1, polder.HTTP2} {
		t.Run(string(p), func(t *testing.T) { test(t, p) })
	}
}

// seen is what an instance saw of a request.
type seen struct {
	method, uri, host string
	header            http.Header
	length            int64
}

func watching(got chan<- seen) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got <- seen{r.Method, r.RequestURI, r.Host, r.Header.Clone(), r.ContentLength}
		io.WriteString(w, "hello")
	})
}

func TestHeldRequestIsForwardedOnceAnInstanceIsReady(t *testing.T) {
	protocols(t, func(t *testing.T, p polder.Protocol) {
		got, w := make(chan seen, 1), newWakes()
		to := instance(t, p, watching(got))
		r := newRig(t, options(w.wake))
		answer := start(r.client(p), newRequest(t, t.Context(), "GET", "/a?b=c", nil))
		asked := w.next(t)
		if asked.service != "svc" || asked.cause != (activator.Cause{Kind: activator.CauseRequest, Request: "req-1"}) {
			t.Errorf("Wake was asked for %s because of %+v", asked.service, asked.cause)
		}
		if s := r.stats("svc"); s.Held != 1 || s.Requests != 1 || s.Forwarded != 0 {
			t.Errorf("while it is held: %+v", s)
		}
		asked.succeed(to)
		receive(t, answer, "the answer").ok(t, "hello")
		if s := receive(t, got, "the request"); s.method != "GET" || s.uri != "/a?b=c" || s.host != "svc.example.com" {
			t.Errorf("the instance saw %+v", s)
		}
		r.idle()
		if s := r.stats("svc"); s.Cold != 1 || s.Late != 0 || len(s.Failed) != 0 {
			t.Errorf("afterwards: %+v", s)
		}
	})
}

func TestInstanceSeesWhatEnvoySent(t *testing.T) {
	protocols(t, func(t *testing.T, p polder.Protocol) {
		got := make(chan seen, 1)
		r := newRig(t, options(at(instance(t, p, watching(got)))))
		request := newRequest(t, t.Context(), "GET", "/", nil)
		request.Header = http.Header{
			"X-Polder-Service":  {"svc"},
			"X-Polder-Anything": {"secret"},
			"X_polder_service":  {"other"},
			"X-Polderish":       {"kept"},
			"X-Forwarded-For":   {"198.51.100.1", "203.0.113.2"},
			"X-Forwarded-Proto": {"https"},
			"X-Forwarded-Host":  {"a.example"},
			"Forwarded":         {"for=198.51.100.1"},
			"X-Request-Id":      {"req-1"},
			"Traceparent":       {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
			"Cookie":            {"a=b; c=d"},
			"Te":                {"trailers"},
			"User-Agent":        {"curl/8"},
		}
		want := maps.Clone(request.Header)
		for _, name := range []string{"X-Polder-Service", "X-Polder-Anything", "X_polder_service"} {
			delete(want, name)
		}
		send(r.client(p), request).ok(t, "hello")
		s := receive(t, got, "the request")
		if !maps.EqualFunc(s.header, want, slices.Equal) {
			t.Errorf("the instance saw\n%v\nwant\n%v", s.header, want)
		}
	})
}

func TestRequestTargetArrivesByteForByte(t *testing.T) {
	got := make(chan seen, 1)
	r := newRig(t, options(at(instance(t, polder.HTTP1, watching(got)))))
	for _, uri := range []string{
		"/", "/a/b", "/a%2Fb", "/%61", "/a%20b", "/a|b", "/a{b}", `/a"b`, "//double//slash", "/a/../b", "/a;b=c", "/ü",
		"/?", "/?a=1&a=2;b=3", "/?a=%zz", "/?q=a+b%20c", "/?" + strings.Repeat("a=1&", 2000) + "z", "/a#b", "*",
	} {
		conn := r.dial()
		method := "GET"
		if uri == "*" {
			method = "OPTIONS"
		}
		fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: h\r\nX-Polder-Service: svc\r\nConnection: close\r\n\r\n", method, uri)
		response, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		if response.StatusCode != http.StatusOK {
			t.Errorf("%s: %s", uri, response.Status)
			continue
		}
		if s := receive(t, got, "the request"); s.uri != uri {
			t.Errorf("the instance saw %q, want %q", s.uri, uri)
		}
		conn.Close()
	}
}

func TestAnswerArrivesUnchanged(t *testing.T) {
	protocols(t, func(t *testing.T, p polder.Protocol) {
		r := newRig(t, options(at(instance(t, p, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			h := w.Header()
			h["Content-Type"] = nil // nothing is said, nothing must be guessed
			h["Set-Cookie"] = []string{"a=1", "b=2"}
			h.Set("Content-Length", "5")
			h.Set("X-Polder-Said-By-The-Instance", "kept")
			h.Set("Date", "Thu, 01 Jan 1970 00:00:00 GMT")
			w.WriteHeader(http.StatusEarlyHints)
			w.WriteHeader(http.StatusTeapot)
			io.WriteString(w, "<h1>!")
		})))))
		got := send(r.client(p), newRequest(t, t.Context(), "GET", "/", nil))
		if got.err != nil || got.StatusCode != http.StatusTeapot || got.text != "<h1>!" || got.ContentLength != 5 {
			t.Fatalf("got %+v", got)
		}
		want := http.Header{
			"Set-Cookie":                    {"a=1", "b=2"},
			"Content-Length":                {"5"},
			"X-Polder-Said-By-The-Instance": {"kept"},
			"Date":                          {"Thu, 01 Jan 1970 00:00:00 GMT"},
		}
		if !maps.EqualFunc(got.Header, want, slices.Equal) {
			t.Errorf("got\n%v\nwant\n%v", got.Header, want)
		}
	})
}

// echo sends everything back while it arrives, and trailers at the end.
var echo = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	control := http.NewResponseController(w)
	if r.ProtoMajor == 1 {
		control.EnableFullDuplex()
	}
	w.Header().Set("Trailer", "X-Echo-Sum")
	block, total := make([]byte, 16<<10), 0
	for {
		n, err := r.Body.Read(block)
		total += n
		w.Write(block[:n])
		control.Flush()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			panic(http.ErrAbortHandler)
		}
	}
	w.Header().Set("X-Echo-Sum", fmt.Sprint(total, r.Trailer))
})

func TestLargeBodies(t *testing.T) {
	protocols(t, func(t *testing.T, p polder.Protocol) {
		r := newRig(t, options(at(instance(t, p, echo))))
		large := bytes.Repeat([]byte("0123456789abcdef"), 512<<10) // 8 MiB, past every window and buffer
		for name, body := range map[string]io.Reader{
			"with a length": bytes.NewReader(large),
			"chunked":       io.MultiReader(bytes.NewReader(large)),
		} {
			got := send(r.client(p), newRequest(t, t.Context(), "POST", "/", body))
			if got.err != nil || got.text != string(large) {
				t.Errorf("%s: %d bytes of %d came back: %v", name, len(got.text), len(large), got.err)
			}
		}
		r.idle()
	})
}

func TestSlowBodyStreamsBothWaysAfterBeingHeld(t *testing.T) {
	protocols(t, func(t *testing.T, p polder.Protocol) {
		w := newWakes()
		r := newRig(t, options(w.wake))
		reader, writer := io.Pipe()
		defer writer.Close()
		request := newRequest(t, t.Context(), "POST", "/", reader)
		request.Trailer = http.Header{"X-Sum": nil, "X-Polder-Trick": nil}
		got := make(chan *http.Response, 1)
		go func() {
			response, err := r.client(p).Do(request)
			if err != nil {
				t.Error(err)
			}
			got <- response
		}()
		asked := w.next(t)
		io.WriteString(writer, "while it is held\n")
		asked.succeed(instance(t, p, echo))
		response := receive(t, got, "the header of the answer")
		if response == nil {
			return
		}
		defer response.Body.Close()
		lines := bufio.NewReader(response.Body)
		for _, next := range []string{"one\n", "two\n", ""} {
			line, err := lines.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			if next == "one\n" && line != "while it is held\n" {
				t.Errorf("first line %q", line)
			}
			io.WriteString(writer, next)
		}
		request.Trailer.Set("X-Sum", "7")
		request.Trailer.Set("X-Polder-Trick", "7")
		writer.Close()
		if rest, err := io.ReadAll(lines); err != nil || len(rest) > 0 {
			t.Errorf("at the end: %q, %v", rest, err)
		}
		if sum, want := response.Trailer.Get("X-Echo-Sum"), "25 map[X-Sum:[7]]"; sum != want {
			t.Errorf("trailers %q, want %q", sum, want)
		}
	})
}

func TestServerSentEventsArriveAtOnce(t *testing.T) {
	protocols(t, func(t *testing.T, p polder.Protocol) {
		more := make(chan string)
		r := newRig(t, options(at(instance(t, p, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			http.NewResponseController(w).Flush()
			for text := range more {
				fmt.Fprintf(w, "data: %s\n\n", text)
				http.NewResponseController(w).Flush()
			}
		})))))
		response, err := r.client(p).Do(newRequest(t, t.Context(), "GET", "/", nil)) // returns before the first event
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		lines := bufio.NewReader(response.Body)
		for i := range 3 {
			more <- fmt.Sprint(i)
			if line, err := lines.ReadString('\n'); line != fmt.Sprintf("data: %d\n", i) {
				t.Fatalf("got %q, %v", line, err)
			}
			lines.ReadString('\n')
		}
		close(more)
		if _, err := io.ReadAll(lines); err != nil {
			t.Error(err)
		}
		r.idle()
	})
}

func TestAThousandCallersOfOneSleeper(t *testing.T) {
	protocols(t, func(t *testing.T, p polder.Protocol) {
		const callers = 1000
		ready := make(chan struct{})
		to := instance(t, p, echo)
		w := func(ctx context.Context, _ polder.ServiceName, _ activator.Cause) (activator.Target, error) {
			select {
			case <-ready:
				return to, nil
			case <-ctx.Done():
				return activator.Target{}, ctx.Err()
			}
		}
		r := newRig(t, options(w))
		client := r.connected(p)
		answers := make([]<-chan result, callers)
		for i := range answers {
			answers[i] = start(client, newRequest(t, t.Context(), "POST", "/", strings.NewReader(fmt.Sprint("caller ", i))))
		}
		eventually(t, "all are held", func() bool { return r.stats("svc").Held == callers })
		close(ready)
		for i, answer := range answers {
			receive(t, answer, "an answer").ok(t, fmt.Sprint("caller ", i))
		}
		r.idle()
		if s := r.stats("svc"); s.Cold != callers || len(s.Failed) != 0 {
			t.Errorf("counted %+v\n%s", s, r.log)
		}
		if got := len(r.ColdRequests()); got != activator.DefaultRemember {
			t.Errorf("the ledger keeps %d requests", got)
		}
	})
}

// sips is a body that is read in small pieces, so that what was read of it was
// also sent, but for the last piece.
type sips struct {
	from io.Reader
	read *atomic.Int64 // bytes
}

func (s sips) Read(p []byte) (int, error) {
	n, err := s.from.Read(p[:min(len(p), 1024)])
	s.read.Add(int64(n))
	return n, err
}

// An Envoy opens one HTTP/2 connection for many requests of a service. Were
// the connection's window smaller than what held requests may fill of it, they
// would stop the ones that have an instance.
func TestHeldUploadsDoNotBlockForwardedOnesOnTheSameConnection(t *testing.T) {
	w := newWakes()
	r := newRig(t, options(w.wake))
	client := r.connected(polder.HTTP2)
	to := instance(t, polder.HTTP2, echo)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	const held, window = 249, 64 << 10 // together far more than a usual connection takes
	large := bytes.Repeat([]byte("x"), 1<<20)
	var answers []<-chan result
	var sent atomic.Int64
	for range held {
		body := sips{bytes.NewReader(large), &sent}
		answers = append(answers, start(client, newRequest(t, ctx, "POST", "/", body)))
	}
	for range held {
		w.next(t)
	}
	eventually(t, "each held upload has filled its window", func() bool { return sent.Load() >= held*window })
	last := start(client, newRequest(t, t.Context(), "POST", "/", bytes.NewReader(large)))
	w.next(t).succeed(to)
	receive(t, last, "the upload that has an instance").ok(t, string(large))
	cancel()
	for _, answer := range answers {
		receive(t, answer, "the end of a held upload")
	}
	r.idle()
}
