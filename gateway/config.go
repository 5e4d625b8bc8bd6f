package gateway

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway/source"
)

// lastGoodFile holds the files of the last configuration without a fault, so
// that a restart with a bad one still has a good version of every service.
const lastGoodFile = "config.json"

// config follows the configuration and keeps what is in force. Safe for
// concurrent use.
type config struct {
	log    *slog.Logger
	source source.Source
	file   string // of the last good one
	// changed is told, with mu held, of every configuration that comes into force,
	// and of the model before it, which may be nil. May be nil itself.
	changed func(before, after *polder.Model, d polder.Difference, status ConfigStatus, by source.Provenance)

	mu     sync.Mutex // guards all below
	model  *polder.Model
	policy string // digest of model's policies
	status ConfigStatus
	told   *polder.Model     // by compare, which says what differs from it
	since  polder.Difference // of model from told
}

func newConfig(log *slog.Logger, path string, l Layout) *config {
	return &config{log: log, source: source.Source{Path: path, Log: log}, file: filepath.Join(l.LastGood(), lastGoodFile)}
}

// load reads the configuration for the first time. It fails only when neither
// it nor the last good one gives a model.
func (c *config) load() (*polder.Model, error) {
	if err := c.remember(); err != nil {
		c.log.Warn("the last good configuration cannot be used", "reason", err)
	}
	reading := c.source.Load()
	c.take(reading)
	if c.model == nil {
		return nil, fmt.Errorf("configuration %s has faults, and there is no earlier good one:\n%w", c.source.Path, faultsError(reading.Faults))
	}
	return c.model, nil
}

// watch follows the configuration until ctx ends, and hands over each new model.
func (c *config) watch(ctx context.Context, changed func(*polder.Model)) error {
	return c.source.Watch(ctx, func(r source.Reading) {
		before := c.snapshot()
		if model := c.take(r); model != before {
			changed(model)
		}
	})
}

// take brings a reading into force as far as it is good.
func (c *config) take(r source.Reading) *polder.Model {
	c.mu.Lock()
	defer c.mu.Unlock()
	digest := digestOf(r.Files)
	if c.model != nil && digest == c.status.Digest && len(r.Faults) == len(c.status.Faults) {
		return c.model
	}
	faults := r.Result.Against(c.model).Faults
	before := c.model
	model, kept := r.Result.Apply(before)
	difference := polder.Compare(before, model)
	c.since = c.since.And(difference)
	if model != nil && (model != before || c.policy == "") {
		c.policy = policyDigest(model)
	}
	c.model = model
	c.status = ConfigStatus{Source: c.source.Path, Digest: digest, Loaded: time.Now(), Faults: faults, Kept: kept}
	if c.changed != nil && model != nil {
		c.changed(before, model, difference, c.status, c.source.Provenance(context.Background()))
	}
	for _, f := range faults {
		c.log.Error("fault in the configuration", "at", f.At.String(), "service", f.Service, "fault", f.Message, "fix", f.Fix)
	}
	if len(faults) == 0 {
		c.log.Info("configuration is in force", "source", c.source.Path, "version", digest, "services", len(model.Services))
		if err := c.keep(r.Files); err != nil {
			c.log.Warn("the good configuration is not kept for a restart", "reason", err)
		}
	} else {
		c.log.Warn("configuration is in force as far as it is good", "source", c.source.Path, "version", digest,
			"faults", len(faults), "kept", kept, "fatal", r.Fatal)
	}
	return model
}

// compare is polder.Compare, and costs nothing for the model in force and the one
// that it was asked for last: the changes between them are known.
func (c *config) compare(before, after *polder.Model) polder.Difference {
	c.mu.Lock()
	known, since := before != nil && before == c.told && after == c.model, c.since
	if after == c.model {
		c.told, c.since = after, polder.Difference{}
	}
	c.mu.Unlock()
	if known {
		return since
	}
	return polder.Compare(before, after)
}

func (c *config) snapshot() *polder.Model {
	model, _ := c.inForce()
	return model
}

// policies is policyDigest of the model in force, which is made when it comes into
// force and not whenever a row is told: that is at each start and stop of an instance.
func (c *config) policies() string {
	_, policies := c.inForce()
	return policies
}

// inForce is the model, with policies as they are of it.
func (c *config) inForce() (model *polder.Model, policies string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.model, c.policy
}

func (c *config) Status() ConfigStatus {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.status
}

// keep stores the files of a configuration without faults, for the next start.
func (c *config) keep(files []polder.File) error {
	data, err := json.Marshal(files)
	if err != nil {
		return err
	}
	temporary := c.file + ".new"
	if err := os.WriteFile(temporary, data, 0o600); err != nil {
		return err
	}
	return os.Rename(temporary, c.file)
}

// remember brings the last good configuration into force before the present one.
func (c *config) remember() error {
	model, _, err := readLastGood(c.file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.model = model
	return nil
}

// LastGood reads the last configuration without a fault that a region had in
// force, with its digest. The region need not run.
func LastGood(l Layout) (*polder.Model, string, error) {
	return readLastGood(filepath.Join(l.LastGood(), lastGoodFile))
}

func readLastGood(file string) (*polder.Model, string, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, "", err
	}
	var files []polder.File
	if err := json.Unmarshal(data, &files); err != nil {
		return nil, "", fmt.Errorf("%s: %w", file, err)
	}
	model, _ := polder.Decode(files).Apply(nil)
	return model, digestOf(files), nil
}

func digestOf(files []polder.File) string {
	sum := sha256.New()
	for _, f := range files {
		fmt.Fprintf(sum, "%d %s %d\n", len(f.Name), f.Name, len(f.Data))
		sum.Write(f.Data)
	}
	return hex.EncodeToString(sum.Sum(nil)[:8])
}

func faultsError(faults []polder.Fault) error {
	errs := make([]error, len(faults))
	for i, f := range faults {
		errs[i] = f
	}
	return errors.Join(errs...)
}
