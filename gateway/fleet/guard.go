package fleet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/polder/polder/gateway"
	"github.com/polder/polder/prewarm/instance/process"
)

// sweepGrace is how long a process that was left behind may take to end.
const sweepGrace = 5 * time.Second

// Tether returns a context that ends when the other end of the pipe closes,
// because whoever holds it has ended.
func Tether(ctx context.Context, pipe *os.File) context.Context {
	tied, cancel := context.WithCancelCause(ctx)
	go func() {
		_, err := pipe.Read(make([]byte, 1))
		if err == nil || !errors.Is(err, io.EOF) {
			err = fmt.Errorf("tether: %w", err)
		} else {
			err = errors.New("polder up has ended")
		}
		cancel(err)
	}()
	context.AfterFunc(ctx, func() { pipe.Close() })
	return tied
}

// Guard waits until the pipe closes, gives the regions their time to stop by
// themselves, and then ends every process that is still recorded below the
// state folder: regions first, then their Envoys and instances.
func Guard(ctx context.Context, log *slog.Logger, state string, pipe *os.File) error {
	tied := Tether(ctx, pipe)
	<-tied.Done()
	layouts, err := gateway.Regions(state)
	if err != nil {
		return err
	}
	var faults []error
	for _, l := range layouts {
		faults = append(faults, end(log, recordOf(l), stopGrace))
	}
	for _, l := range layouts {
		faults = append(faults, sweep(log, l.Dir()))
	}
	return errors.Join(faults...)
}

// end waits for a recorded process to end by itself, and ends it if it does not.
func end(log *slog.Logger, record string, grace time.Duration) error {
	p, err := process.Adopt(record)
	if errors.Is(err, process.ErrGone) {
		return nil
	}
	if err != nil {
		return err
	}
	log.Info("ending a process that was left behind", "process", p.Record().Label, "pid", p.PID())
	return p.Stop(context.Background(), grace)
}

// sweep ends every process that has a record anywhere below the folder.
func sweep(log *slog.Logger, dir string) error {
	var faults []error
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return nil // it went while we looked
		}
		if entry.Type().IsRegular() && strings.HasSuffix(path, ".json") {
			if r, err := process.ReadRecord(path); err == nil && r.Key != "" {
				faults = append(faults, end(log, path, sweepGrace))
			}
		}
		return nil
	})
	return errors.Join(append(faults, err)...)
}
