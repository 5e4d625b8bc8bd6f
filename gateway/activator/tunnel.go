package activator

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
)

// tunnel is a ResponseWriter whose connection, once taken over for another
// protocol, still yields the bytes that a hasty caller sent after its request.
// ReverseProxy alone reads the connection and would lose them.
type tunnel struct{ http.ResponseWriter }

// Unwrap lets http.ResponseController reach the server's own writer.
func (t *tunnel) Unwrap() http.ResponseWriter { return t.ResponseWriter }

// Hijack takes over the connection.
func (t *tunnel) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, both, err := http.NewResponseController(t.ResponseWriter).Hijack()
	if err != nil || both.Reader.Buffered() == 0 {
		return conn, both, err
	}
	early, err := both.Reader.Peek(both.Reader.Buffered())
	if err != nil {
		conn.Close()
		return nil, nil, err
	}
	return &hasty{conn, io.MultiReader(bytes.NewReader(bytes.Clone(early)), conn)}, both, nil
}

// hasty is a connection some of whose bytes were read already.
type hasty struct {
	net.Conn
	reader io.Reader
}

// Read returns the early bytes first.
func (h *hasty) Read(p []byte) (int, error) { return h.reader.Read(p) }

// CloseWrite passes on the end of one direction.
func (h *hasty) CloseWrite() error {
	if half, ok := h.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return h.Conn.Close()
}
