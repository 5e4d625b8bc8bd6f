package main

import (
	"crypto/tls"
	"net/http"
	"syscall"
	"testing"
	"time"
)

// TestHelloWithResidentKey greets a service whose key Envoy has already, so that
// nothing asks for it:
//
//  1. A ClientHello that resumes a session wakes the service before there is a request.
//  2. A Polder that does not answer, or is gone, holds up nobody.
func TestHelloWithResidentKey(t *testing.T) {
	u := startUp(t, "testdata/cold.yaml")
	sessions := tls.NewLRUClientSessionCache(4)
	config := &tls.Config{RootCAs: u.roots, ServerName: "resident.example.com", NextProtos: []string{"http/1.1"}, ClientSessionCache: sessions}
	u.ask(t, config) // and a ticket comes with the answer
	eventually(t, "resident is asleep", func() bool { return len(u.service("fr", "resident").Instances) == 0 })
	before := u.service("fr", "resident").Totals
	conn := u.greet(t, config)
	if !conn.ConnectionState().DidResume {
		t.Error("the session is not resumed")
	}
	eventually(t, "the ClientHello has woken resident", func() bool { return u.service("fr", "resident").Totals.Starts > before.Starts })
	if after := u.service("fr", "resident").Totals; after.Cold != before.Cold {
		t.Error("somebody waited for it")
	}
	stay := u.open(t, "resident.example.com", "GET /stay HTTP/1.1\r\n", http.StatusOK) // nor does it fall asleep meanwhile
	defer stay.Close()
	eventually(t, "Envoy sends requests straight to its instance", func() bool {
		u.ask(t, config)
		return u.service("fr", "resident").Totals.Direct > before.Direct
	})

	status, err := u.status("fr")
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(status.PID, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	u.ask(t, config) // Envoy waits for an answer, and not for long
	u.kill(status.PID)
	u.ask(t, config)
}

// greet makes a TLS connection to the entrypoint of fr, and asks for nothing.
func (u *fleetUnderTest) greet(t *testing.T, config *tls.Config) *tls.Conn {
	t.Helper()
	conn, err := tls.Dial("tcp", u.listen["fr"].HTTPS, config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(patience))
	return conn
}

// ask sends one request on a connection of its own.
func (u *fleetUnderTest) ask(t *testing.T, config *tls.Config) {
	t.Helper()
	s := newStream(t, u.greet(t, config), "GET / HTTP/1.1\r\nConnection: close\r\n", config.ServerName, http.StatusOK)
	for {
		if _, err := s.lines.ReadString('\n'); err != nil {
			return
		}
	}
}
