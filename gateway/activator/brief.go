package activator

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/polder/polder"
)

// State is how far a service is from answering.
type State string

// The states.
const (
	StateAsleep   State = "asleep"   // no instance, and nobody waits for one: whoever wants it calls again
	StateQueued   State = "queued"   // one is wanted, and cannot be started yet
	StateStarting State = "starting" // one starts
	StateReady    State = "ready"    // one answers
	StateFailed   State = "failed"   // the last start failed; the next call tries again
)

// Outlook is what a service's callers can expect.
type Outlook struct {
	State State
	Rest  time.Duration // until another look is worth it, as far as is known; 0 when it is not
}

// Rouse has a service wake as a request would, and does not wait for it. The
// instance is kept for a while after it is ready: somebody was told to come back.
type Rouse func(ctx context.Context, service polder.ServiceName, cause Cause) (Outlook, error)

// Look tells the outlook and changes nothing.
type Look func(ctx context.Context, service polder.ServiceName) (Outlook, error)

// answerOf is what the service's owner wants this caller to get. Neither a
// gRPC call nor an upgrade has a use for another answer than the instance's or
// a refusal, and only a browser that opens a page has one for a page.
func (a *Activator) answerOf(service polder.ServiceName, r *http.Request) polder.ColdAnswer {
	if a.options.Cold == nil {
		return polder.ColdHold
	}
	path, _, _ := strings.Cut(r.RequestURI, "?")
	answer := a.options.Cold(service).For(path)
	switch {
	case answer == polder.ColdAccepted && (isGRPC(r) || isUpgrade(r)),
		answer == polder.ColdPage && !isNavigation(r):
		return polder.ColdHold
	}
	return answer
}

func isUpgrade(r *http.Request) bool {
	return r.Header.Get("Upgrade") != "" || r.Method == http.MethodConnect
}

// isNavigation tells whether a browser opens a page. Old ones do not say so in
// sec-fetch-mode.
func isNavigation(r *http.Request) bool {
	mode := r.Header.Get("Sec-Fetch-Mode")
	return r.Method == http.MethodGet && !isUpgrade(r) && (mode == "" || mode == "navigate") &&
		strings.Contains(r.Header.Get("Accept"), "text/html")
}

// brief wakes the service and answers at once, as its owner wants. It is false,
// and nothing was answered, when an instance is ready.
func (c *call) brief(ctx context.Context, answer polder.ColdAnswer) bool {
	asking, cancel := context.WithTimeout(ctx, c.budget(Cold).Wait)
	defer cancel()
	c.class, c.wakes = Cold, 1
	outlook, err := c.options.Rouse(asking, c.service, Cause{Kind: CauseRequest, Request: c.id})
	switch {
	case err != nil:
		c.fail(ctx, err)
		return true
	case outlook.State == StateReady:
		c.wakes = 0
		return false
	}
	failure := &Failure{Reason: Asleep, RetryAfter: outlook.Rest, Err: fmt.Errorf("cold.answer is %s", answer)}
	c.answer = answer
	if answer == polder.ColdReject {
		c.fail(ctx, failure)
		c.record(time.Now(), Asleep.status(), failure)
		return true
	}
	c.book.brief(c.service, answer)
	status := http.StatusAccepted
	if answer == polder.ColdPage {
		status = http.StatusServiceUnavailable
	}
	c.record(time.Now(), status, failure)
	c.w.Header().Set("Cache-Control", "no-store")
	c.w.Header().Set("Retry-After", strconv.Itoa(retrySeconds(outlook.Rest)))
	if answer == polder.ColdPage {
		c.w.Header().Set(reasonHeader, string(Asleep))
		writePage(c.w, c.r.Host, c.stateLink())
		return true
	}
	c.w.Header().Set("Location", c.stateLink())
	writeJSON(c.w, status, accepted{
		Text: "the service is starting; this call was not passed on and will not be: repeat it when the state is ready",
		at:   c.at(), State: outlook.State, Link: c.stateLink(),
	})
	return true
}

// at says in answers who speaks of what.
type at struct {
	Service polder.ServiceName `json:"service"`
	Region  polder.RegionName  `json:"region"`
	Request string             `json:"request-id"`
}

func (c *call) at() at { return at{c.service, c.options.Region, c.id} }

// accepted is the body of a 202.
type accepted struct {
	Text  string `json:"text"`
	State State  `json:"state"`
	Link  string `json:"link"` // where the state is told; the same as in Location
	at
}

// stateLink is a path on the caller's host.
func (c *call) stateLink() string {
	if c.id == "" {
		return polder.ColdStatePath + "-"
	}
	return polder.ColdStatePath + url.PathEscape(c.id)
}

// asksState tells whether the request asks for a state, and after which
// request: one with an identifier that a request can have.
func (a *Activator) asksState(service polder.ServiceName, r *http.Request) (id string, ok bool) {
	path, _, _ := strings.Cut(r.RequestURI, "?")
	segment, found := strings.CutPrefix(path, polder.ColdStatePath)
	if !found || a.options.Cold == nil || !a.options.Cold(service).Uses(polder.ColdAccepted, polder.ColdPage) {
		return "", false
	}
	id, err := url.PathUnescape(segment)
	if err != nil || id == "" || len(id) > maxRequestID || strings.Contains(segment, "/") || id != visible(id) {
		id = ""
	}
	return id, true
}

// told is the body that tells a state.
type told struct {
	State State `json:"state"`
	at
}

// tell answers how far the service is. It wakes nothing: whoever asks again and
// again keeps no service awake.
func (c *call) tell(ctx context.Context, after string) {
	header := c.w.Header()
	header.Set("Cache-Control", "no-store")
	switch {
	case after == "":
		writeJSON(c.w, http.StatusNotFound, refusal{Error: "no request has this identifier", at: c.at()})
		return
	case c.r.Method != http.MethodGet && c.r.Method != http.MethodHead:
		header.Set("Allow", "GET, HEAD")
		writeJSON(c.w, http.StatusMethodNotAllowed, refusal{Error: "a state can only be read", at: c.at()})
		return
	}
	asking, cancel := context.WithTimeout(ctx, c.budget(Cold).Wait)
	defer cancel()
	outlook, err := c.options.Look(asking, c.service)
	if err != nil {
		c.fail(ctx, err)
		return
	}
	if outlook.State != StateReady {
		header.Set("Retry-After", strconv.Itoa(retrySeconds(outlook.Rest)))
	}
	c.id = after
	writeJSON(c.w, http.StatusOK, told{State: outlook.State, at: c.at()})
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	text, err := json.Marshal(body)
	if err != nil {
		panic(err) // only strings are marshalled here
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(text)+1))
	w.WriteHeader(status)
	w.Write(append(text, '\n'))
}
