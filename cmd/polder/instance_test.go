package main

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync/atomic"
	"testing"
	"time"
)

// testProgram is this test binary, which can be an instance.
func testProgram(t *testing.T) string {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return program
}

// runInstance is an instance whose start takes the duration. It answers on
//
//	/events     with server-sent events, one for each line that is posted to /say
//	/upgrade    with a WebSocket handshake, and then whatever is sent
//	/work       after the duration in for, with how many such requests were in progress when it came
//	/stay       with a header, and nothing more until its caller leaves
//	/           with what it was sent
//
// and with what kindsOf says.
func runInstance(after string) int {
	pause, err := time.ParseDuration(after)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	<-time.After(pause) // this is the program's start, not a wait of a test
	said := make(chan string)
	mux := http.NewServeMux()
	mux.HandleFunc("/events", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		w.Header().Set("X-Instance", fmt.Sprint(os.Getpid()))
		out := http.NewResponseController(w)
		out.Flush()
		for {
			select {
			case line := <-said:
				fmt.Fprintf(w, "data: %s\n\n", line)
				out.Flush()
			case <-r.Context().Done():
				return
			}
		}
	})
	mux.HandleFunc("POST /say", func(w http.ResponseWriter, r *http.Request) {
		line, _ := io.ReadAll(r.Body)
		select {
		case said <- string(line):
		case <-r.Context().Done():
		}
	})
	mux.HandleFunc("/upgrade", func(w http.ResponseWriter, r *http.Request) {
		conn, both, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		lines := bufio.NewScanner(both)
		for lines.Scan() {
			fmt.Fprintf(conn, "%s\n", lines.Text())
		}
	})
	var working atomic.Int32
	mux.HandleFunc("/work", func(w http.ResponseWriter, r *http.Request) {
		defer working.Add(-1)
		inProgress := working.Add(1)
		took, _ := time.ParseDuration(r.FormValue("for"))
		<-time.After(took) // this is the program's work, not a wait of a test
		fmt.Fprint(w, inProgress)
	})
	mux.HandleFunc("/stay", func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "instance %d was sent %q", os.Getpid(), body)
	})
	server := http.Server{Addr: "127.0.0.1:" + os.Getenv("PORT"), Handler: kindsOf(mux), ReadHeaderTimeout: patience}
	fmt.Fprintln(os.Stderr, server.ListenAndServe())
	return 1
}
