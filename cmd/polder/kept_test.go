package main

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
)

// upgrade asks for a WebSocket.
const upgrade = "GET /upgrade HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"

// TestCallsOnAKeptWayOutlivePolder kills, with -9, the Polder of a region whose Envoy has
// long calls on a way that it leads nobody to any more, because the home moved:
//
//  1. The next Polder knows the way, and goes on keeping it: no call is cut, also once
//     Envoy is done with everything that it drains.
//  2. So does the one after it, when that is killed which never led anybody there.
//  3. What it was told of is held to the law like all that it knows: when the owner
//     forbids a region of the way, the calls on it are cut, and the present way stays.
func TestCallsOnAKeptWayOutlivePolder(t *testing.T) {
	u := startUp(t, "testdata/kept.yaml")
	socket := u.open(t, "streams.example.com", upgrade, http.StatusSwitchingProtocols)
	events := u.open(t, "streams.example.com", "GET /events HTTP/1.1\r\nAccept: text/event-stream\r\n", http.StatusOK)
	socket.echo(t, "before")
	home := u.service("fr", "streams").Home
	region, _, _ := strings.Cut(home, "-")
	other := map[string]string{"nl": "pl", "pl": "nl"}[region]
	if other == "" {
		t.Fatalf("the home is %q", home)
	}
	way := func(home string) bool {
		return strings.Contains(u.envoy("fr", "/config_dump?resource=dynamic_listeners"), `"name": "pass/`+home+"/")
	}
	moved := func() bool { return u.service("fr", "streams").Home == other+"-1" }
	// The Polder of the home hangs: its Envoy and the instance go on, and callers who
	// come now are sent to the other region.
	u.signal(syscall.SIGSTOP, "region "+region)
	eventually(t, "the home moves", moved)
	if !way(home) {
		t.Fatalf("the way to %s is not kept", home)
	}
	for round := range 2 {
		before := u.mustStatus("fr")
		u.kill(before.PID)
		eventually(t, "region fr is back, with its Envoy", func() bool {
			after, err := u.status("fr")
			return err == nil && after.PID != before.PID && after.Serving() && after.Envoy.PID == before.Envoy.PID
		})
		eventually(t, "the home is where it was", moved)
		eventually(t, "Envoy of fr drains nothing any more", func() bool {
			return strings.Contains(u.envoy("fr", "/stats?filter=^listener_manager.total_filter_chains_draining$"), ": 0")
		})
		if !way(home) || !way(other+"-1") {
			t.Errorf("Envoy has the way to the old home: %t, and to the new one: %t", way(home), way(other+"-1"))
		}
		socket.echo(t, fmt.Sprintf("after %d", round+1))
		if refused := u.mustStatus("fr").Refused; len(refused) > 0 {
			t.Errorf("the proof refuses %q", refused)
		}
	}

	text, err := os.ReadFile(u.config)
	if err != nil {
		t.Fatal(err)
	}
	u.write(strings.Replace(string(text), "allow: [nl, pl]", "allow: ["+other+"]", 1))
	for _, call := range []*stream{socket, events} {
		if line, err := call.lines.ReadString('\n'); err == nil {
			t.Errorf("a call goes on, with %q, on a way that its owner forbids", line)
		}
	}
	// Envoy's workers cut the calls before its main thread puts the old listener away.
	eventually(t, "Envoy keeps no way that is forbidden", func() bool { return !way(home) })
	u.open(t, "streams.example.com", upgrade, http.StatusSwitchingProtocols).echo(t, "on the present way")
}
