package activator

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// public is what callers are told: the reason in words, without a detail that
// only the operator should know.
var public = map[Reason]string{
	Asleep:         "the service was asleep and is starting; this call was not passed on: repeat it",
	ActivatorFull:  "too many requests are waiting for services to start",
	CrashLoop:      "the service fails to start again and again",
	InstanceFailed: "the service broke the connection before it answered",
	InstanceGone:   "the service stopped before the request reached it",
	OverBudget:     "the service's budget is used up",
	OverQuota:      "the service's quota is used up",
	Saturated:      "the service is busy",
	StartFailed:    "the service could not be started",
	StartTimeout:   "the service did not start in time",
	Stopping:       "this gateway is stopping",
	UnknownService: "no such service is configured here",
}

// refusal is the body of an answer that no instance gave.
type refusal struct {
	Error  string `json:"error"`
	Reason Reason `json:"reason,omitempty"`
	at
}

// status is what callers get. InstanceFailed is the only failure after the
// request left here: repeating it may not be safe, so it is no 503 and carries
// no Retry-After.
func (r Reason) status() int {
	if r == InstanceFailed {
		return http.StatusBadGateway
	}
	return http.StatusServiceUnavailable
}

// refuse answers with the reason, in the caller's manner of speaking.
func refuse(w http.ResponseWriter, r *http.Request, body refusal, retryAfter time.Duration) {
	body.Error = public[body.Reason]
	header := w.Header()
	header.Set(reasonHeader, string(body.Reason))
	header.Set("Cache-Control", "no-store")
	status := body.Reason.status()
	if status == http.StatusServiceUnavailable {
		header.Set("Retry-After", strconv.Itoa(retrySeconds(retryAfter)))
	}
	if isGRPC(r) {
		// A gRPC caller reads a status of its own from headers that end the stream.
		header.Set("Content-Type", "application/grpc")
		header.Set("Grpc-Status", "14") // UNAVAILABLE
		header.Set("Grpc-Message", body.Error+" ("+string(body.Reason)+")")
		w.WriteHeader(http.StatusOK)
		return
	}
	writeJSON(w, status, body)
}

// retrySeconds rounds up to whole seconds in [1, 3600].
func retrySeconds(after time.Duration) int {
	return int(min(max((after+time.Second-1)/time.Second, 1), 3600))
}

func isGRPC(r *http.Request) bool {
	kind := r.Header.Get("Content-Type")
	return r.ProtoMajor == 2 && (kind == "application/grpc" ||
		strings.HasPrefix(kind, "application/grpc+") || strings.HasPrefix(kind, "application/grpc;"))
}
