package polder

import (
	"cmp"
	"fmt"
	"path"
	"reflect"
	"slices"
)

// Bounds of a configuration. What exceeds them is a fault, before it costs
// memory or time.
const (
	MaxFiles     = 1000
	MaxFileSize  = 1 << 20  // bytes of one file
	MaxTotalSize = 32 << 20 // bytes of all files
)

// File is one file of a configuration.
type File struct {
	Name string // as people should see it in messages; unique within a configuration
	Data []byte
	// Dir is the folder from which relative directories in the file are
	// taken, so it should be absolute. The folder of Name when empty.
	Dir string
}

func (f File) folder() string {
	if f.Dir != "" {
		return path.Clean(f.Dir)
	}
	return path.Dir(f.Name)
}

// Result is what a configuration came to.
type Result struct {
	// Model is everything that is good: each service in it is valid together
	// with all the others. It is nil if Fatal.
	Model *Model
	// Faults are all that was found, by file, line and column: a thousand at
	// most, and then one that counts the rest.
	Faults []Fault
	// Fatal tells that a fault concerns more than single services and tenants
	// (syntax, regions, prices, the top of the file), so that nothing of the
	// configuration can be trusted.
	Fatal bool

	parts    *Model              // regions, prices and good tenants; nil if Decode did not make this Result
	declared []declaration       // all services of the files, good or not, by place
	tenants  map[TenantName]bool // all tenants of the files; true when good
	base     []Fault             // Faults without those of contested hosts
	dropped  int                 // faults that were too many to keep
}

// declaration is a service as the files declare it.
type declaration struct {
	name    ServiceName
	at      Position
	service *Service // nil when it has a fault of its own
	claims  []claim
	sure    bool // the claims are all that the owner wrote
}

// claim is a host with the place where a service claims it.
type claim struct {
	host Host
	at   Position
	path string
}

// Decode reads a configuration, which may be spread over files: regions,
// tenants and services are the union of what the files declare. It looks at
// everything and reports all faults at once. It is a pure function of the
// set of files; their order does not matter.
func Decode(files []File) Result {
	files = slices.Clone(files)
	slices.SortFunc(files, func(a, b File) int { return cmp.Compare(a.Name, b.Name) })
	if fault, ok := checkSize(files); !ok {
		return Result{Faults: []Fault{fault}, Fatal: true}
	}
	c := newChecker(files)
	c.read(files)
	r := Result{parts: c.check(), Fatal: c.broken.all, declared: c.declared, tenants: c.tenants, base: c.faults, dropped: c.dropped}
	if !r.Fatal {
		r.Model, _ = r.Apply(nil)
	}
	return r.Against(nil)
}

func checkSize(files []File) (Fault, bool) {
	total := 0
	for i, f := range files {
		if total += len(f.Data); total > MaxTotalSize {
			return Fault{At: Position{File: f.Name}, Message: fmt.Sprintf("the configuration has more than %d bytes", MaxTotalSize), Fix: "split it into several Polder installations"}, false
		}
		if i > 0 && f.Name == files[i-1].Name {
			return Fault{At: Position{File: f.Name}, Message: "the file was given twice", Fix: "give each file once"}, false
		}
	}
	switch {
	case len(files) == 0:
		return Fault{Message: "there is no configuration file", Fix: "write one, such as polder.yaml with regions: and services:"}, false
	case len(files) > MaxFiles:
		return Fault{Message: fmt.Sprintf("the configuration has %d files, more than %d", len(files), MaxFiles), Fix: "put several services into one file"}, false
	}
	return Fault{}, true
}

// read parses the files and decodes their union.
func (c *checker) read(files []File) {
	var root *node
	merged := make(map[string]*node) // sections that may be spread over files
	for _, f := range files {
		tree, faults := grow(f)
		if len(faults) > 0 {
			c.faults = append(c.faults, faults...)
			c.broken.all, c.partial = true, true
			continue
		}
		if tree.kind != mappingNode {
			c.add(tree.at, "", "the file is "+tree.describe()+"; expected a mapping", "write regions: and services:")
			c.partial = true
			continue
		}
		if root == nil {
			root = &node{kind: mappingNode, at: tree.at}
			c.places[""] = place{tree.at, tree.at}
		}
		c.merge(root, merged, tree)
	}
	if root != nil {
		c.structure(root, reflect.ValueOf(&c.shape).Elem(), "", "")
	}
}

// merge adds the top of one file to the root of all.
func (c *checker) merge(root *node, merged map[string]*node, tree *node) {
	here := make(map[string]bool)
	for _, e := range tree.entries {
		spread := e.name == "regions" || e.name == "tenants" || e.name == "services"
		section, seen := merged[e.name]
		switch {
		case !spread || !seen || here[e.name] || e.value.kind != mappingNode || section.kind != mappingNode:
			if spread && e.value.kind == mappingNode {
				whole := *e.value
				whole.entries = slices.Clone(whole.entries)
				e.value = &whole
			}
			if spread && !seen {
				merged[e.name] = e.value
			}
			root.entries = append(root.entries, e)
		default:
			section.entries = append(section.entries, e.value.entries...)
		}
		here[e.name] = true
	}
}
