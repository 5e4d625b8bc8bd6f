package main

import (
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"

	"github.com/polder/polder/internal/grpctest"
)

// beRPC makes the test binary be an instance that speaks gRPC, and listens only
// after the duration in it.
const beRPC = "TEST_IS_RPC"

// rpcWaits makes that instance answer as calls do.
const rpcWaits = "TEST_RPC_WAITS"

// runRPC is an instance whose start takes the duration.
func runRPC(after string) int {
	pause, err := time.ParseDuration(after)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	<-time.After(pause) // this is the program's start, not a wait of a test
	listener, err := net.Listen("tcp", "127.0.0.1:"+os.Getenv("PORT"))
	if err == nil {
		var service testgrpc.TestServiceServer = grpctest.Service{}
		if os.Getenv(rpcWaits) != "" {
			service = &calls{gate: make(chan struct{})}
		}
		if takes, err := time.ParseDuration(os.Getenv(rpcTakes)); err == nil {
			service = worker{takes: takes, working: new(atomic.Int32)}
		}
		server := grpc.NewServer()
		testgrpc.RegisterTestServiceServer(server, service)
		err = server.Serve(listener)
	}
	fmt.Fprintln(os.Stderr, err)
	return 1
}

// dialRPC is a client of a service through the entrypoint of fr.
func (u *fleetUnderTest) dialRPC(t *testing.T, host string) testgrpc.TestServiceClient {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+u.listen["fr"].HTTPS, grpc.WithAuthority(host),
		grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: u.roots, ServerName: host})))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return testgrpc.NewTestServiceClient(conn)
}
