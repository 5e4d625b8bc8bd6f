package failover

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/polder/polder/bench/testbed"
)

// observation is how long the membership is watched at rest.
const observation = 10 * time.Second

// atRest counts what each peer sends while nothing happens.
func atRest(ctx context.Context, peers []*testbed.Peer) (Traffic, error) {
	began := time.Now()
	bytes, packets, err := sent(ctx, peers)
	if err != nil {
		return Traffic{}, err
	}
	if err := rest(ctx, observation); err != nil {
		return Traffic{}, err
	}
	bytesAfter, packetsAfter, err := sent(ctx, peers)
	took := time.Since(began).Seconds()
	each := took * float64(len(peers))
	return Traffic{Seconds: took, Bytes: (bytesAfter - bytes) / each, Packets: (packetsAfter - packets) / each}, err
}

func sent(ctx context.Context, peers []*testbed.Peer) (bytes, packets float64, err error) {
	for _, p := range peers {
		for name, sum := range map[string]*float64{"polder_gossip_sent_bytes_total": &bytes, "polder_gossip_packets_total": &packets} {
			v, err := metric(ctx, p, name)
			if err != nil {
				return 0, 0, fmt.Errorf("%s: %w", p.Name, err)
			}
			*sum += v
		}
	}
	return bytes, packets, nil
}

// metric reads one number from a peer.
func metric(ctx context.Context, p *testbed.Peer, name string) (float64, error) {
	client := &http.Client{Timeout: observation, Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", p.Layout.API())
	}}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://polder/metrics", nil)
	if err != nil {
		return 0, err
	}
	response, err := client.Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() {
		if rest, ok := strings.CutPrefix(lines.Text(), name); ok {
			return strconv.ParseFloat(rest[strings.LastIndexByte(rest, ' ')+1:], 64)
		}
	}
	return 0, fmt.Errorf("it does not tell %s", name)
}

// readSizes reads what the membership's benchmark printed.
func readSizes(file string) ([]Size, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("what the membership's benchmark printed: %w", err)
	}
	defer f.Close()
	sizes, err := parseSizes(f)
	if err == nil && len(sizes) == 0 {
		err = fmt.Errorf("%s has no line of BenchmarkConvergence", file)
	}
	return sizes, err
}

// parseSizes reads lines such as
//
//	BenchmarkConvergence/peers=3-2  1  123456 ns/op  410.0 B/s/peer  2.9 death-s …
func parseSizes(r io.Reader) ([]Size, error) {
	var sizes []Size
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		if len(words) < 4 || !strings.HasPrefix(words[0], "BenchmarkConvergence/peers=") {
			continue
		}
		number, _, _ := strings.Cut(strings.TrimPrefix(words[0], "BenchmarkConvergence/peers="), "-")
		peers, err := strconv.Atoi(number)
		if err != nil {
			return nil, fmt.Errorf("line %q: number of peers: %w", lines.Text(), err)
		}
		s := Size{Peers: peers}
		into := map[string]*float64{"meet-s": &s.Meet, "spread-s": &s.Spread, "slowest-s": &s.Slowest, "death-s": &s.Death, "B/s/peer": &s.Bytes, "packets/s/peer": &s.Packets}
		for i := 2; i+1 < len(words); i += 2 {
			if field, ok := into[words[i+1]]; ok {
				if *field, err = strconv.ParseFloat(words[i], 64); err != nil {
					return nil, fmt.Errorf("line %q: %w", lines.Text(), err)
				}
			}
		}
		sizes = append(sizes, s)
	}
	return sizes, lines.Err()
}
