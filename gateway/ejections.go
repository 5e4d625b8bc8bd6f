package gateway

import (
	"context"
	"encoding/json"
	"os"
	"strings"
	"time"
)

const (
	// readEjections is how often the file is looked at in which Envoy notes whom it
	// gives up. A look is one system call, and works on every file system.
	readEjections = 100 * time.Millisecond
	// maxEjections is the size in bytes from which on that file begins anew.
	maxEjections = 1 << 20
)

// ejection is what is read of a line that Envoy writes when it takes an address out of
// a cluster because connecting to it failed, or takes it in again.
type ejection struct {
	Address string `json:"upstream_url"`
	Action  string `json:"action"`
}

// watchEjections hears from a file which peers Envoy gives up: what callers'
// connections meet is evidence before any check is due. Load reports leave such
// clusters out.
func (p *prober) watchEjections(ctx context.Context, file string) error {
	reader := ejections{newTail(file)}
	for pause(ctx, readEjections) {
		found, err := reader.read()
		if err != nil {
			p.log.Error("what Envoy says of its connections to other peers cannot be read; own checks go on", "reason", err)
			if !pause(ctx, suspicion) {
				return nil
			}
		}
		told := map[string]bool{} // each cluster that has an address tells of it
		for _, e := range found {
			if told[e.Address] {
				continue
			}
			told[e.Address] = true
			for _, peer := range p.at(ctx, strings.TrimPrefix(e.Address, "tcp://")) {
				p.givenUp(peer)
			}
		}
	}
	return nil
}

// ejections reads the file from where it read last.
type ejections struct {
	tail
}

// read gives the ejections that are new. Addresses that are taken in again are no
// news: a handshake tells sooner.
func (e *ejections) read() ([]ejection, error) {
	lines, err := e.lines()
	if err != nil {
		return nil, err
	}
	var found []ejection
	for _, text := range lines {
		var line ejection
		if json.Unmarshal(text, &line) == nil && strings.EqualFold(line.Action, "eject") {
			found = append(found, line)
		}
	}
	if e.offset > maxEjections {
		// Envoy appends: it writes on at the beginning. What it wrote since is lost, and
		// told again while it matters.
		if err := os.Truncate(e.file, 0); err != nil {
			return found, err
		}
		e.offset = 0
	}
	return found, nil
}
