package local

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/polder/polder"
)

// A readiness path answers 2xx or the instance is not ready, whatever else it
// answers; and the error tells what it did answer.
func TestReadinessPathNeedsTwoHundred(t *testing.T) {
	for status, ready := range map[int]bool{200: true, 204: true, 302: false, 404: false, 500: false} {
		asked := make(chan *http.Request, 1000)
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			select {
			case asked <- r:
			default:
			}
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(status)
		}))
		at := netip.MustParseAddrPort(server.Listener.Addr().String())
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			r := <-asked
			if r.Host != "b.example" || r.URL.Path != "/up" || r.UserAgent() != "polder-ready" {
				t.Errorf("asked %s %s as %s", r.Host, r.URL.Path, r.UserAgent())
			}
			if !ready {
				<-asked // it asks again
				cancel()
			}
		}()
		_, err := probe{Address: at, Path: "/up", Host: "b.example", Protocol: polder.HTTP1}.await(ctx, nil, new(atomic.Int64))
		if (err == nil) != ready {
			t.Errorf("%d: %v", status, err)
		}
		if err != nil && (!errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), http.StatusText(status))) {
			t.Errorf("%d: error %q does not say what was answered", status, err)
		}
		cancel()
		server.Close()
	}
}

func TestNobodyListens(t *testing.T) {
	p, err := reserve()
	if err != nil {
		t.Fatal(err)
	}
	defer p.leave()
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	_, err = probe{Address: p.address}.await(ctx, nil, new(atomic.Int64))
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "connection refused") || !strings.Contains(err.Error(), p.address.String()) {
		t.Errorf("error = %v", err)
	}
}
