package activator

import (
	"net/http"
	"net/http/httputil"
	"strconv"
	"strings"

	"github.com/polder/polder"
)

// serviceHeader names the service. Envoy's route sets it and overwrites what a
// caller may have sent.
const serviceHeader = "X-Polder-Service"

// traceHeader is where Envoy keeps what the caller said of its trace, behind
// callersTrace, where it writes a traceparent header of its own.
const (
	traceHeader  = "X-Polder-Trace"
	callersTrace = "caller="
)

// reasonHeader labels what no instance answered.
const reasonHeader = "X-Polder-Reason"

// maxRequestID bounds what is kept and repeated of x-request-id, in bytes.
const maxRequestID = 128

// serviceOf reads the service's name; it fails unless there is exactly one and
// it is a DNS label.
func serviceOf(h http.Header) (polder.ServiceName, bool) {
	values := h[serviceHeader]
	if len(values) != 1 || !isLabel(values[0]) {
		return "", false
	}
	return polder.ServiceName(values[0]), true
}

func isLabel(s string) bool {
	if len(s) == 0 || len(s) > 63 || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}

// requestID returns Envoy's identifier of the request, or "" if it is none
// that a log line should repeat.
func requestID(h http.Header) string {
	id := h.Get("X-Request-Id")
	if len(id) > maxRequestID {
		id = id[:maxRequestID]
	}
	return visible(id)
}

// traceOf returns the trace that a request is part of, if the header has the
// length of one. An Envoy that traces writes the header of each request: where the
// caller said nothing and Envoy makes no span, there is none.
func traceOf(h http.Header) string {
	const length = 55 // version 00 of W3C Trace Context
	trace := h.Get("Traceparent")
	if len(trace) != length {
		return ""
	}
	said, kept := strings.CutPrefix(h.Get(traceHeader), callersTrace)
	if kept && len(said) != length && !sampled(trace) {
		return ""
	}
	return visible(trace)
}

// sampled tells whether the last bit of the flags is set, which are the last two
// digits.
func sampled(trace string) bool {
	flags, err := strconv.ParseUint(trace[len(trace)-2:], 16, 8)
	return err == nil && flags&1 == 1
}

// visible returns a text of visible ASCII, and "" for any other.
func visible(text string) string {
	for _, c := range []byte(text) {
		if c <= ' ' || c > '~' {
			return ""
		}
	}
	return text
}

// isOurs tells whether a header is one of x-polder-*. Frameworks that turn
// headers into variables take "_" for "-", so both count.
func isOurs(name string) bool {
	const prefix = "x-polder-"
	return len(name) >= len(prefix) && strings.ToLower(strings.ReplaceAll(name[:len(prefix)], "_", "-")) == prefix
}

func dropOurs(h http.Header) {
	for name := range h {
		if isOurs(name) {
			delete(h, name)
		}
	}
}

// rewrite makes the outgoing request the one that Envoy sent, to another
// address: ReverseProxy by itself drops forwarding headers, odd queries and
// unusual spellings of paths, and Envoy on the warm path does not.
func rewrite(p *httputil.ProxyRequest, address string) {
	p.Out.URL.Scheme = "http"
	p.Out.URL.Host = address
	p.Out.URL.RawQuery = p.In.URL.RawQuery
	path, _, _ := strings.Cut(p.In.RequestURI, "?")
	if strings.HasPrefix(path, "/") && !strings.HasPrefix(path, "//") {
		p.Out.URL.Opaque = path // byte for byte
	}
	for _, name := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"} {
		if values, ok := p.In.Header[name]; ok {
			p.Out.Header[name] = values
		}
	}
	dropOurs(p.Out.Header)
	if len(p.In.Trailer) > 0 {
		dropOurs(p.Out.Trailer)
		p.Out.ContentLength = -1 // trailers need chunks
	}
}
