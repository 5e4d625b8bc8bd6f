package gossip

import (
	"bytes"
	"fmt"
	"slices"
	"sync"

	"github.com/hashicorp/memberlist"
)

// keyring changes memberlist's keys while it uses them.
type keyring struct {
	ring *memberlist.Keyring
	mu   sync.Mutex // one rotation at a time
}

func newKeyring(keys [][]byte) (*keyring, error) {
	if err := checkKeys(keys); err != nil {
		return nil, err
	}
	keys = copied(keys)
	ring, err := memberlist.NewKeyring(keys, keys[0])
	if err != nil {
		return nil, fmt.Errorf("keys: %w", err)
	}
	return &keyring{ring: ring}, nil
}

func (k *keyring) rotate(keys [][]byte) error {
	if err := checkKeys(keys); err != nil {
		return fmt.Errorf("rotate: %w", err)
	}
	keys = copied(keys) // memberlist keeps what it is given
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, key := range keys {
		if err := k.ring.AddKey(key); err != nil {
			return fmt.Errorf("rotate: %w", err)
		}
	}
	if err := k.use(keys[0]); err != nil {
		return err
	}
	for _, old := range slices.Clone(k.ring.GetKeys()) {
		if !contains(keys, old) {
			if err := k.remove(old, keys[0]); err != nil {
				return err
			}
		}
	}
	return nil
}

func (k *keyring) use(key []byte) error {
	if bytes.Equal(k.ring.GetPrimaryKey(), key) {
		return nil
	}
	if err := k.ring.UseKey(key); err != nil {
		return fmt.Errorf("rotate: %w", err)
	}
	return nil
}

// remove takes one key away. Subtle: memberlist's RemoveKey closes the gap in
// the very slice that decryption may be reading at that moment, unless the key
// is the last one. So the key is made the last first: whatever stands behind it
// is used once, which brings that to the front, and then first is used again.
// In between, for some microseconds, packets are encrypted with a key that is to
// stay; if another peer does not have it yet it misses a packet.
func (k *keyring) remove(key, first []byte) error {
	for {
		held := k.ring.GetKeys()
		last := held[len(held)-1]
		if bytes.Equal(last, key) {
			break
		}
		if err := k.use(last); err != nil {
			return err
		}
	}
	if err := k.use(first); err != nil {
		return err
	}
	if err := k.ring.RemoveKey(key); err != nil {
		return fmt.Errorf("rotate: %w", err)
	}
	return nil
}

func copied(keys [][]byte) [][]byte {
	out := make([][]byte, len(keys))
	for i, k := range keys {
		out[i] = slices.Clone(k)
	}
	return out
}

func contains(keys [][]byte, key []byte) bool {
	return slices.ContainsFunc(keys, func(k []byte) bool { return bytes.Equal(k, key) })
}
