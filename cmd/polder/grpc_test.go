package main

import (
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthgrpc "google.golang.org/grpc/health/grpc_health_v1"
)

// beGRPC makes the test binary be an instance that speaks gRPC, and knows no service
// but the one in it.
const beGRPC = "TEST_IS_GRPC"

func runGRPC(name string) int {
	listener, err := instanceListener()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	server, states := grpc.NewServer(), health.NewServer()
	states.SetServingStatus(name, healthgrpc.HealthCheckResponse_SERVING)
	healthgrpc.RegisterHealthServer(server, states)
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, os.Interrupt)
	go func() {
		<-stop
		server.GracefulStop()
	}()
	if err := server.Serve(listener); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// instanceListener listens where Polder says.
func instanceListener() (net.Listener, error) {
	if os.Getenv("LISTEN_FDS") == "" {
		return net.Listen("tcp", net.JoinHostPort("127.0.0.1", os.Getenv("PORT")))
	}
	inherited := os.NewFile(3, "inherited socket")
	defer inherited.Close()
	return net.FileListener(inherited)
}
