// Command sleeper is the artificial service of the cold-start benchmark: it
// listens after a start-up time and answers every request with 200. Usage:
//
//	sleeper [START-UP]
//
// Like any service it takes an inherited socket, or listens on 127.0.0.1:$PORT,
// and ends by SIGTERM once the requests in progress have ended.
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// drainLimit bounds how long requests in progress may take after SIGTERM.
const drainLimit = 30 * time.Second

func main() {
	if err := run(os.Args[1:], os.Getenv); err != nil {
		fmt.Fprintln(os.Stderr, "sleeper:", err)
		os.Exit(1)
	}
}

func run(args []string, getenv func(string) string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if len(args) > 0 {
		startUp, err := time.ParseDuration(args[0])
		if err != nil {
			return fmt.Errorf("start-up time: %w", err)
		}
		select {
		case <-time.After(startUp):
		case <-ctx.Done():
			return nil
		}
	}
	listener, err := listen(getenv)
	if err != nil {
		return err
	}
	server := &http.Server{
		ReadHeaderTimeout: 10 * time.Second,
		Handler:           http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, getenv("POLDER_INSTANCE")) }),
	}
	defer context.AfterFunc(ctx, func() {
		grace, cancel := context.WithTimeout(context.Background(), drainLimit)
		defer cancel()
		server.Shutdown(grace)
	})()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	grace, cancel := context.WithTimeout(context.Background(), drainLimit)
	defer cancel()
	return server.Shutdown(grace) // waits for what AfterFunc began
}

func listen(getenv func(string) string) (net.Listener, error) {
	if getenv("POLDER_LISTEN_FD") == "" {
		return net.Listen("tcp", net.JoinHostPort("127.0.0.1", getenv("PORT")))
	}
	file := os.NewFile(3, "inherited socket")
	defer file.Close()
	return net.FileListener(file)
}
