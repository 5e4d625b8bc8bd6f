package polder

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"pgregory.net/rapid"
)

// drawn is a configuration by its parts, as YAML of one line each.
type drawn struct {
	regions, tenants, services []string
	prices                     string
}

func (d drawn) section(name string, entries []string) string {
	if len(entries) == 0 {
		return ""
	}
	return name + ":\n  " + strings.Join(entries, "\n  ") + "\n"
}

func (d drawn) oneFile() []File {
	text := d.section("regions", d.regions) + d.section("tenants", d.tenants) + d.section("services", d.services)
	if d.prices != "" {
		text += "prices: " + d.prices + "\n"
	}
	return []File{{Name: "polder.yaml", Data: []byte(text), Dir: "/etc/polder"}}
}

// spread puts every entry into a file of its own.
func (d drawn) spread() []File {
	var files []File
	add := func(text string) {
		if text != "" {
			files = append(files, File{Name: fmt.Sprintf("%03d.yaml", len(files)), Data: []byte(text), Dir: "/etc/polder"})
		}
	}
	for _, part := range []struct {
		name    string
		entries []string
	}{{"regions", d.regions}, {"tenants", d.tenants}, {"services", d.services}} {
		for _, e := range part.entries {
			add(d.section(part.name, []string{e}))
		}
	}
	if d.prices != "" {
		add("prices: " + d.prices + "\n")
	}
	return files
}

// configs draws configurations from few names, so that they meet. Mistakes
// says how often out of ten a value is wrong.
func configs(mistakes int) *rapid.Generator[drawn] {
	return rapid.Custom(func(t *rapid.T) drawn {
		pick := func(label string, good []string, bad ...string) string {
			if len(bad) > 0 && rapid.IntRange(0, 9).Draw(t, label+" wrong?") < mistakes {
				return rapid.SampledFrom(bad).Draw(t, label)
			}
			return rapid.SampledFrom(good).Draw(t, label)
		}
		some := func(label string, all []string, least int) []string {
			return rapid.Permutation(all).Draw(t, label)[:rapid.IntRange(least, len(all)).Draw(t, label+" count")]
		}
		var d drawn
		for _, name := range some("regions", []string{"fr", "nl", "pl", "ch"}, 1) {
			law := pick("law", []string{"EU", "EEA", "EU, EEA", ""})
			d.regions = append(d.regions, fmt.Sprintf("%s: { jurisdiction: [%s], location: [%s, 5] }", name, law, pick("latitude", []string{"1", "2.5"})))
		}
		if mistakes > 0 && rapid.IntRange(0, 19).Draw(t, "region wrong?") == 0 {
			d.regions = append(d.regions, "DE: { location: [99, 5] }")
		}
		currency := pick("currency", []string{"", "EUR", "USD"})
		if currency != "" {
			d.prices = "{ currency: " + currency + ", default: { gib-second: 0.0000025, vcpu-second: 1, request: 0 } }"
		}
		money := func(label string) string {
			amount := "30 " + currency + "/month"
			if currency == "" {
				return "~" // none
			}
			return pick(label, []string{amount, "~"}, "30 PLN/month", "0 EUR/month")
		}
		with := func(key, value string) string {
			if value == "~" {
				return ""
			}
			return ", " + key + ": " + value
		}
		for _, name := range some("tenants", []string{"acme", "zeta"}, 0) {
			d.tenants = append(d.tenants, fmt.Sprintf("%s: { quota: { instances: %s }%s }", name, pick("quota", []string{"5", "6"}, "0", "x"), with("budget", money("tenant budget"))))
		}
		for _, name := range some("services", []string{"a", "b", "c", "d", "e"}, 0) {
			hosts := some("hosts", []string{"a.example.com", "b.example.com", "c.example.com", `"*.example.com"`, "d.example.com", "e.example.com"}, 1)
			hosts = hosts[:min(2, len(hosts))]
			own := name + ".example.com"
			if mistakes == 0 || rapid.Bool().Draw(t, "own host?") {
				hosts = []string{own}
			}
			region := strings.SplitN(rapid.SampledFrom(d.regions).Draw(t, "region"), ":", 2)[0]
			text := fmt.Sprintf("%s: { hosts: [%s], residency: { allow: [%s]%s }", name, strings.Join(hosts, ", "),
				pick("allow", []string{region}, "EU", "fr", "nl, ch", "xx", ""), with("failover", pick("failover", []string{"~", "closed"}, "{ listed: [pl] }", "{ listed: [ch, nl] }", "{ break-glass: [pl], broken: { from: 2026-05-01T08:00:00Z, until: 2026-05-01T20:00:00Z, reason: fire } }", "{ break-glass: [nl], broken: { from: x } }", "open")))
			if rapid.Bool().Draw(t, "run?") {
				text += ", run: { command: [./" + name + "]" + with("memory", pick("memory", []string{"~", "64MiB"}, "64")) + " }"
				text += fmt.Sprintf(", scale: { max: %s%s }", pick("max", []string{"1", "3"}, "0"), with("budget", money("budget")))
			} else {
				text += ", endpoints: { " + pick("endpoint region", []string{region}, "fr", "pl") + `: ["10.0.0.1:80"] }`
			}
			if len(d.tenants) > 0 {
				tenant := strings.SplitN(rapid.SampledFrom(d.tenants).Draw(t, "tenant"), ":", 2)[0]
				text += with("tenant", pick("owner", []string{tenant, "~"}, "acme"))
			}
			d.services = append(d.services, text+pick("rest", []string{" }"}, ", tiemout: 5s }"))
		}
		return d
	})
}

func TestTheOrderOfFilesDoesNotMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		files := configs(3).Draw(t, "config").spread()
		if len(files) > 0 && rapid.Bool().Draw(t, "break one?") {
			files[rapid.IntRange(0, len(files)-1).Draw(t, "which")].Data = []byte("a: [")
		}
		r := Decode(files)
		for range 3 {
			s := Decode(rapid.Permutation(files).Draw(t, "order"))
			if !reflect.DeepEqual(r.Model, s.Model) || !slices.Equal(r.Faults, s.Faults) || r.Fatal != s.Fatal {
				t.Fatalf("another order gives another result:\n%v\n%v", r.Faults, s.Faults)
			}
		}
	})
}

func TestOneFileOrManyIsTheSame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := configs(3).Draw(t, "config")
		one, many := Decode(d.oneFile()), Decode(d.spread())
		if one.Fatal != many.Fatal || len(one.Faults) != len(many.Faults) {
			t.Fatalf("faults differ:\n%v\n%v", one.Faults, many.Faults)
		}
		if !one.Fatal && !reflect.DeepEqual(placeless(one.Model), placeless(many.Model)) {
			t.Fatalf("models differ:\n%+v\n%+v", one.Model, many.Model)
		}
	})
}

// placeless is the model without the places of its services.
func placeless(m *Model) Model {
	n := *m
	n.Services = slices.Clone(m.Services)
	for i := range n.Services {
		n.Services[i].At = Position{}
	}
	return n
}

func TestApply(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var last *Model
		for range rapid.IntRange(1, 4).Draw(t, "changes") {
			r := Decode(configs(2).Draw(t, "config").oneFile())
			m, kept := r.Apply(last)
			if r.Fatal {
				if m != last {
					t.Fatal("a fatal fault changed the model")
				}
				continue
			}
			checkModel(t, m)
			checkWhoIsIn(t, r.Against(last), last, m, kept)
			again, keptAgain := r.Apply(m)
			if !reflect.DeepEqual(again, m) || !slices.Equal(keptAgain, kept) {
				t.Fatalf("applied twice it differs:\n%+v kept %v\n%+v kept %v", m, kept, again, keptAgain)
			}
			last = m
		}
	})
}

// checkWhoIsIn checks each service of a new model against where it must come from.
func checkWhoIsIn(t *rapid.T, r Result, last, m *Model, kept []ServiceName) {
	faulty := make(map[ServiceName]bool)
	for _, f := range r.Faults {
		faulty[f.Service] = true
	}
	declared := make(map[ServiceName]bool)
	for _, d := range r.declared {
		declared[d.name] = true
	}
	for _, s := range m.Services {
		switch {
		case !declared[s.Name]:
			t.Fatalf("service %s is in the model and not in the files", s.Name)
		case faulty[s.Name] && !slices.Contains(kept, s.Name):
			t.Fatalf("service %s has faults and a new version", s.Name)
		case slices.Contains(kept, s.Name):
			if last == nil {
				t.Fatalf("service %s is kept from nowhere", s.Name)
			}
			if old, ok := last.Service(s.Name); !ok || old.At != s.At || !reflect.DeepEqual(old.Run, s.Run) {
				t.Fatalf("service %s is kept and not what it was", s.Name)
			}
		}
	}
	if len(r.Faults) == 0 && len(m.Services) != len(r.declared) {
		t.Fatalf("without a fault only %d of %d services are in the model", len(m.Services), len(r.declared))
	}
}

func compiledSchema(t testing.TB) *jsonschema.Schema {
	t.Helper()
	data, err := Schema()
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("polder.schema.json", doc); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile("polder.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

// instance is YAML as the values that a JSON Schema speaks of.
func instance(text []byte) (any, error) {
	var v any
	if err := yaml.Unmarshal(text, &v); err != nil {
		return nil, err
	}
	data, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return jsonschema.UnmarshalJSON(bytes.NewReader(data))
}

func TestWhatDecodesTheSchemaAccepts(t *testing.T) {
	schema := compiledSchema(t)
	rapid.Check(t, func(t *rapid.T) {
		files := configs(1).Draw(t, "config").oneFile()
		if r := Decode(files); len(r.Faults) > 0 {
			return
		}
		v, err := instance(files[0].Data)
		if err != nil {
			t.Fatal(err)
		}
		if err := schema.Validate(v); err != nil {
			t.Fatalf("%s\n%v", files[0].Data, err)
		}
	})
}
