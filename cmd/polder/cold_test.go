package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway/activator"
)

// TestColdAnswers asks sleeping services, on a real Envoy, in the ways in which
// their owners want callers to be answered:
//
//  1. accepted: 202, and a link on the same host at which the start is followed
//     until it is ready. The call was not passed on; repeated, it is answered by
//     an instance, which is kept for it however short the keep-alive.
//  2. A path with another answer is held, and what it waited for is told to a
//     collector, in a trace that is called as the request.
//  3. page: who opens a page sees one that waits; who asks for anything else is held.
//  4. reject: 503 with retry-after, and then the instance.
func TestColdAnswers(t *testing.T) {
	collected := newCollector(t)
	u := startUp(t, "testdata/cold.yaml", "--traces", collected.endpoint)
	post := func(host, path, body string) (*http.Response, string) {
		return u.send(t, http.MethodPost, host, path, body, nil)
	}
	first, text := post("jobs.example.com", "/order", "one")
	var told struct {
		State activator.State
		Link  string
	}
	if err := json.Unmarshal([]byte(text), &told); err != nil || first.StatusCode != http.StatusAccepted || first.Header.Get("Location") != told.Link {
		t.Fatalf("accepted: got %s %v, %s", first.Status, first.Header, text)
	}
	u.awaitState(t, "jobs.example.com", told.Link, activator.StateReady)
	if second, text := post("jobs.example.com", "/order", "one"); second.StatusCode != http.StatusOK || !strings.Contains(text, `was sent "one"`) {
		t.Fatalf("repeated: got %s, %s", second.Status, text)
	}
	u.awaitState(t, "jobs.example.com", told.Link, activator.StateAsleep)
	eventually(t, "jobs has no instance", func() bool { return len(u.service("fr", "jobs").Instances) == 0 })
	held, text := post("jobs.example.com", "/held/x", "two")
	if held.StatusCode != http.StatusOK || !strings.Contains(text, `was sent "two"`) {
		t.Fatalf("a path that is held: got %s, %s", held.Status, text)
	}
	collected.await(t, strings.ReplaceAll(held.Header.Get("x-request-id"), "-", ""))
	if starts := u.service("fr", "jobs").Totals.Starts; starts != 2 {
		t.Errorf("jobs was started %d times, want 2", starts)
	}

	page := map[string]string{"Accept": "text/html"}
	shown, text := u.send(t, http.MethodGet, "shop.example.com", "/", "", page)
	if shown.StatusCode != http.StatusServiceUnavailable || !strings.Contains(text, "shop.example.com is starting") || shown.Header.Get("Content-Security-Policy") == "" {
		t.Fatalf("page: got %s %v, %s", shown.Status, shown.Header, text)
	}
	_, link, _ := strings.Cut(text, `data-link="`)
	link, _, _ = strings.Cut(link, `"`)
	u.awaitState(t, "shop.example.com", link, activator.StateReady)
	if again, text := u.send(t, http.MethodGet, "shop.example.com", "/", "", page); again.StatusCode != http.StatusOK {
		t.Errorf("the page once it is ready: got %s, %s", again.Status, text)
	}
	u.awaitState(t, "shop.example.com", link, activator.StateAsleep)
	if held, text := u.send(t, http.MethodGet, "shop.example.com", "/image", "", map[string]string{"Accept": "image/webp"}); held.StatusCode != http.StatusOK {
		t.Errorf("an image: got %s, %s", held.Status, text)
	}

	refused, text := u.send(t, http.MethodGet, "door.example.com", "/", "", nil)
	if refused.StatusCode != http.StatusServiceUnavailable || refused.Header.Get("x-polder-reason") != "asleep" || refused.Header.Get("retry-after") == "" {
		t.Fatalf("reject: got %s %v, %s", refused.Status, refused.Header, text)
	}
	why := u.why(t, refused.Header.Get("x-request-id"))
	if len(why.Requests) != 1 || why.Requests[0].Answer != polder.ColdReject {
		t.Errorf("why: %+v", why.Requests)
	}
	eventually(t, "door is open", func() bool {
		got, _ := u.send(t, http.MethodGet, "door.example.com", "/", "", nil)
		return got.StatusCode == http.StatusOK
	})
}

// send sends a request through the entrypoint of fr.
func (u *fleetUnderTest) send(t *testing.T, method, host, path, body string, header map[string]string) (*http.Response, string) {
	t.Helper()
	_, port, _ := net.SplitHostPort(u.listen["fr"].HTTPS)
	request, err := http.NewRequest(method, fmt.Sprintf("https://%s:%s%s", host, port, path), strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range header {
		request.Header.Set(name, value)
	}
	response, err := u.http.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response, string(text)
}

// awaitState follows a link until it tells a state.
func (u *fleetUnderTest) awaitState(t *testing.T, host, link string, want activator.State) {
	t.Helper()
	eventually(t, host+" is "+string(want), func() bool {
		response, text := u.send(t, http.MethodGet, host, link, "", nil)
		var told struct{ State activator.State }
		if err := json.Unmarshal([]byte(text), &told); err != nil || response.StatusCode != http.StatusOK {
			t.Fatalf("%s%s: got %s, %s", host, link, response.Status, text)
		}
		return told.State == want
	})
}
