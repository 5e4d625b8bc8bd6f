package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
)

// drainRoutes answers GET and POST /v1/drain and POST /v1/undrain. with names
// other peers that drain at the same time, force=true drains whatever stays.
func drainRoutes(mux *http.ServeMux, source apiSource) {
	mux.HandleFunc("GET /v1/drain", drainAnswer(func(ctx context.Context, q url.Values) (DrainStatus, error) {
		return source.DrainStatus(ctx, q["with"])
	}))
	mux.HandleFunc("POST /v1/drain", drainAnswer(func(ctx context.Context, q url.Values) (DrainStatus, error) {
		return source.Drain(ctx, q["with"], q.Get("force") == "true")
	}))
	mux.HandleFunc("POST /v1/undrain", drainAnswer(func(ctx context.Context, _ url.Values) (DrainStatus, error) {
		return source.Undrain(ctx)
	}))
}

func drainAnswer(do func(context.Context, url.Values) (DrainStatus, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), apiTimeout)
		defer cancel()
		status, err := do(ctx, r.URL.Query())
		var pinned *PinnedError
		w.Header().Set("content-type", "application/json")
		switch {
		case errors.As(err, &pinned):
			w.WriteHeader(http.StatusConflict)
		case err != nil:
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		json.NewEncoder(w).Encode(status) // an error means that the caller has gone
	}
}

// Drain tells the peer to give its callers to others; see Region.Drain.
func (c *Client) Drain(ctx context.Context, with []string, force bool) (DrainStatus, error) {
	q := url.Values{"with": with}
	if force {
		q.Set("force", "true")
	}
	return c.drain(ctx, http.MethodPost, "/v1/drain?"+q.Encode())
}

// Undrain tells the peer to have callers again.
func (c *Client) Undrain(ctx context.Context) (DrainStatus, error) {
	return c.drain(ctx, http.MethodPost, "/v1/undrain")
}

// DrainStatus asks how far the peer is, or what would stay if it drained.
func (c *Client) DrainStatus(ctx context.Context, with []string) (DrainStatus, error) {
	return c.drain(ctx, http.MethodGet, "/v1/drain?"+url.Values{"with": with}.Encode())
}

func (c *Client) drain(ctx context.Context, method, path string) (DrainStatus, error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	var status DrainStatus
	response, err := c.do(ctx, method, path)
	if err != nil {
		return status, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK && response.StatusCode != http.StatusConflict {
		return status, c.refusal(response)
	}
	if err := json.NewDecoder(response.Body).Decode(&status); err != nil {
		return status, fmt.Errorf("region %s: %s: %w", c.layout.Name(), path, err)
	}
	if response.StatusCode == http.StatusConflict {
		return status, &PinnedError{Peer: status.Peer, Stays: status.Stays}
	}
	return status, nil
}
