package activator

import (
	"io"
	"net/http"
	"sync"
	"time"
)

// upload is a request's body on its way to the instance. The transport waits
// for a Read in progress before it reports that the instance broke the
// connection, and a caller that pauses may keep that Read waiting for long: so
// it can be interrupted.
type upload struct {
	io.ReadCloser
	in      *http.Request
	trailer http.Header // only announced names; filled before the transport reads it
	control *http.ResponseController
	left    func() bool // tells whether the caller has left

	mu     sync.Mutex // guards all below
	over   bool       // it ended, or its end no longer matters
	broken bool       // it was interrupted while the caller was there
}

// Read hands over the announced trailers with the end of the body, which is
// when the server has them.
func (u *upload) Read(p []byte) (int, error) {
	n, err := u.ReadCloser.Read(p)
	if err == io.EOF {
		for name := range u.trailer {
			u.trailer[name] = u.in.Trailer[name]
		}
	}
	if err != nil {
		u.settle()
	}
	return n, err
}

// Close is how the HTTP/2 transport says that the instance wants no more of it.
func (u *upload) Close() error {
	u.interrupt()
	return u.ReadCloser.Close()
}

// settle makes interrupt do nothing any more: past the body, a deadline would
// hit the connection's next request.
func (u *upload) settle() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.over = true
}

// interrupt ends a Read in progress and all later ones. The connection cannot
// be used for another request afterwards, and over HTTP/1 the server cancels
// the request's context as if the caller had left.
func (u *upload) interrupt() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.over {
		return
	}
	u.over, u.broken = true, !u.left()
	u.control.SetReadDeadline(time.Unix(1, 0)) // fails if the connection is gone, which is as good
}

// wasBroken tells whether it was the instance that ended the upload.
func (u *upload) wasBroken() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.broken
}
