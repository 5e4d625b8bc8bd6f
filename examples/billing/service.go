package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

// identity is what the service tells of itself. Fixed after construction.
type identity struct {
	Service  string `json:"service"`
	Region   string `json:"region"`
	Instance string `json:"instance"`
	Started  string `json:"started"` // RFC 3339
}

// answer is the body of every path that has no meaning of its own.
type answer struct {
	identity
	Caller string `json:"caller"`
	Path   string `json:"path"`
}

func newService(log *slog.Logger, getenv func(string) string, started time.Time) http.Handler {
	self := identity{
		Service:  getenv("POLDER_SERVICE"),
		Region:   getenv("POLDER_REGION"),
		Instance: getenv("POLDER_INSTANCE"),
		Started:  started.UTC().Format(time.RFC3339Nano),
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		reply(w, http.StatusOK, answer{self, caller(r), r.URL.Path})
	})
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "ok\n")
	})
	mux.HandleFunc("/slow", func(w http.ResponseWriter, r *http.Request) {
		ms, ok := number(w, r, "ms", 1000, 600_000)
		if ok && wait(r, ms) {
			reply(w, http.StatusOK, answer{self, caller(r), r.URL.Path})
		}
	})
	mux.HandleFunc("/stream", stream)
	mux.HandleFunc("/echo", echo)
	mux.HandleFunc("/die", func(w http.ResponseWriter, r *http.Request) {
		if getenv("POLDER_SAMPLE_DIE") == "1" {
			log.Error("dying as asked")
			os.Exit(3)
		}
		refuse(w, http.StatusNotFound, "set POLDER_SAMPLE_DIE=1 to allow this")
	})
	return logged(log, mux)
}

// stream sends n server-sent events, ms milliseconds apart, each at once.
func stream(w http.ResponseWriter, r *http.Request) {
	n, ok := number(w, r, "n", 10, 100_000)
	if !ok {
		return
	}
	ms, ok := number(w, r, "ms", 100, 60_000)
	if !ok {
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	control := http.NewResponseController(w)
	for i := range n {
		if i > 0 && !wait(r, ms) {
			return
		}
		fmt.Fprintf(w, "id: %d\ndata: %d\n\n", i, i)
		if control.Flush() != nil {
			return
		}
	}
}

// echo sends the body back while it arrives: the caller must read while it writes.
func echo(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost && r.Method != http.MethodPut {
		w.Header().Set("Allow", "POST, PUT")
		refuse(w, http.StatusMethodNotAllowed, "POST or PUT a body")
		return
	}
	control := http.NewResponseController(w)
	if r.ProtoMajor == 1 && control.EnableFullDuplex() != nil {
		refuse(w, http.StatusInternalServerError, "cannot read and write at the same time")
		return
	}
	if kind := r.Header.Get("Content-Type"); kind != "" {
		w.Header().Set("Content-Type", kind)
	} else {
		w.Header().Set("Content-Type", "application/octet-stream")
	}
	block := make([]byte, 32<<10)
	for {
		n, err := r.Body.Read(block)
		if n > 0 {
			if _, err := w.Write(block[:n]); err != nil || control.Flush() != nil {
				return
			}
		}
		if err == io.EOF {
			return
		}
		if err != nil {
			panic(http.ErrAbortHandler) // a half echo must not look whole
		}
	}
}

// caller is the address that the nearest proxy vouches for, and without a
// proxy the one that connected.
func caller(r *http.Request) string {
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	if last := strings.TrimSpace(hops[len(hops)-1]); last != "" {
		return last
	}
	if host, _, err := net.SplitHostPort(r.RemoteAddr); err == nil {
		return host
	}
	return r.RemoteAddr
}

// number reads a query parameter in [0, limit]; if it is none, it has answered.
func number(w http.ResponseWriter, r *http.Request, name string, absent, limit int) (int, bool) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return absent, true
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 || n > limit {
		refuse(w, http.StatusBadRequest, fmt.Sprintf("%s: want a number from 0 to %d", name, limit))
		return 0, false
	}
	return n, true
}

// wait tells whether the caller is still there after that many milliseconds.
func wait(r *http.Request, ms int) bool {
	timer := time.NewTimer(time.Duration(ms) * time.Millisecond)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-r.Context().Done():
		return false
	}
}

func refuse(w http.ResponseWriter, status int, text string) {
	reply(w, status, map[string]string{"error": text})
}

func reply(w http.ResponseWriter, status int, body any) {
	text, err := json.Marshal(body)
	if err != nil {
		panic(err) // only strings are marshalled here
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(append(text, '\n'))
}

// logged writes one line per request, also when the handler was aborted.
func logged(log *slog.Logger, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begin, seen := time.Now(), &statusWriter{ResponseWriter: w, status: http.StatusOK}
		defer func() {
			log.Info("request", "method", r.Method, "path", r.URL.Path, "status", seen.status,
				"ms", float64(time.Since(begin).Microseconds())/1000, "caller", caller(r))
		}()
		next.ServeHTTP(seen, r)
	})
}

// statusWriter remembers the status for the log line.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap lets http.ResponseController reach the server's own writer.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
