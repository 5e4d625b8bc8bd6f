package gateway

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"reflect"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/polder/polder/gateway/metrics"
)

func TestMetricsAreForThisMachine(t *testing.T) {
	for address, ok := range map[string]bool{
		"": true, "127.0.0.1:9464": true, "[::1]:9464": true,
		":9464": false, "0.0.0.0:9464": false, "192.0.2.1:9464": false, "localhost:9464": false, "127.0.0.1": false,
	} {
		if err := checkMetricsAddress(address); (err == nil) != ok {
			t.Errorf("%q: %v, want ok %v", address, err, ok)
		}
	}
}

// TestMetricsOnLoopback serves metrics on an address until the context ends.
func TestMetricsOnLoopback(t *testing.T) {
	m, err := metrics.New(metrics.Options{Region: "fr", Peer: "fr-1", Read: func(context.Context) (metrics.Reading, error) {
		return metrics.Reading{Nodes: 3}, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	said := &lines{written: make(chan struct{}, 8)}
	r := &Region{options: Options{Metrics: "127.0.0.1:0", Log: slog.New(slog.NewTextHandler(said, nil))}, metrics: m}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- r.serveMetrics(ctx) }()
	<-said.written
	address := regexp.MustCompile(`127\.0\.0\.1:\d+`).FindString(said.String())
	client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get("http://" + address + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(response.Body)
	response.Body.Close()
	if err != nil || !strings.Contains(string(text), `polder_nodes{peer="fr-1",region="fr"} 3`) {
		t.Errorf("%v: %s", err, text)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// lines is a log to read while it is written.
type lines struct {
	written chan struct{}
	mu      sync.Mutex
	text    bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer func() { l.written <- struct{}{} }()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func TestPeersAreCountedByRegion(t *testing.T) {
	got := countPeers([]PeerStatus{{Region: "fr", Healthy: true}, {Region: "nl"}, {Region: "fr", Healthy: true}, {Region: "nl", Healthy: true}})
	if want := []metrics.Peers{{Region: "fr", Healthy: 2}, {Region: "nl", Healthy: 1, Unhealthy: 1}}; !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
}
