package polder

import (
	"strconv"
	"strings"
	"testing"
)

// What the parser would take minutes or its whole stack for must not reach it.
func TestFormsThatOverwhelmTheParserAreRefused(t *testing.T) {
	const many = 25_000
	const deep, empty, big = "nested more than", "have no value", "the mappings are too big"
	for name, c := range map[string]struct{ text, want string }{
		"brackets":                  {strings.Repeat("[", many), deep},
		"braces":                    {strings.Repeat("{a: ", many), deep},
		"dashes":                    {strings.Repeat("- ", many), deep},
		"question marks":            {strings.Repeat("? ", many), deep},
		"indented keys":             {stairs(100), deep},
		"anchors":                   {"a: [" + strings.Repeat("&a ", many) + "x]", deep},
		"tags":                      {"a: [" + strings.Repeat("!a ", many) + "x]", deep},
		"keys":                      {strings.Repeat("a: b\n", many), big},
		"complex keys":              {strings.Repeat("? a\n", many), big},
		"keys of many mappings":     {strings.Repeat("a:\n"+strings.Repeat("  b: c\n", 10_000), 10), big},
		"keys without a value":      {strings.Repeat("a:\n", many), empty},
		"keys below, likewise":      {strings.Repeat("a:\n  b:\n", many/2), empty},
		"items without a value":     {strings.Repeat("-\n", many), empty},
		"mappings of lists":         {strings.Repeat("- a:\n", many/2), empty},
		"words in braces":           {"{" + strings.Repeat("a, ", many) + "}", empty},
		"bare colons in braces":     {"{" + strings.Repeat("a: , ", many) + "}", empty},
		"braces around single keys": {"[" + strings.Repeat("{a}, ", many/2) + "]", empty},
		"documents":                 {strings.Repeat("a: b\n---\n", many/4), "a second document begins here"},
	} {
		r := Decode([]File{{Name: "polder.yaml", Data: []byte(c.text)}})
		if !r.Fatal || len(r.Faults) != 1 || !strings.Contains(r.Faults[0].Message, c.want) {
			t.Errorf("%s: fatal %v, faults %v", name, r.Fatal, r.Faults)
		}
	}
}

// stairs is a mapping in a mapping, and so on.
func stairs(depth int) string {
	var b strings.Builder
	for i := range depth {
		b.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	return b.String()
}

func TestBigConfigurationsAreTaken(t *testing.T) {
	var b strings.Builder
	b.WriteString(header + "services:\n")
	const services = 1500
	for i := range services {
		name := "s" + strings.Repeat("x", i%40) + string(rune('a'+i%26)) + strconv.Itoa(i)
		b.WriteString("  " + name + ":\n    hosts: [" + name + `.example.com]
    residency:
      allow: [fr] # in France
    run:
      command:
      - ./program
      - --name
      - ` + name + `
    scale: { min: 0, max: 20, concurrency: 80, keep-alive: 10m }
`)
	}
	if m := decodeGood(t, b.String()); len(m.Services) != services {
		t.Errorf("%d services of %d", len(m.Services), services)
	}
}
