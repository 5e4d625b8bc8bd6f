package gateway

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
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
	reader := ejections{file: file}
	if info, err := os.Stat(reader.file); err == nil {
		reader.offset = info.Size() // what an earlier Polder read
	}
	for pause(ctx, readEjections) {
		found, err := reader.read()
		if err != nil {
			p.log.Error("what Envoy says of its connections to other peers cannot be read; own checks go on", "reason", err)
			if !pause(ctx, suspicion) {
				return nil
			}
		}
		for _, e := range found {
			for _, peer := range p.at(ctx, strings.TrimPrefix(e.Address, "tcp://")) {
				p.givenUp(peer)
			}
		}
	}
	return nil
}

// ejections reads the file from where it read last.
type ejections struct {
	file   string
	offset int64
}

// read gives the ejections that are new. Addresses that are taken in again are no
// news: a handshake tells sooner.
func (e *ejections) read() ([]ejection, error) {
	info, err := os.Stat(e.file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil || info.Size() == e.offset {
		return nil, err
	}
	if info.Size() < e.offset {
		e.offset = 0 // another file
	}
	file, err := os.Open(e.file)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	text := make([]byte, min(info.Size()-e.offset, maxEjections))
	n, err := file.ReadAt(text, e.offset)
	if err != nil && err != io.EOF {
		return nil, err
	}
	end := bytes.LastIndexByte(text[:n], '\n') + 1
	e.offset += int64(end)
	var found []ejection
	for lines := bufio.NewScanner(bytes.NewReader(text[:end])); lines.Scan(); {
		var line ejection
		if json.Unmarshal(lines.Bytes(), &line) == nil && strings.EqualFold(line.Action, "eject") {
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
