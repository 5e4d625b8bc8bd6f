package main

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway"
)

const noticed = `regions:
  fr: { jurisdiction: [FR], location: [48.86, 2.35] }
services:
  billing:
    hosts: [billing.example.com]
    residency: { allow: [fr] }
    run: { command: [./bin/billing], directory: SAMPLES/billing }
  deaf:
    hosts: [deaf.example.com]
    residency: { allow: [fr] }
    run: { command: [./bin/billing], directory: SAMPLES/billing }
    scale: { prewarm: off }
`

// outsideOf is a program of the owner's, with the region's API at its socket.
func outsideOf(layout gateway.Layout) *http.Client {
	return &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", layout.API())
	}}}
}

// notice tells that callers are on the way. The code is 0 when nobody answers.
func notice(outside *http.Client, values url.Values) (int, string) {
	response, err := outside.Post("http://polder/v1/notice?"+values.Encode(), "", nil)
	if err != nil {
		return 0, err.Error()
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, err.Error()
	}
	return response.StatusCode, string(text)
}

// TestNotice tells a region in production over its socket that callers are on the
// way, as a program of its owner does: the service wakes before anybody connects,
// one that may not be prewarmed sleeps on, and what cannot be is said.
func TestNotice(t *testing.T) {
	layout := runRegion(t, noticed, gateway.Off)
	client := gateway.NewClient(layout)
	defer client.Close()
	outside := outsideOf(layout)
	post := func(values url.Values) (int, string) { return notice(outside, values) }
	eventually(t, "the region takes a notice for each service", func() bool {
		for _, name := range []string{"billing", "deaf"} {
			if code, _ := post(url.Values{"service": {name}}); code != http.StatusAccepted {
				return false
			}
		}
		return true
	})
	eventually(t, "billing is awake, and nobody has called", func() bool {
		status, err := client.Status(t.Context())
		if err != nil {
			return false
		}
		service, ok := find(status, "billing")
		return ok && len(service.Instances) == 1 && service.Instances[0].State == polder.Ready && service.Totals.Requests == 0 &&
			strings.Contains(service.Instances[0].Reason, "a program outside")
	})
	status, err := client.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if service, ok := find(status, "deaf"); !ok || len(service.Instances) != 0 || service.Totals.Starts != 0 {
		t.Errorf("a service that may not be prewarmed: %+v", service)
	}
	for _, c := range []struct {
		values url.Values
		want   string
	}{
		{url.Values{"service": {"nobody"}}, "service nobody is not woken: it is not served in region fr"},
		{url.Values{}, "is not woken"},
		{url.Values{"service": {"billing"}, "cause": {"whim"}}, `the cause "whim" is not one of hello, dns, outside`},
	} {
		if code, text := post(c.values); code != http.StatusConflict || !strings.Contains(text, c.want) {
			t.Errorf("%v: %d %s, want %s", c.values, code, text, c.want)
		}
	}
	response, err := outside.Get("http://polder/v1/notice?service=billing")
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("a question instead of a notice: %d", response.StatusCode)
	}
}

// TestQueryReachesTheHome asks for a sleeping service's address at a gateway whose
// callers go on to another region, as a DNS query there would: its home wakes, in
// that region, before anybody connects, and nothing wakes where it was asked.
func TestQueryReachesTheHome(t *testing.T) {
	u := startUp(t, "testdata/homes.yaml")
	var home, entry polder.RegionName
	eventually(t, "all agree on the home of amber", func() bool {
		home, entry = "", ""
		for _, region := range everywhere {
			switch at := u.service(region, "amber").Home; {
			case at == "" && home == "":
				home = region
			case at != "":
				entry = region
			}
		}
		return home != "" && entry != "" && u.service(entry, "amber").Home == string(home)+"-1"
	})
	if code, text := notice(outsideOf(u.layout(entry)), url.Values{"service": {"amber"}, "cause": {"dns"}}); code != http.StatusAccepted {
		t.Fatalf("%d %s", code, text)
	}
	eventually(t, "amber is awake at its home, and nobody has called", func() bool {
		service := u.service(home, "amber")
		return len(service.Instances) == 1 && service.Instances[0].State == polder.Ready && service.Totals.Requests == 0
	})
	for _, region := range everywhere {
		if n := u.service(region, "amber").Totals.Starts; region != home && n > 0 {
			t.Errorf("%d instances were started in %s, and its home is %s", n, region, home)
		}
	}
}
