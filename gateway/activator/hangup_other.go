//go:build !linux

package activator

import "net"

// hangups does nothing here: only Linux tells that a caller left whose body
// was not read. Elsewhere such a caller's share is freed when an instance is
// ready, or when the request has waited for as long as it may.
type hangups struct{ closed chan struct{} }

func newHangups() (*hangups, error) { return &hangups{make(chan struct{})}, nil }

func (h *hangups) watch(net.Conn, *peer) error { return nil }
func (h *hangups) forget(net.Conn)             {}
func (h *hangups) run()                        { <-h.closed }
func (h *hangups) close() error                { close(h.closed); return nil }
