package gateway

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"time"

	"github.com/polder/polder/gateway/authority"
)

// keysEvery is how often the file of the membership's keys is looked at.
const keysEvery = 2 * time.Second

// followGossipKeys takes the membership's keys from their file whenever that
// changes, without a pause. A file that cannot be read keeps those in force.
func (r *Region) followGossipKeys(ctx context.Context) error {
	held, fault := r.gossipKeys, ""
	r.keyIDs.Store(new(keyIDs(held)))
	ticker := time.NewTicker(keysEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
		keys, err := authority.LoadGossipKeys(authority.GossipKeysFile(r.layout.Authority()))
		if err == nil && !slices.EqualFunc(keys, held, bytes.Equal) {
			if err = r.gossip.Rotate(keys); err == nil {
				held = keys
				r.keyIDs.Store(new(keyIDs(held)))
				r.options.Log.Info("the membership's keys were replaced", "keys", keyIDs(held))
			}
		}
		if err == nil {
			fault = ""
		} else if err.Error() != fault { // once is enough
			fault = err.Error()
			r.options.Log.Error("the membership's keys stay as they were", "reason", err)
		}
	}
}

// keyIDs names keys without giving them away: the first four bytes of SHA-256.
func keyIDs(keys [][]byte) []string {
	ids := make([]string, len(keys))
	for i, key := range keys {
		sum := sha256.Sum256(key)
		ids[i] = hex.EncodeToString(sum[:4])
	}
	return ids
}

func (r *Region) membershipKeys() []string {
	if ids := r.keyIDs.Load(); ids != nil {
		return *ids
	}
	return nil
}
