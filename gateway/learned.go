package gateway

import (
	"bytes"
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/prewarm"
)

const (
	// learnedEvery is how often what was learned of callers' rhythms is stored.
	learnedEvery = time.Minute
	// maxLearned bounds the file of what was learned, in bytes: four kilobytes for
	// each of some sixty thousand services.
	maxLearned = 256 << 20
)

// learned keeps the predictor's states across restarts. A traffic profile of a
// service is under its law: the file lies in the region's own folder, holds
// only services that are served here and whose policy permits it, and goes nowhere.
type learned struct {
	log  *slog.Logger
	file string
}

// read returns the stored states. What cannot be read was never learned.
func (l learned) read() map[polder.ServiceName][]byte {
	data, err := os.ReadFile(l.file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	stored := map[polder.ServiceName][]byte{}
	if err == nil && len(data) > maxLearned {
		err = fmt.Errorf("it has %d bytes, more than %d", len(data), maxLearned)
	}
	if err == nil {
		err = gob.NewDecoder(bytes.NewReader(data)).Decode(&stored)
	}
	if err != nil {
		l.log.Warn("what was learned of callers' rhythms cannot be read; learning anew", "file", l.file, "reason", err)
		return nil
	}
	return stored
}

func (l learned) write(states map[polder.ServiceName][]byte) error {
	var data bytes.Buffer
	if err := gob.NewEncoder(&data).Encode(states); err != nil {
		return err
	}
	temporary := l.file + ".new"
	if err := os.WriteFile(temporary, data.Bytes(), 0o600); err != nil {
		return err
	}
	return os.Rename(temporary, l.file)
}

// restore gives a new service what was learned of it before.
func (r *reconciler) restore(s *service, now time.Time) {
	data, ok := r.remembered[s.spec.Name]
	if !ok {
		return
	}
	delete(r.remembered, s.spec.Name)
	state := new(prewarm.State)
	if err := state.UnmarshalBinary(data); err != nil {
		r.log.Warn("what was learned of the service's callers cannot be used; learning anew", "service", s.spec.Name, "reason", err)
		return
	}
	state.Resume(s.tempo.at(now))
	s.state = state
}

// Learned encodes what is known of every service that is served here.
func (r *reconciler) Learned(ctx context.Context) map[polder.ServiceName][]byte {
	states := map[polder.ServiceName][]byte{}
	r.do(ctx, func(time.Time) {
		for name, s := range r.services {
			if !s.approved.MayKeep(polder.RecordProfiles) {
				continue
			}
			if data, err := s.state.MarshalBinary(); err == nil && s.state.Calls() > 0 {
				states[name] = data
			}
		}
	})
	return states
}

// keepLearned stores what was learned now and then.
func (r *Region) keepLearned(ctx context.Context) error {
	ticker := time.NewTicker(learnedEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			r.storeLearned(ctx)
		case <-ctx.Done():
			return nil
		}
	}
}

func (r *Region) storeLearned(ctx context.Context) {
	for file, values := range map[string]map[polder.ServiceName][]byte{
		r.layout.Learned(): r.reconciler.Learned(ctx), r.layout.Scores(): r.reconciler.Scored(ctx),
	} {
		if err := (learned{r.options.Log, file}).write(values); err != nil {
			r.options.Log.Error("what was learned of callers' rhythms is not stored", "file", file, "reason", err)
		}
	}
}

// Teach stores what was learned of services elsewhere as if a region had learned
// it, for replays. The region must not run.
func Teach(l Layout, states map[polder.ServiceName]*prewarm.State) error {
	encoded := map[polder.ServiceName][]byte{}
	for name, s := range states {
		data, err := s.MarshalBinary()
		if err != nil {
			return fmt.Errorf("what was learned of service %s: %w", name, err)
		}
		encoded[name] = data
	}
	if err := l.Make(); err != nil {
		return err
	}
	return (learned{file: l.Learned()}).write(encoded)
}
