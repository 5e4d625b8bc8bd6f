package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/polder/polder"
)

// cable is a switch with one network namespace per region on it, and a recorder
// of every frame that passes between them.
type cable struct {
	t       *testing.T
	prefix  string
	address map[polder.RegionName]netip.Addr

	mu     sync.Mutex
	frames [][]byte
	socket int
}

// expectRoot is set where tests that need root must not be left out.
const expectRoot = "POLDER_EXPECT_ROOT"

// newCable makes namespaces and a switch. Without the right to it says so, loudly,
// and gives nil; where that right is expected, the test fails.
func newCable(t *testing.T, regions ...polder.RegionName) *cable {
	t.Helper()
	w := &cable{t: t, prefix: fmt.Sprintf("polder%d", os.Getpid()), address: map[polder.RegionName]netip.Addr{}}
	t.Cleanup(func() {
		for _, name := range append(slices.Clone(regions), "switch") {
			exec.Command("ip", "netns", "delete", w.prefix+string(name)).Run() // an error means that it was not made
		}
	})
	if out, err := exec.Command("ip", "netns", "add", w.prefix+"switch").CombinedOutput(); err != nil {
		text := fmt.Sprintf("NOT RUN: this test makes network namespaces, which needs root (CAP_SYS_ADMIN, CAP_NET_ADMIN, CAP_NET_RAW) and the program ip of iproute2: %v: %s", err, out)
		if os.Getenv(expectRoot) != "" {
			t.Fatal(text)
		}
		fmt.Fprintf(os.Stderr, "\n%s: %s; set %s=1 where it must not be left out\n\n", t.Name(), text, expectRoot)
		return nil
	}
	w.ip("-n", w.prefix+"switch", "link", "add", "bridge", "type", "bridge")
	w.ip("-n", w.prefix+"switch", "link", "set", "bridge", "up")
	for i, region := range regions {
		ns := w.prefix + string(region)
		w.address[region] = netip.AddrFrom4([4]byte{10, 77, 0, byte(i + 1)})
		w.ip("netns", "add", ns)
		w.ip("-n", w.prefix+"switch", "link", "add", string(region), "type", "veth", "peer", "name", "uplink", "netns", ns)
		w.ip("-n", w.prefix+"switch", "link", "set", string(region), "master", "bridge", "up")
		w.ip("-n", ns, "link", "set", "lo", "up")
		w.ip("-n", ns, "address", "add", w.address[region].String()+"/24", "dev", "uplink")
		w.ip("-n", ns, "link", "set", "uplink", "up")
	}
	w.record()
	return w
}

func (w *cable) ip(args ...string) {
	w.t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		w.t.Fatalf("ip %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

// cut takes a region off the switch.
func (w *cable) cut(region polder.RegionName) {
	w.ip("-n", w.prefix+"switch", "link", "set", string(region), "down")
}

// in runs something in the namespace of a region, or of the switch. What it dials
// or opens stays there.
func (w *cable) in(name string, do func() error) error {
	runtime.LockOSThread() // never unlocked: the thread ends with its goroutine
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return err
	}
	defer home.Close()
	there, err := os.Open("/var/run/netns/" + w.prefix + name)
	if err != nil {
		return err
	}
	defer there.Close()
	if err := unix.Setns(int(there.Fd()), unix.CLONE_NEWNET); err != nil {
		return err
	}
	done := do()
	if err := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); err != nil {
		return err
	}
	runtime.UnlockOSThread()
	return done
}

// dial connects from within a region's namespace.
func (w *cable) dial(ctx context.Context, from polder.RegionName, address string) (conn net.Conn, err error) {
	done := make(chan error, 1)
	go func() {
		done <- w.in(string(from), func() error {
			conn, err = new(net.Dialer).DialContext(ctx, "tcp", address)
			return err
		})
	}()
	err = <-done
	return conn, err
}

// record keeps every frame that enters the switch, until the test ends.
func (w *cable) record() {
	w.t.Helper()
	done := make(chan error, 1)
	go func() {
		done <- w.in("switch", func() (err error) {
			w.socket, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(htons(unix.ETH_P_ALL)))
			return err
		})
	}()
	if err := <-done; err != nil {
		w.t.Fatalf("no socket that captures: %v", err)
	}
	unix.SetsockoptInt(w.socket, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20)
	unix.SetsockoptTimeval(w.socket, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 100_000})
	stop, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		buffer := make([]byte, 1<<17)
		for {
			n, _, err := unix.Recvfrom(w.socket, buffer, 0)
			if err == nil {
				w.mu.Lock()
				w.frames = append(w.frames, bytes.Clone(buffer[:n]))
				w.mu.Unlock()
				continue
			}
			select {
			case <-stop:
				return
			default:
			}
		}
	}()
	w.t.Cleanup(func() { close(stop); <-ended; unix.Close(w.socket) })
}

func htons(v uint16) uint16 { return v<<8 | v>>8 }

// captured are the frames so far. Those that the kernel had to drop would make
// any finding worthless.
func (w *cable) captured() [][]byte {
	w.t.Helper()
	statistics, err := unix.GetsockoptTpacketStats(w.socket, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err != nil || statistics.Drops > 0 {
		w.t.Fatalf("the capture has gaps: %+v, %v", statistics, err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.frames)
}

// flow is one direction of a TCP connection.
type flow struct{ from, to netip.AddrPort }

// segments are the parts of a direction by sequence number.
type segments struct {
	first uint32 // of the SYN
	begun bool
	data  map[uint32][]byte
}

// streams puts the TCP streams of IPv4 together that begin in the capture.
func streams(frames [][]byte) map[flow][]byte {
	parts := map[flow]*segments{}
	for _, frame := range frames {
		if len(frame) < 34 || binary.BigEndian.Uint16(frame[12:]) != unix.ETH_P_IP || frame[23] != unix.IPPROTO_TCP {
			continue
		}
		ip := frame[14:]
		header, total := int(ip[0]&15)*4, int(binary.BigEndian.Uint16(ip[2:]))
		if total > len(ip) || header+20 > total {
			continue
		}
		tcp := ip[header:total]
		f := flow{
			netip.AddrPortFrom(netip.AddrFrom4([4]byte(ip[12:16])), binary.BigEndian.Uint16(tcp)),
			netip.AddrPortFrom(netip.AddrFrom4([4]byte(ip[16:20])), binary.BigEndian.Uint16(tcp[2:])),
		}
		s := parts[f]
		if s == nil {
			s = &segments{data: map[uint32][]byte{}}
			parts[f] = s
		}
		sequence, offset := binary.BigEndian.Uint32(tcp[4:]), int(tcp[12]>>4)*4
		if tcp[13]&2 != 0 { // SYN
			s.first, s.begun = sequence, true
		}
		if payload := tcp[min(offset, len(tcp)):]; len(payload) > len(s.data[sequence]) {
			s.data[sequence] = payload
		}
	}
	whole := map[flow][]byte{}
	for f, s := range parts {
		if !s.begun {
			continue
		}
		var stream []byte
		for next := s.first + 1; ; {
			payload, ok := s.data[next]
			if !ok {
				break
			}
			stream = append(stream, payload...)
			next += uint32(len(payload))
		}
		whole[f] = stream
	}
	return whole
}

// tlsRecords tells whether a stream is nothing but TLS records; the last may be cut.
func tlsRecords(stream []byte) error {
	for at := 0; at < len(stream); {
		rest := stream[at:]
		if rest[0] < 20 || rest[0] > 23 || len(rest) > 1 && rest[1] != 3 {
			return fmt.Errorf("at byte %d of %d is no TLS record: % x", at, len(stream), rest[:min(16, len(rest))])
		}
		if len(rest) < 5 {
			return nil
		}
		at += 5 + int(binary.BigEndian.Uint16(rest[3:]))
	}
	return nil
}

// holding lists where something is in the capture.
func (w *cable) holding(secret []byte) []string {
	w.t.Helper()
	frames := w.captured()
	var where []string
	for i, frame := range frames {
		if bytes.Contains(frame, secret) {
			where = append(where, fmt.Sprintf("frame %d", i))
		}
	}
	for f, stream := range streams(frames) {
		if bytes.Contains(stream, secret) {
			where = append(where, fmt.Sprintf("stream %v to %v", f.from, f.to))
		}
	}
	return where
}

func (w *cable) dialUDP(from polder.RegionName, address string) (conn net.Conn, err error) {
	done := make(chan error, 1)
	go func() {
		done <- w.in(string(from), func() error {
			conn, err = net.Dial("udp", address)
			return err
		})
	}()
	err = <-done
	return conn, err
}
