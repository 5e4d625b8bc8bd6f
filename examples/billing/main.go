// Command billing is the sample service in Go: pinned to one region, HTTP/1.1
// and HTTP/2 in clear, ready a few milliseconds after it was started. The
// contract that it shares with the other samples is in ../doc.go.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"
)

// drainLimit bounds how long requests in progress may take after SIGTERM.
const drainLimit = 30 * time.Second

func main() {
	log := slog.New(slog.NewTextHandler(os.Stdout, nil))
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := run(ctx, log, os.Getenv); err != nil {
		log.Error("stopped", "error", err)
		os.Exit(1)
	}
}

// run serves until ctx ends and the requests in progress have finished.
func run(ctx context.Context, log *slog.Logger, getenv func(string) string) error {
	listener, err := listen(getenv)
	if err != nil {
		return err
	}
	log.Info("listening", "address", listener.Addr().String())

	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	server := &http.Server{
		Handler:           newService(log, getenv, time.Now()),
		Protocols:         protocols,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()

	select {
	case err := <-failed:
		return fmt.Errorf("serving on %s: %w", listener.Addr(), err)
	case <-ctx.Done():
	}
	log.Info("stopping")
	grace, cancel := context.WithTimeout(context.Background(), drainLimit)
	defer cancel()
	if err := server.Shutdown(grace); err != nil {
		return fmt.Errorf("requests still in progress after %s: %w", drainLimit, err)
	}
	if err := <-failed; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	log.Info("stopped")
	return nil
}

// listen takes the inherited socket if there is one, otherwise $PORT on loopback.
func listen(getenv func(string) string) (net.Listener, error) {
	fd := getenv("POLDER_LISTEN_FD")
	if fd == "" && getenv("LISTEN_FDS") == "1" {
		fd = "3"
	}
	if fd != "" {
		n, err := strconv.Atoi(fd)
		if err != nil || n < 3 {
			return nil, fmt.Errorf("POLDER_LISTEN_FD=%q: want a file descriptor of 3 or more", fd)
		}
		file := os.NewFile(uintptr(n), "inherited socket")
		defer file.Close() // FileListener works on a copy
		listener, err := net.FileListener(file)
		if err != nil {
			return nil, fmt.Errorf("file descriptor %d is not a listening socket: %w", n, err)
		}
		return listener, nil
	}
	port := getenv("PORT")
	if n, err := strconv.ParseUint(port, 10, 16); err != nil {
		return nil, fmt.Errorf("PORT=%q: want a number from 0 to 65535, or an inherited socket", port)
	} else {
		port = strconv.FormatUint(n, 10)
	}
	return net.Listen("tcp", net.JoinHostPort("127.0.0.1", port))
}
