package ledger

import (
	"crypto/sha256"
	"encoding/hex"
)

// Pseudonym stands in a ledger for a name that it may not hold. Whoever knows
// the name can make it and find the records; who does not can only try names.
func Pseudonym(name string) string {
	sum := sha256.Sum256([]byte("polder ledger\n" + name))
	return "~" + hex.EncodeToString(sum[:8])
}
