package dump

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
)

// Override is a runtime value that a layer other than the bootstrap's sets: it
// can change what a resource means without changing the resource.
type Override struct{ Layer, Key, Value string }

// ReadRuntime finds the overrides in the answer to /runtime. own are the layers
// whose values the bootstrap sets.
func ReadRuntime(text []byte, own []string) ([]Override, error) {
	var answer struct {
		Layers  []string `json:"layers"`
		Entries map[string]struct {
			Final  string   `json:"final_value"`
			Values []string `json:"layer_values"`
		} `json:"entries"`
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		return nil, fmt.Errorf("runtime values of Envoy: %w", err)
	}
	var list []Override
	for _, key := range slices.Sorted(maps.Keys(answer.Entries)) {
		for i, value := range answer.Entries[key].Values {
			layer := "unnamed"
			if i < len(answer.Layers) {
				layer = answer.Layers[i]
			}
			if value != "" && !slices.Contains(own, layer) {
				list = append(list, Override{layer, key, value})
			}
		}
	}
	return list, nil
}
