package polder

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
)

// maxAliased bounds how many values aliases may stand for in one decoding.
const maxAliased = 100_000

// maxFaults bounds how many faults are told: nobody reads more.
const maxFaults = 1000

// place is where a value and its key stand. For an item of a list both are the
// item's.
type place struct{ key, value Position }

// decoder fills file shapes from nodes. It remembers where everything stood,
// by path, and collects faults; it never stops at one.
type decoder struct {
	places  map[string]place
	faults  []Fault
	faulty  map[string]bool // paths with a fault, and all above them
	service ServiceName     // to which faults are put down, "" outside of services
	tenant  TenantName      // likewise
	broken  scope           // who has faults
	dropped int             // faults beyond maxFaults
	alias   int             // how many aliases lead to the value at hand
	aliased int             // values reached through aliases
	partial bool            // a file could not be read, so what is missing may be in it
}

// scope says whom faults concern. A fault that concerns neither a service nor
// a tenant is everybody's.
type scope struct {
	all      bool
	services map[ServiceName]bool
	tenants  map[TenantName]bool
}

func newDecoder() *decoder {
	return &decoder{
		places: make(map[string]place),
		faulty: make(map[string]bool),
		broken: scope{services: make(map[ServiceName]bool), tenants: make(map[TenantName]bool)},
	}
}

// wrong records a fault in the value at path.
func (d *decoder) wrong(path, message, fix string) { d.add(d.places[path].value, path, message, fix) }

// wrongKey records a fault of the key at path: of its name, or of something
// that is missing below it.
func (d *decoder) wrongKey(path, message, fix string) { d.add(d.places[path].key, path, message, fix) }

func (d *decoder) add(at Position, path, message, fix string) {
	most := maxFaults
	if d.service == "" {
		most *= 2 // what stops everything is told before what stops one service
	}
	if len(d.faults) < most {
		d.faults = append(d.faults, Fault{At: at, Path: path, Service: d.service, Message: message, Fix: fix})
	} else {
		d.dropped++
	}
	for p := path; p != "" && !d.faulty[p]; p = p[:max(0, strings.LastIndexAny(p, ".["))] {
		d.faulty[p] = true
	}
	switch {
	case d.service != "":
		d.broken.services[d.service] = true
	case d.tenant != "":
		d.broken.tenants[d.tenant] = true
	default:
		d.broken.all = true
	}
}

// own puts the faults of what follows down to the service or tenant that the
// path names, until the returned function is called.
func (d *decoder) own(parent, name string) (release func()) {
	switch parent {
	case "services":
		d.service = ServiceName(name)
	case "tenants":
		d.tenant = TenantName(name)
	default:
		return func() {}
	}
	return func() { d.service, d.tenant = "", "" }
}

// key appends a key to a path.
func key(path, name string) string {
	if !plainKey(name) {
		return path + "[" + strconv.Quote(name) + "]"
	}
	if path == "" {
		return name
	}
	return path + "." + name
}

func plainKey(name string) bool {
	for _, r := range name {
		if !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_') {
			return false
		}
	}
	return name != ""
}

func index(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }

// field is one key of a file shape.
type field struct {
	name     string
	index    int
	required bool
	example  string
}

func fieldsOf(t reflect.Type) []field {
	fields := make([]field, 0, t.NumField())
	for i := range t.NumField() {
		f := t.Field(i)
		name, ok := f.Tag.Lookup("yaml")
		if !ok {
			continue
		}
		rule := strings.Split(f.Tag.Get("jsonschema"), ",")
		fields = append(fields, field{name, i, rule[0] == "required", f.Tag.Get("example")})
	}
	return fields
}

// value decodes n into v. example is how the whole key would be written.
func (d *decoder) value(n *node, v reflect.Value, path, example string) {
	if n.aliased {
		d.alias++
		defer func() { d.alias-- }()
	}
	if d.alias > 0 {
		if d.aliased++; d.aliased == maxAliased+1 {
			d.service, d.tenant = "", ""
			d.add(n.at, path, fmt.Sprintf("aliases stand for more than %d values", maxAliased), "write fewer aliases, or smaller anchors")
		}
		if d.aliased > maxAliased {
			return
		}
	}
	if f, ok := v.Addr().Interface().(*failoverShape); ok {
		f.decode(d, n, path)
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		d.value(n, v.Elem(), path, example)
	case reflect.Struct:
		d.structure(n, v, path, example)
	case reflect.Map:
		d.mapOf(n, v, path, example)
	case reflect.Slice:
		d.list(n, v, path, example)
	case reflect.String:
		d.text(n, v, path, example)
	case reflect.Int:
		i, err := strconv.ParseInt(n.text, 0, 32)
		if n.kind != intNode || err != nil {
			d.mistaken(n, path, "a whole number", example)
			return
		}
		v.SetInt(i)
	case reflect.Float64:
		f, err := strconv.ParseFloat(n.text, 64)
		if (n.kind != intNode && n.kind != floatNode) || err != nil {
			d.mistaken(n, path, "a number", example)
			return
		}
		v.SetFloat(f)
	default:
		panic("polder: file shape holds a " + v.Kind().String())
	}
}

// mistaken says that something else was expected.
func (d *decoder) mistaken(n *node, path, expected, example string) {
	d.wrong(path, fmt.Sprintf("is %s; expected %s", n.describe(), expected), "write "+example)
}

func (d *decoder) text(n *node, v reflect.Value, path, example string) {
	ownSyntax := v.Type() != reflect.TypeFor[string]()
	switch n.kind {
	case textNode:
		v.SetString(n.text)
	case intNode, floatNode, boolNode:
		if ownSyntax {
			v.SetString(n.text)
			return
		}
		d.wrong(path, fmt.Sprintf("is %s; expected text", n.describe()), fmt.Sprintf("write %q, in quotes", n.text))
	default:
		d.mistaken(n, path, "text", example)
	}
}

func (d *decoder) list(n *node, v reflect.Value, path, example string) {
	if n.kind != listNode {
		fix := example
		if n.kind == textNode && v.Type().Elem().Kind() == reflect.String {
			name, _, _ := strings.Cut(example, ":")
			fix = name + ": [" + strings.Join(strings.Fields(n.text), ", ") + "]"
		}
		d.mistaken(n, path, "a list", fix)
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), len(n.items), len(n.items)))
	for i, item := range n.items {
		p := index(path, i)
		d.places[p] = place{item.at, item.at}
		d.value(item, v.Index(i), p, example)
	}
}

func (d *decoder) mapOf(n *node, v reflect.Value, path, example string) {
	if n.kind != mappingNode {
		d.mistaken(n, path, "a mapping", example)
		return
	}
	v.Set(reflect.MakeMapWithSize(v.Type(), len(n.entries)))
	for _, e := range n.entries {
		p := key(path, e.name)
		release := d.own(path, e.name)
		if d.once(e, p) {
			value := reflect.New(v.Type().Elem()).Elem()
			d.value(e.value, value, p, exampleEntry(e.name, example))
			v.SetMapIndex(reflect.ValueOf(e.name), value)
		}
		release()
	}
}

// exampleEntry turns the example of a mapping, "services: { billing: { … } }",
// into one of an entry that has another name.
func exampleEntry(name, example string) string {
	_, inner, ok := strings.Cut(example, ": { ")
	_, value, ok2 := strings.Cut(inner, ": ")
	if !ok || !ok2 {
		return name
	}
	return name + ": " + strings.TrimSuffix(value, " }")
}

// once notes where an entry stands, and refuses one whose key was there before.
func (d *decoder) once(e entry, path string) bool {
	if first, ok := d.places[path]; ok {
		d.add(e.at, path, fmt.Sprintf("%s is there twice; the first is at %s", quote(e.name), first.key), "remove one of the two")
		return false
	}
	d.places[path] = place{e.at, e.value.at}
	return true
}

func (d *decoder) structure(n *node, v reflect.Value, path, example string) {
	if n.kind != mappingNode {
		d.mistaken(n, path, "a mapping", example)
		return
	}
	fields := fieldsOf(v.Type())
	present := make(map[string]bool, len(n.entries))
	for _, e := range n.entries {
		p := key(path, e.name)
		f, ok := findField(fields, e.name)
		if !ok {
			d.places[p] = place{e.at, e.value.at}
			d.unknownKey(p, e.name, v.Type(), fields)
			continue
		}
		if d.once(e, p) {
			d.value(e.value, v.Field(f.index), p, f.name+": "+f.example)
		}
		present[f.name] = true
	}
	for _, f := range fields {
		if f.required && !present[f.name] {
			d.missing(path, f.name, f.example)
		}
	}
}

// missing says that a key must be there.
func (d *decoder) missing(path, name, example string) {
	if path == "" && d.partial {
		return
	}
	d.wrongKey(path, name+" is missing", "write "+name+": "+example)
}

func findField(fields []field, name string) (field, bool) {
	for _, f := range fields {
		if f.name == name {
			return f, true
		}
	}
	return field{}, false
}

// planned are keys that the design of the file knows and this version does not.
var planned = map[string]string{
	"image":      "containers are not available in this version",
	"kubernetes": "Kubernetes is not available in this version",
	"procfile":   "Procfiles are not available in this version",
}

func (d *decoder) unknownKey(path, name string, in reflect.Type, fields []field) {
	if message, ok := planned[name]; ok && (in == reflect.TypeFor[runShape]() || in == reflect.TypeFor[serviceShape]()) {
		d.wrongKey(path, message, "use run.command: run: { command: [./program] }")
		return
	}
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.name
	}
	fix := "remove it, or use one of: " + strings.Join(names, ", ")
	if near, ok := nearest(name, names); ok {
		fix = "write " + near
	}
	d.wrongKey(path, "unknown key "+quote(name), fix)
}

// decode takes the word or the mapping of a failover.
func (f *failoverShape) decode(d *decoder, n *node, path string) {
	const expected, example = "closed, or a list of regions", "failover: { listed: [nl] }"
	switch {
	case n.kind == textNode:
		f.Class = n.text
	case n.kind == mappingNode && len(n.entries) > 0:
		before := len(d.faults)
		d.structure(n, reflect.ValueOf(&f.failoverListShape).Elem(), path, example)
		if len(d.faults) > before {
			return // told already
		}
		f.Class = string(FailoverListed)
		if _, ok := d.places[path+".break-glass"]; ok {
			f.Class = string(FailoverBreakGlass)
		}
	default:
		d.mistaken(n, path, expected, example)
	}
}
