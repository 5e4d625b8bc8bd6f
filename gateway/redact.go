package gateway

import (
	"bytes"
	"encoding/json"
	"strings"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway/ledger"
	"github.com/polder/polder/regions/law"
)

// redaction hides from a region's ledger the services whose policy does not let
// it name them: each of their names and hosts becomes a pseudonym, by which
// whoever knows the name finds it again. The nil map hides nothing.
type redaction map[string]string // pseudonyms by name or host

// newRedaction is for a region, under a model and the one before it.
func newRedaction(here polder.RegionName, models ...*polder.Model) redaction {
	hidden := redaction{}
	for _, m := range models {
		if m == nil {
			continue
		}
		for _, s := range m.Services {
			if law.Permit(s.Residency, m.Regions).MayKeep(polder.RecordLedger, here) {
				continue
			}
			hidden[string(s.Name)] = ledger.Pseudonym(string(s.Name))
			for _, h := range s.Hosts {
				hidden[string(h)] = ledger.Pseudonym(string(h))
			}
		}
	}
	return hidden
}

// apply gives what of a record's data may be written. What cannot be encoded is
// handed on, for the ledger to say so.
func (r redaction) apply(data any) any {
	if len(r) == 0 {
		return data
	}
	encoded, err := json.Marshal(data)
	if err != nil {
		return data
	}
	var tree any
	decoder := json.NewDecoder(bytes.NewReader(encoded))
	decoder.UseNumber()
	if decoder.Decode(&tree) != nil {
		return data
	}
	return r.walk(tree)
}

func (r redaction) walk(node any) any {
	switch v := node.(type) {
	case string:
		return r.text(v)
	case []any:
		for i := range v {
			v[i] = r.walk(v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = r.walk(v[k])
		}
	}
	return node
}

// text replaces each word that names a hidden service, or a host of one.
func (r redaction) text(s string) string {
	var b strings.Builder
	for len(s) > 0 {
		n := strings.IndexFunc(s, func(c rune) bool { return !nameRune(c) })
		if n < 0 {
			n = len(s)
		}
		if n > 0 {
			b.WriteString(r.word(s[:n]))
			s = s[n:]
			continue
		}
		end := strings.IndexFunc(s, nameRune)
		if end < 0 {
			end = len(s)
		}
		b.WriteString(s[:end])
		s = s[end:]
	}
	return b.String()
}

func nameRune(c rune) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '.' || c == '*' || c == '_'
}

func (r redaction) word(word string) string {
	name := strings.ToLower(strings.TrimRight(word, ".")) // a sentence may end with it
	tail := word[len(name):]
	hidden, ok := mostSpecific(name, func(name string) (string, bool) { // it may be below a wildcard of a hidden service
		hidden, ok := r[name]
		return hidden, ok
	})
	if !ok {
		return word
	}
	return hidden + tail
}
