package main

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/polder/polder/xds"
)

// message writes strings as a protobuf message, one field each.
func message(values map[protowire.Number][]string) []byte {
	var out []byte
	for number, list := range values {
		for _, v := range list {
			out = protowire.AppendString(protowire.AppendTag(out, number, protowire.BytesType), v)
		}
	}
	return out
}

// TestAdapter plays the suite: it sets, updates, adds and removes through the adapter,
// and sees each on a stream of the server under test.
func TestAdapter(t *testing.T) {
	s, err := serve()
	if err != nil {
		t.Fatal(err)
	}
	defer s.stop()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	dial := func(port string) *grpc.ClientConn {
		conn, err := grpc.NewClient("127.0.0.1"+port, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return conn
	}
	adapter := dial(s.adapterPort())
	call := func(method string, values map[protowire.Number][]string) {
		t.Helper()
		var answer []byte
		if err := adapter.Invoke(ctx, "/adapter.Adapter/"+method, message(values), &answer, grpc.ForceCodec(raw{})); err != nil {
			t.Fatalf("%s: %v", method, err)
		}
	}
	var resources []string
	for _, name := range []string{"A", "B"} {
		m, err := named(xds.Key{Type: xds.TypeRoute, Name: name})
		if err != nil {
			t.Fatal(err)
		}
		body, err := anypb.New(m)
		if err != nil {
			t.Fatal(err)
		}
		value, err := proto.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		resources = append(resources, string(value))
	}
	call("SetState", map[protowire.Number][]string{1: {node}, 2: {"1"}, 3: resources})
	stream, err := discovery.NewAggregatedDiscoveryServiceClient(dial(s.targetPort())).DeltaAggregatedResources(ctx)
	if err != nil {
		t.Fatal(err)
	}
	subscribe := &discovery.DeltaDiscoveryRequest{Node: &core.Node{Id: node}, TypeUrl: xds.TypeRoute, ResourceNamesSubscribe: []string{"A", "B"}}
	if err := stream.Send(subscribe); err != nil {
		t.Fatal(err)
	}
	expect := func(want ...string) {
		t.Helper()
		r, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		got := slices.Clone(r.RemovedResources)
		for _, x := range r.Resources {
			got = append(got, x.Name+"@"+x.Version)
		}
		if !slices.Equal(got, want) {
			t.Fatalf("got %v, want %v", got, want)
		}
		if err := stream.Send(&discovery.DeltaDiscoveryRequest{TypeUrl: r.TypeUrl, ResponseNonce: r.Nonce}); err != nil {
			t.Fatal(err)
		}
	}
	expect("A@1", "B@1")
	about := func(name, version string) map[protowire.Number][]string {
		return map[protowire.Number][]string{1: {node}, 2: {xds.TypeRoute}, 3: {name}, 4: {version}}
	}
	call("UpdateResource", about("A", "2"))
	expect("A@2")
	call("RemoveResource", about("B", ""))
	expect("B")
	call("AddResource", about("B", "3"))
	expect("B@3")
	before := s.server()
	call("ClearState", map[protowire.Number][]string{1: {node}})
	if s.server() == before {
		t.Error("the next scenario has the server of the one before")
	}
}

// TestReport reads results as the suite writes them.
func TestReport(t *testing.T) {
	var out bytes.Buffer
	failed, err := report([]byte(`{"Total": 3, "Passed": 2, "ResultsByVariant": [{"name": "sotw aggregated", "total": 3, "passed": 2,
		"failedScenarios": [{"name": "unsubscribes", "failedStep": "receives nothing", "error": "received A"}]}]}`), &out)
	if err != nil || failed != 1 {
		t.Errorf("%d failed, %v; want 1", failed, err)
	}
	for _, want := range []string{"sotw aggregated: 2 of 3 steps", "scenarios that fail: 1", "unsubscribes", "receives nothing", "received A"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the report says nothing of %q:\n%s", want, out.String())
		}
	}
	if _, err := report([]byte(`{}`), &out); err == nil {
		t.Error("a suite that ran nothing is taken for one that passes")
	}
}
