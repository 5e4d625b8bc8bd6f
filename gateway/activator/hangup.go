package activator

import (
	"context"
	"net/http"
	"sync"
)

// peer is the caller's end of an HTTP/1 connection. net/http notices that it
// left only once a request's body has been read, and held bodies are not read:
// so the kernel is asked.
type peer struct {
	mu     sync.Mutex
	gone   bool
	cancel func() // ends the request in progress; nil when there is none
}

type peerKey struct{}

// onHangup calls cancel when the request's caller leaves, until the returned
// function is called.
func onHangup(r *http.Request, cancel context.CancelFunc) func() {
	p, ok := r.Context().Value(peerKey{}).(*peer)
	if !ok || r.ProtoMajor != 1 {
		return func() {}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gone {
		cancel()
	}
	p.cancel = cancel
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.cancel = nil
	}
}

// left is called when the other end has closed.
func (p *peer) left() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gone = true
	if p.cancel != nil {
		p.cancel()
	}
}
