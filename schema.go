package polder

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"

	"github.com/invopop/jsonschema"
	orderedmap "github.com/pb33f/ordered-map/v2"
)

// Patterns of scalars, as far as a pattern can tell.
const (
	durationPattern  = `^([0-9]+d)?([0-9]+(\.[0-9]*)?(ns|us|µs|ms|s|m|h))*$`
	memoryPattern    = `^[0-9]+(KiB|MiB|GiB|TiB)$`
	hostPattern      = `^(\*\.)?[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$`
	timePattern      = `^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})$`
	zonePattern      = `^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$`
	reachablePattern = `^.+:[0-9]{1,5}$`
	portPattern      = `:[1-9][0-9]{0,4}$`
)

// Schema is the JSON Schema (draft 2020-12) of one configuration file, made
// from the very types that Decode fills. Editors complete and check by it. It
// knows the form only: whether a region exists, a host is free or a budget has
// prices is for Decode to tell.
func Schema() ([]byte, error) {
	reflector := &jsonschema.Reflector{
		Anonymous:                  true,
		ExpandedStruct:             true,
		RequiredFromJSONSchemaTags: true,
		FieldNameTag:               "yaml",
		Namer:                      func(t reflect.Type) string { return strings.TrimSuffix(t.Name(), "Shape") },
		Mapper:                     scalarSchema,
	}
	root := reflector.Reflect(configShape{})
	root.Title = "Polder configuration"
	root.Description = "One file of a Polder configuration. A configuration may be spread over the files of a folder."
	root.Required = nil // another file of the folder may have it
	if err := refine(root); err != nil {
		return nil, err
	}
	data, err := json.MarshalIndent(root, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("writing the JSON Schema: %w", err)
	}
	return append(data, '\n'), nil
}

func scalarSchema(t reflect.Type) *jsonschema.Schema {
	text := func(pattern string) *jsonschema.Schema {
		return &jsonschema.Schema{Type: "string", Pattern: pattern}
	}
	switch t {
	case reflect.TypeFor[durationText]():
		return text(durationPattern)
	case reflect.TypeFor[keepAliveText]():
		return &jsonschema.Schema{AnyOf: []*jsonschema.Schema{{Const: "auto"}, text(durationPattern)}}
	case reflect.TypeFor[pauseText]():
		return &jsonschema.Schema{AnyOf: []*jsonschema.Schema{{Const: "auto"}, {Const: "never"}, text(durationPattern)}}
	case reflect.TypeFor[memoryText]():
		return text(memoryPattern)
	case reflect.TypeFor[budgetText]():
		return text(budgetSyntax.String())
	case reflect.TypeFor[priceText]():
		return &jsonschema.Schema{AnyOf: []*jsonschema.Schema{{Type: "number", Minimum: "0"}, text(rateSyntax.String())}}
	case reflect.TypeFor[timeText]():
		return text(timePattern)
	case reflect.TypeFor[failoverShape]():
		return failoverSchema()
	}
	return nil
}

func failoverSchema() *jsonschema.Schema {
	list := (&jsonschema.Reflector{
		Anonymous: true, ExpandedStruct: true, DoNotReference: true, RequiredFromJSONSchemaTags: true, FieldNameTag: "yaml",
		Mapper: scalarSchema,
	}).Reflect(failoverListShape{})
	list.Version = ""
	list.OneOf = []*jsonschema.Schema{{Required: []string{"listed"}}, {Required: []string{"break-glass"}}}
	list.DependentRequired = map[string][]string{"broken": {"break-glass"}}
	return &jsonschema.Schema{OneOf: []*jsonschema.Schema{{Const: string(FailoverClosed)}, list}}
}

// refine adds what struct tags cannot say.
func refine(root *jsonschema.Schema) error {
	label := &jsonschema.Schema{Pattern: labelSyntax.String()}
	service := root.Definitions["service"]
	service.OneOf = []*jsonschema.Schema{{Required: []string{"run"}}, {Required: []string{"endpoints"}}}
	root.Definitions["place"].OneOf = []*jsonschema.Schema{{Required: []string{"region"}}, {Required: []string{"location"}}}
	service.DependentRequired = map[string][]string{"scale": {"run"}, "cold": {"run"}}
	for _, at := range []struct {
		properties *orderedmap.OrderedMap[string, *jsonschema.Schema]
		name       string
		set        func(*jsonschema.Schema)
	}{
		{root.Properties, "regions", func(s *jsonschema.Schema) { s.PropertyNames = label }},
		{root.Properties, "tenants", func(s *jsonschema.Schema) { s.PropertyNames = label }},
		{root.Properties, "services", func(s *jsonschema.Schema) { s.PropertyNames = label }},
		{service.Properties, "hosts", func(s *jsonschema.Schema) { s.Items.Pattern, s.UniqueItems = hostPattern, true }},
		{service.Properties, "endpoints", func(s *jsonschema.Schema) {
			s.MinProperties = new(uint64(1))
			s.AdditionalProperties.Items.Pattern = portPattern
			s.AdditionalProperties.MinItems = new(uint64(1))
			s.AdditionalProperties.UniqueItems = true
		}},
		{root.Definitions["residency"].Properties, "allow", func(s *jsonschema.Schema) { s.UniqueItems = true }},
		{root.Definitions["region"].Properties, "jurisdiction", func(s *jsonschema.Schema) {
			s.Items.Pattern, s.UniqueItems = jurisdictionSyntax.String(), true
		}},
		{root.Definitions["run"].Properties, "environment", func(s *jsonschema.Schema) {
			s.PropertyNames = &jsonschema.Schema{
				Pattern: variableSyntax.String(),
				Not:     &jsonschema.Schema{Pattern: "^(POLDER_.*|" + strings.Join(reserved, "|") + ")$"},
			}
		}},
		{root.Definitions["cold"].Properties, "paths", func(s *jsonschema.Schema) {
			s.PropertyNames = &jsonschema.Schema{Pattern: coldPathSyntax.String()}
			s.AdditionalProperties.Enum = coldAnswers()
		}},
		{root.Definitions["run"].Properties, "ready", func(s *jsonschema.Schema) { s.Pattern = "^/" }},
		{root.Definitions["listen"].Properties, "https", func(s *jsonschema.Schema) { s.Pattern = portPattern }},
		{root.Definitions["listen"].Properties, "http", func(s *jsonschema.Schema) { s.Pattern = portPattern }},
		{root.Definitions["listen"].Properties, "peer", func(s *jsonschema.Schema) { s.Pattern = portPattern }},
		{root.Definitions["listen"].Properties, "gossip", func(s *jsonschema.Schema) { s.Pattern = portPattern }},
		{root.Definitions["listen"].Properties, "dns", func(s *jsonschema.Schema) { s.Pattern = portPattern }},
		{root.Definitions["region"].Properties, "public", func(s *jsonschema.Schema) { s.UniqueItems = true }},
		{root.Definitions["dns"].Properties, "zones", func(s *jsonschema.Schema) { s.Items.Pattern, s.UniqueItems = zonePattern, true }},
		{root.Definitions["dns"].Properties, "nameservers", func(s *jsonschema.Schema) { s.Items.Pattern, s.UniqueItems = zonePattern, true }},
		{root.Definitions["listen"].Properties, "xds", func(s *jsonschema.Schema) { s.Pattern = reachablePattern }},
		{root.Definitions["listen"].Properties, "clients", func(s *jsonschema.Schema) { s.Pattern = reachablePattern }},
		{root.Definitions["region"].Properties, "clients", func(s *jsonschema.Schema) { s.Items.Pattern, s.UniqueItems = labelSyntax.String(), true }},
		{root.Definitions["node"].Properties, "https", func(s *jsonschema.Schema) { s.Pattern = portPattern }},
		{root.Definitions["node"].Properties, "http", func(s *jsonschema.Schema) { s.Pattern = portPattern }},
		{root.Definitions["region"].Properties, "nodes", func(s *jsonschema.Schema) { s.PropertyNames = label }},
		{root.Definitions["region"].Properties, "join", func(s *jsonschema.Schema) { s.Items.Pattern = portPattern }},
	} {
		property, ok := at.properties.Get(at.name)
		if !ok {
			return fmt.Errorf("the JSON Schema has no property %s to refine", at.name)
		}
		at.set(property)
	}
	return nil
}
