package gateway

import "strings"

func canonicalHost(name string) string { return strings.TrimSuffix(strings.ToLower(name), ".") }

// mostSpecific finds what belongs to a host: to the exact name first, then to the
// wildcards above it, the longest first. It matches as the entrypoint's trie does.
func mostSpecific[V any](host string, get func(name string) (V, bool)) (V, bool) {
	name, rest := host, host
	for {
		if v, ok := get(name); ok {
			return v, true
		}
		_, parent, found := strings.Cut(rest, ".")
		if !found {
			var none V
			return none, false
		}
		name, rest = "*."+parent, parent
	}
}
