package envoy

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// upstream is a server whose requests a test holds and answers.
type upstream struct {
	*httptest.Server
	held chan chan string // for each request, where its answer is taken from
}

func newUpstream(t *testing.T) *upstream {
	u := &upstream{held: make(chan chan string)}
	u.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		answer := make(chan string, 1)
		select {
		case u.held <- answer:
		case <-request.Context().Done():
			return
		}
		select {
		case text := <-answer:
			io.WriteString(w, text)
		case <-request.Context().Done():
		}
	}))
	t.Cleanup(u.Close)
	return u
}

func (u *upstream) Addr() net.Addr { return u.Listener.Addr() }

// held is a request that has reached the upstream and has no answer yet.
type held struct {
	release chan<- string
	done    chan struct{}
	body    string
	err     error
}

// hold makes a request, and returns when it has reached the upstream.
func (p *place) hold(u *upstream) *held {
	p.t.Helper()
	h := &held{done: make(chan struct{})}
	go func() {
		defer close(h.done)
		h.body, h.err = get(p.url())
	}()
	select {
	case h.release = <-u.held:
	case <-h.done:
		p.t.Fatalf("the request ended: %q, %v", h.body, h.err)
	case <-time.After(patience):
		p.t.Fatal("the request does not reach the upstream")
	}
	return h
}

func (h *held) result() (string, error) {
	<-h.done
	return h.body, h.err
}

// ask makes a request, to which the upstream, if it is reached, gives the answer.
func (p *place) ask(u *upstream, answer string) (string, error) {
	h := &held{done: make(chan struct{})}
	go func() {
		defer close(h.done)
		h.body, h.err = get(p.url())
	}()
	select {
	case release := <-u.held:
		release <- answer
	case <-h.done:
	}
	return h.result()
}
