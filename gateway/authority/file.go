package authority

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v4"
	"golang.org/x/sys/unix"
)

// LockWait is how long a call waits for another process that creates or renews
// something in the same folder, which takes milliseconds.
const LockWait = 10 * time.Second

const (
	gossipFile    = "gossip.key"
	gossipKeySize = 32 // bytes: AES-256
)

// locked runs work while holding the folder's lock, which excludes other
// goroutines as well as other processes.
func locked(dir string, work func() error) error {
	lock, err := os.OpenFile(filepath.Join(dir, ".lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close() // releases the lock
	try := backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(time.Millisecond),
		backoff.WithMaxInterval(50*time.Millisecond),
		backoff.WithMaxElapsedTime(LockWait))
	err = backoff.Retry(func() error {
		err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil || errors.Is(err, unix.EWOULDBLOCK) || errors.Is(err, unix.EINTR) {
			return err
		}
		return backoff.Permanent(err)
	}, try)
	if err != nil {
		return fmt.Errorf("lock %s within %s: %w: another polder process may hang there", lock.Name(), LockWait, err)
	}
	return work()
}

// writeFile puts a whole file in place, or leaves the old one as it was. The
// bytes are on disk before the name is, so a crash leaves no half of a key.
func writeFile(file string, content []byte, mode fs.FileMode) error {
	temporary, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+".*") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(temporary.Name())
	_, errWrite := temporary.Write(content)
	err = errors.Join(errWrite, temporary.Chmod(mode), temporary.Sync(), temporary.Close())
	if err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	return os.Rename(temporary.Name(), file)
}

// readSecret reads a file that its owner alone may read. A wider mode is an
// error and not mended here: who could read it may have done so.
func readSecret(file string) ([]byte, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s holds a secret and has mode %#o: others may have read it; replace it, or chmod 600 it if you know that nobody did", file, info.Mode().Perm())
	}
	return os.ReadFile(file)
}

// GossipKeysFile is where the authority in dir keeps the membership's keys.
func GossipKeysFile(dir string) string { return filepath.Join(dir, gossipFile) }

// LoadGossipKeys reads the membership's keys: one a line, 32 bytes in base64,
// the one that encrypts first. The file must be readable by its owner alone.
func LoadGossipKeys(file string) ([][]byte, error) {
	text, err := readSecret(file)
	if err != nil {
		return nil, fmt.Errorf("gossip keys: %w", err)
	}
	var keys [][]byte
	for number, line := range strings.Split(string(text), "\n") {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		key, err := base64.StdEncoding.DecodeString(line)
		if err != nil || len(key) != gossipKeySize {
			return nil, fmt.Errorf("gossip keys: %s:%d: not %d bytes in base64: write a line of `head -c 32 /dev/urandom | base64`", file, number+1, gossipKeySize)
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("gossip keys: %s is empty: write a line of `head -c 32 /dev/urandom | base64`", file)
	}
	return keys, nil
}

// loadGossip reads the membership's keys, or creates one. The caller holds the
// folder's lock.
func (a *Authority) loadGossip() error {
	file := filepath.Join(a.dir, gossipFile)
	if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
		key := make([]byte, gossipKeySize)
		rand.Read(key)
		line := base64.StdEncoding.EncodeToString(key) + "\n"
		if err := writeFile(file, []byte(line), 0o600); err != nil {
			return err
		}
	}
	keys, err := LoadGossipKeys(file)
	a.gossip = keys
	return err
}

func cloneKeys(keys [][]byte) [][]byte {
	copies := make([][]byte, len(keys))
	for i, key := range keys {
		copies[i] = slices.Clone(key)
	}
	return copies
}

// WriteFile puts a whole file in place that its owner alone can read, or leaves
// the old one as it was.
func WriteFile(file string, content []byte) error { return writeFile(file, content, 0o600) }
