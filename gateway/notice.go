package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/polder/polder"
)

// NoticeCause says what told that a caller is on the way.
type NoticeCause string

// The causes of a notice.
const (
	NoticeHello   NoticeCause = "hello"   // a TLS ClientHello named the service
	NoticeDNS     NoticeCause = "dns"     // somebody asked for the service's address
	NoticeOutside NoticeCause = "outside" // a program of the operator's said so
)

// words names the announcer.
func (c NoticeCause) words() string {
	switch c {
	case NoticeHello:
		return "its ClientHello"
	case NoticeDNS:
		return "a query for its address"
	case NoticeOutside:
		return "a program outside"
	}
	return ""
}

// ErrNoNotice says why nobody was woken by a notice.
var ErrNoNotice = errors.New("is not woken")

// Noticed tells that a caller of the service is on the way: the service wakes in
// the meantime, if it sleeps, may be prewarmed, and its budget covers it. It
// blocks no longer than it takes to hand the notice over, or until ctx ends.
//
// Whoever notices may be wrong as often as it likes: of a service that sleeps,
// the first notice counts, and after one that no request followed notices are
// ignored for a minute, then for two, up to an hour. So a scanner that asks for
// every name wakes each service once, and a flood of notices costs a look into a
// table.
func (r *Region) Noticed(ctx context.Context, name polder.ServiceName, cause NoticeCause) error {
	if !slices.Contains([]NoticeCause{NoticeHello, NoticeDNS, NoticeOutside}, cause) {
		return fmt.Errorf("service %s %w: the cause %q is not one of hello, dns, outside", name, ErrNoNotice, cause)
	}
	if !r.isKnown(name) {
		return fmt.Errorf("service %s %w: it is not served in region %s", name, ErrNoNotice, r.options.Region)
	}
	if !r.reconciler.offer(func(now time.Time) { r.reconciler.announce(name, cause.sign(), now) }) {
		return fmt.Errorf("service %s %w: too much happens at once; try again in a second", name, ErrNoNotice)
	}
	return nil
}

func signQuery(s *service) *hello   { return &s.query }
func signOutside(s *service) *hello { return &s.outside }

// sign is what the service remembers of notices of this cause.
func (c NoticeCause) sign() func(*service) *hello {
	switch c {
	case NoticeHello:
		return signHello
	case NoticeDNS:
		return signQuery
	}
	return signOutside
}

// causeOf is the cause whose sign it is.
func causeOf(s *service, sign func(*service) *hello) NoticeCause {
	for _, c := range []NoticeCause{NoticeHello, NoticeDNS} {
		if c.sign()(s) == sign(s) {
			return c
		}
	}
	return NoticeOutside
}

// noticeHandler takes notices from programs of this machine's owner.
func noticeHandler(noticed func(context.Context, polder.ServiceName, NoticeCause) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		cause := NoticeCause(r.FormValue("cause"))
		if cause == "" {
			cause = NoticeOutside
		}
		if err := noticed(r.Context(), polder.ServiceName(r.FormValue("service")), cause); err != nil {
			http.Error(w, err.Error(), http.StatusConflict)
			return
		}
		w.WriteHeader(http.StatusAccepted)
	}
}
