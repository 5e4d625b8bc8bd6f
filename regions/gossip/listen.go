package gossip

import (
	"context"
	"fmt"
	"log"
	"net"

	"github.com/hashicorp/memberlist"
)

// listen opens UDP and TCP on the address to bind.
func listen(ctx context.Context, o Options, library *log.Logger) (*network, error) {
	host, port, err := hostPort(o.Bind)
	if err != nil {
		return nil, fmt.Errorf("bind: %w", err)
	}
	ip := "0.0.0.0"
	if host != "" {
		at, err := resolve(ctx, o.Bind)
		if err != nil {
			return nil, fmt.Errorf("bind %s: %w", o.Bind, err)
		}
		ip = at[0].Addr().String()
	}
	config := &memberlist.NetTransportConfig{BindAddrs: []string{ip}, BindPort: port, Logger: library}
	t, err := memberlist.NewNetTransport(config)
	for range freePortTries {
		if err == nil || port != 0 {
			break
		}
		t, err = memberlist.NewNetTransport(config) // the TCP port that was picked may be taken for UDP
	}
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %s (UDP and TCP): %w; is the address this machine's, and does no other polder use it?", o.Bind, err)
	}
	return &network{transport: t, dial: dial}, nil
}

const freePortTries = 9

func dial(ctx context.Context, address string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", address)
}
