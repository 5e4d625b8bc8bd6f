package gateway

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"

	"github.com/polder/polder"
	"github.com/polder/polder/prewarm/instance/process"
)

// probedMemory is a limit that no process could live with: only whether it can
// be set is of interest.
const probedMemory = 1 << 20

// degraded lists what this machine does not let the region do, a line each,
// with the remedy.
func degraded(l polder.Listen) []string {
	var lines []string
	if refused := notOurs(l.HTTPS, l.HTTP); len(refused) > 0 {
		lines = append(lines, fmt.Sprintf("may not listen on %s: choose ports from 1024 on with --https and --http, or give polder and Envoy the capability CAP_NET_BIND_SERVICE",
			strings.Join(refused, " and ")))
	}
	if why := process.Unlimited(process.Limits{Memory: probedMemory}); why != "" {
		lines = append(lines, "the memory limits of services are not in force: "+why)
	}
	return lines
}

// notOurs lists the addresses on which this user may not listen. One in use is
// none of them: an Envoy that outlived us may have it.
func notOurs(addresses ...string) []string {
	var refused []string
	for _, a := range addresses {
		listener, err := net.Listen("tcp", a)
		if err == nil {
			listener.Close()
		}
		if errors.Is(err, syscall.EACCES) {
			refused = append(refused, a)
		}
	}
	return refused
}
