package main

import (
	"io"
	"net"
	"os/exec"
	"slices"
	"sync"
	"syscall"
	"testing"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway"
)

// TestClientsOfTwoPeers runs two peers of a region that both take gRPC programs
// without an Envoy, behind one name.
//
//  1. A program follows the first one, and calls an instance there straight.
//  2. That peer's Polder is killed while the program calls without a pause: it goes on
//     with the other one, which starts an instance of its own. No call fails, and a
//     stream stays at the instance that it is at.
//  3. The other peer gives it the region's other services too, and none that the
//     region may not serve.
//  4. A program that starts when the first peer is back finds it there as before.
func TestClientsOfTwoPeers(t *testing.T) {
	u := newPeersForClients(t)
	first := u.peer("fr", "FR_XDS", "FR_CLIENTS").Process.Pid
	u.peer("fr-2", "FR-2_XDS", "FR-2_CLIENTS")
	name := balance(t, u.at["FR_XDS"], u.at["FR-2_XDS"])
	folder := u.bootstrap("fr", "checkout")
	checkout := u.program(folder, u.at["FR_XDS"], name)
	billing := checkout.service("billing")
	old := billing.straight("fr")
	ended := billing.watchEnd()
	calls := billing.callOn()
	u.kill(first)
	billing.straight("fr-2")
	if n, err := calls(); err != nil {
		t.Errorf("one of %d calls failed: %v", n, err)
	}
	select {
	case err := <-ended:
		t.Errorf("the stream at %s has ended: %v", old, err)
	default:
	}
	if from := checkout.service("inherits").must(); from != u.at["FR-2_CLIENTS"] {
		t.Errorf("a service that sleeps was answered by %s, want the other peer's activator", from)
	}
	checkout.service("dutch").refused("a client has nobody for a service that its region may not serve, at the other peer either")

	u.peer("fr", "FR_XDS", "FR_CLIENTS")
	again := u.program(folder, u.at["FR_XDS"], name, `"600s"`, `"599s"`) // as another process: it shares nothing with the first
	again.service("catalog").straight("fr")
	billing.must()
}

// TestClientsOfAPeerThatStops ends one of two such peers as its service manager does,
// while a program calls an instance there without a pause. No call fails: the program
// has the other peer before the instance ends.
func TestClientsOfAPeerThatStops(t *testing.T) {
	u := newPeersForClients(t)
	first := u.peer("fr", "FR_XDS", "FR_CLIENTS")
	u.peer("fr-2", "FR-2_XDS", "FR-2_CLIENTS")
	name := balance(t, u.at["FR_XDS"], u.at["FR-2_XDS"])
	billing := u.program(u.bootstrap("fr", "checkout"), u.at["FR_XDS"], name).service("billing")
	billing.straight("fr")
	eventually(t, "the first peer knows the other one as one that serves", func() bool {
		s, err := u.status("fr")
		return err == nil && slices.ContainsFunc(s.Peers, func(p gateway.PeerStatus) bool { return p.Peer == "fr-2" && p.Healthy && !p.Suspected })
	})
	calls := billing.callOn()
	if err := first.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the first peer has ended", func() bool { return !alive(first.Process.Pid) })
	billing.straight("fr-2")
	if n, err := calls(); err != nil {
		t.Errorf("one of %d calls failed: %v", n, err)
	}
}

// peersForClients is a region with two peers, each started by itself.
type peersForClients struct {
	*clientFleet
	gossip map[polder.RegionName]string
}

func newPeersForClients(t *testing.T) *peersForClients {
	t.Helper()
	u := clientFleetAt(t, "testdata/clients.yaml")
	u.at["FR-2_XDS"], u.at["FR-2_CLIENTS"] = freePort(t), freePort(t)
	u.listen = map[polder.RegionName]polder.Listen{}
	return &peersForClients{u, map[polder.RegionName]string{"fr": freePort(t), "fr-2": freePort(t)}}
}

// peer starts a peer of fr that takes clients at two of the fleet's addresses, and
// waits until it serves.
func (u *peersForClients) peer(peer polder.RegionName, xds, clients string) *exec.Cmd {
	t := u.t
	t.Helper()
	name := gateway.FirstPeer("fr")
	if peer != "fr" {
		name = string(peer)
	}
	c := command(t, "run", "--region", "fr", "--name", name, "--config", u.config, "--state", u.state, "--tools", u.tools,
		"--https", freePort(t), "--http", freePort(t), "--peer", freePort(t), "--gossip", u.gossip[peer], "--join", u.gossip["fr"], "--join", u.gossip["fr-2"],
		"--xds", u.at[xds], "--clients", u.at[clients])
	u.runUntilEnd(c, peer)
	eventually(t, name+" serves", func() bool { s, err := u.status(peer); return err == nil && s.Serving() && s.PID == c.Process.Pid })
	return c
}

// balance takes connections, as a name with two addresses or a load balancer would,
// and passes each on to the first of the addresses that takes it. It gives the name.
func balance(t *testing.T, addresses ...string) (name string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var conns sync.WaitGroup
	t.Cleanup(func() { listener.Close(); conns.Wait() })
	pass := func(from net.Conn) {
		defer from.Close()
		for _, address := range addresses {
			to, err := net.Dial("tcp", address)
			if err != nil {
				continue
			}
			conns.Go(func() {
				io.Copy(to, from)
				to.Close()
			})
			io.Copy(from, to)
			return
		}
	}
	conns.Go(func() {
		for {
			from, err := listener.Accept()
			if err != nil {
				return
			}
			conns.Go(func() { pass(from) })
		}
	})
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	return net.JoinHostPort("localhost", port)
}
