package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway/activator"
)

// MaxColdRequests bounds how many cold requests one question returns.
const MaxColdRequests = activator.DefaultRemember

// ColdQuery chooses cold requests. Empty fields choose all.
type ColdQuery struct {
	ID      string // x-request-id
	Service polder.ServiceName
	Limit   int // the latest ones, at most MaxColdRequests
}

// ColdRequest is one request that waited for an instance to start, answered or not.
type ColdRequest struct {
	ID       string             `json:"request-id"`
	Service  polder.ServiceName `json:"service"`
	Region   polder.RegionName  `json:"region"`
	Instance polder.InstanceID  `json:"instance,omitempty"` // none when no instance came up
	Class    activator.Class    `json:"class"`              // what it waited for: cold, a start; saturated, a busy instance
	Noticed  time.Time          `json:"noticed"`
	Total    int64              `json:"total_us"` // from its arrival to the first byte of the answer: the sum of Phases
	Phases   []ColdPhase        `json:"phases"`
	Wakes    int                `json:"wakes"`            // 2 when the first instance was gone before the request reached it
	Berth    bool               `json:"berth,omitempty"`  // waited at the program's inherited socket, past Polder; without an ID it stands for all who did
	Moved    bool               `json:"moved,omitempty"`  // a stream that Envoy sent to the instance itself; its first byte is not seen here
	Status   int                `json:"status"`           // what the caller got; 0 when the caller had left
	Reason   activator.Reason   `json:"reason,omitempty"` // why no instance answered
	Answer   polder.ColdAnswer  `json:"answer,omitempty"` // what the caller got at once, as the service's cold says
	Cause    string             `json:"cause,omitempty"`  // of that, for the operator
	Why      string             `json:"why,omitempty"`    // the decision that started the instance
}

// ColdPhase is one step of a cold request, named after the event that ends it.
type ColdPhase struct {
	Phase string `json:"phase"`
	Took  int64  `json:"took_us"`
}

// Cold returns what the region remembers of cold requests, the latest first.
func (r *Region) Cold(q ColdQuery) []ColdRequest {
	return choose(r.activator.ColdRequests(), q)
}

func choose(all []activator.ColdRequest, q ColdQuery) []ColdRequest {
	chosen := []ColdRequest{}
	for _, c := range all {
		if len(chosen) == q.Limit {
			break
		}
		if (q.ID == "" || q.ID == c.ID) && (q.Service == "" || q.Service == c.Service) {
			chosen = append(chosen, coldRequest(c))
		}
	}
	return chosen
}

// coldRequest rounds each phase to the microsecond at which it ends, so that
// the rounded phases sum to the rounded total.
func coldRequest(c activator.ColdRequest) ColdRequest {
	out := ColdRequest{
		ID: c.ID, Service: c.Service, Region: c.Region, Instance: c.Instance, Class: c.Class, Noticed: c.Noticed,
		Wakes: c.Wakes, Status: c.Status, Reason: c.Reason, Cause: c.Cause, Why: c.Why, Answer: c.Answer, Moved: c.Moved, Berth: c.Berth,
	}
	var end time.Duration
	for _, step := range c.Phases.Steps() {
		end += step.Took
		took := end.Microseconds() - out.Total
		out.Phases = append(out.Phases, ColdPhase{Phase: step.Name, Took: took})
		out.Total += took
	}
	return out
}

// Cold asks for cold requests, the latest first.
func (c *Client) Cold(ctx context.Context, q ColdQuery) ([]ColdRequest, error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	var requests []ColdRequest
	err := c.ask(ctx, "/v1/cold?"+q.values().Encode(), &requests)
	return requests, err
}

func (q ColdQuery) values() url.Values {
	return url.Values{"id": {q.ID}, "service": {string(q.Service)}, "limit": {strconv.Itoa(q.Limit)}}
}

// coldQuery reads a question; without a limit it is the most.
func coldQuery(r *http.Request) (ColdQuery, error) {
	q := ColdQuery{ID: r.FormValue("id"), Service: polder.ServiceName(r.FormValue("service")), Limit: MaxColdRequests}
	if text := r.FormValue("limit"); text != "" {
		limit, err := strconv.Atoi(text)
		if err != nil || limit < 1 || limit > MaxColdRequests {
			return q, fmt.Errorf("limit is %q, want a number from 1 to %d", text, MaxColdRequests)
		}
		q.Limit = limit
	}
	return q, nil
}

// coldHandler answers GET /v1/cold.
func coldHandler(cold func(ColdQuery) []ColdRequest) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		q, err := coldQuery(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Header().Set("content-type", "application/json")
		json.NewEncoder(w).Encode(cold(q)) // an error means that the caller has gone
	}
}
