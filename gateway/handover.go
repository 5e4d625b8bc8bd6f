package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"syscall"

	"github.com/polder/polder/gateway/activator"
	"github.com/polder/polder/gateway/envoy"
	"github.com/polder/polder/prewarm/instance"
	"github.com/polder/polder/regions/gossip"
)

// ErrHandOver, as the cause with which Run's context ends, ends this process's
// part alone: Envoy, the instances and the listening sockets are left for the
// next one, which takes them over. Callers wait for it, and notice nothing else.
var ErrHandOver = fmt.Errorf("handed over to the next polder (%w, %w, %w, %w)",
	envoy.ErrHandOver, instance.ErrHandOver, activator.ErrHandOver, gossip.ErrHandOver)

// listenKept listens on a Unix socket whose queue outlives this process. One
// that an earlier Polder left is taken over, with those who wait in its queue, if
// its file is still in its place.
func (r *Region) listenKept(path string) (net.Listener, error) {
	for _, name := range r.sockets.Names() {
		if name != keptName(path) {
			continue
		}
		if listener, err := r.takeOver(name); err == nil {
			return listener, nil
		}
	}
	listener, err := listenUnix(path)
	if err != nil {
		return nil, err
	}
	own := listener.(*net.UnixListener)
	own.SetUnlinkOnClose(false) // the queue may be another's by then; closeSockets removes the file
	file, err := own.File()
	if err != nil {
		listener.Close()
		return nil, fmt.Errorf("socket %s: %w", path, err)
	}
	defer file.Close()
	if err := r.sockets.Put(keptName(path), file); err != nil {
		listener.Close()
		return nil, err
	}
	return listener, nil
}

func (r *Region) takeOver(name string) (net.Listener, error) {
	file, err := r.sockets.Get(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return net.FileListener(file)
}

// keptName names a Unix socket by its path and by which file is there: a socket
// without its file cannot be reached.
func keptName(path string) string {
	info, err := os.Stat(path)
	if err != nil {
		return "unix " + path
	}
	return "unix " + path + " " + strconv.FormatUint(info.Sys().(*syscall.Stat_t).Ino, 10)
}

// closeSockets leaves the listening sockets to the next Polder, or closes them.
func (r *Region) closeSockets(ctx context.Context) error {
	err := r.reconciler.gate.kept.close()
	if errors.Is(context.Cause(ctx), ErrHandOver) {
		r.sockets.Leave()
		return err
	}
	err = errors.Join(err, r.sockets.End())
	for _, path := range []string{r.layout.Activator(), r.layout.ControlPlane()} {
		if gone := os.Remove(path); gone != nil && !errors.Is(gone, os.ErrNotExist) {
			err = errors.Join(err, gone)
		}
	}
	return err
}
