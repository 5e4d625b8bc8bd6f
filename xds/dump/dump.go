package dump

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"strings"

	"google.golang.org/protobuf/types/known/anypb"

	"github.com/polder/polder/xds"
)

// Dump is what an Envoy runs with.
type Dump struct {
	// Resources are active, and came from a control plane. Those that only drain
	// their last connections are not among them.
	Resources []Resource
	// Static are those of the bootstrap, or inside of another resource.
	Static []Resource
	// Secrets are those that a control plane gave, and that are in use.
	Secrets []Secret
	// Warming are listeners and clusters that were received and are not in use yet.
	Warming []xds.Key
	// Bootstrap is the digest of the bootstrap, as DigestBootstrap gives it.
	Bootstrap string
	// Faults are the parts that could not be read.
	Faults []Fault
}

// Resource is one resource as Envoy holds it.
type Resource struct {
	xds.Key
	Version string     // that the control plane gave it; "" where Envoy does not tell
	Digest  string     // of its content, as Digest gives it
	Body    *anypb.Any // its content; load assignments in their normal form
}

// Secret is a secret as Envoy tells of it: without its content.
type Secret struct{ Name, Version string }

// Fault is a part of a dump that cannot be read.
type Fault struct{ Where, Reason string }

// Reader takes dumps apart, one after the other, of one Envoy.
type Reader struct {
	seen map[[sha256.Size]byte]Resource // of the last dump, by text
	next map[[sha256.Size]byte]Resource
}

// Parameters of Envoy's admin interface that Read needs for its dump.
const Parameters = "include_eds"

const urlPrefix = "type.googleapis.com/"

// Read takes apart the answer to /config_dump?include_eds. The error says that
// it is no dump at all.
func (r *Reader) Read(text []byte) (*Dump, error) {
	var whole struct {
		Configs []json.RawMessage `json:"configs"`
	}
	if err := strict(text, &whole); err != nil {
		return nil, fmt.Errorf("configuration dump of Envoy: %w", err)
	}
	r.next = map[[sha256.Size]byte]Resource{}
	d := &Dump{}
	for _, config := range whole.Configs {
		r.section(d, config)
	}
	d.dropDerived()
	r.seen, r.next = r.next, nil
	return d, nil
}

// dropDerived drops the load assignments that follow from a cluster's own
// configuration: that is compared already, and what its names resolve to is not
// ours to know.
func (d *Dump) dropDerived() {
	subscribed := map[string]bool{}
	for _, c := range d.Resources {
		if c.Type != xds.TypeCluster {
			continue
		}
		if name, ok := discovers(c.Body); ok {
			subscribed[name] = true
		}
	}
	kept := d.Resources[:0]
	for _, c := range d.Resources {
		if c.Type != xds.TypeEndpoint || subscribed[c.Name] {
			kept = append(kept, c)
		}
	}
	d.Resources = kept
}

func (d *Dump) fault(where string, err error) {
	d.Faults = append(d.Faults, Fault{where, strings.Join(strings.Fields(err.Error()), " ")}) // protobuf's own words vary in spaces
}

// strict decodes JSON of a known shape: another key is an error.
func strict(text []byte, into any) error {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	return decoder.Decode(into)
}
