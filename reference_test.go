package polder

import (
	_ "embed"
	"fmt"
	"reflect"
	"strings"
)

// introduction is what docs/config.md says before the keys.
//
//go:embed testdata/config.md
var introduction string

// section is one mapping of the file, in the order in which a reader meets it.
type section struct {
	title, path string
	shape       reflect.Type
}

// reference is docs/config.md: the introduction, and a table for each mapping
// that the file shapes know.
func reference() string {
	var b strings.Builder
	b.WriteString(introduction)
	for _, s := range sections("", reflect.TypeFor[configShape]()) {
		fmt.Fprintf(&b, "\n### %s\n\n| key | value | |\n|---|---|---|\n", s.title)
		for i := range s.shape.NumField() {
			writeKey(&b, s.shape.Field(i))
		}
	}
	return b.String()
}

func writeKey(b *strings.Builder, f reflect.StructField) {
	about := f.Tag.Get("jsonschema_description")
	rule := f.Tag.Get("jsonschema")
	switch def, ok := f.Tag.Lookup("default"); {
	case strings.HasPrefix(rule, "required"):
		about += " **Required.**"
	case ok:
		about += fmt.Sprintf(" Default: `%s`.", def)
	}
	about += fmt.Sprintf("<br>`%s: %s`", f.Tag.Get("yaml"), f.Tag.Get("example"))
	fmt.Fprintf(b, "| `%s` | %s | %s |\n", f.Tag.Get("yaml"), valueName(f.Type, rule), strings.ReplaceAll(about, "|", `\|`))
}

// valueName says what may be written for a field.
func valueName(t reflect.Type, rule string) string {
	var choices []string
	for part := range strings.SplitSeq(rule, ",") {
		if choice, ok := strings.CutPrefix(part, "enum="); ok {
			choices = append(choices, "`"+choice+"`")
		}
	}
	if len(choices) > 0 {
		return strings.Join(choices, " or ")
	}
	switch t {
	case reflect.TypeFor[durationText]():
		return "duration"
	case reflect.TypeFor[keepAliveText]():
		return "duration or `auto`"
	case reflect.TypeFor[pauseText]():
		return "duration, `auto` or `never`"
	case reflect.TypeFor[memoryText]():
		return "memory"
	case reflect.TypeFor[budgetText]():
		return "money per month"
	case reflect.TypeFor[priceText]():
		return "price"
	case reflect.TypeFor[timeText]():
		return "time"
	case reflect.TypeFor[failoverShape]():
		return "`closed` or a mapping"
	}
	switch t.Kind() {
	case reflect.Pointer:
		return valueName(t.Elem(), "")
	case reflect.Slice:
		return "list of " + map[reflect.Kind]string{reflect.String: "texts", reflect.Float64: "numbers"}[t.Elem().Kind()]
	case reflect.Map:
		if t.Elem().Kind() == reflect.Struct {
			return "mapping by name"
		}
		return "mapping of names to " + map[reflect.Kind]string{reflect.String: "texts", reflect.Slice: "lists of texts"}[t.Elem().Kind()]
	case reflect.Struct:
		return "mapping"
	case reflect.Int:
		return "whole number"
	}
	return "text"
}

// sections lists a mapping and those below it.
func sections(path string, t reflect.Type) []section {
	title := "The file"
	if path != "" {
		title = "`" + path + "`"
	}
	all := []section{{title, path, t}}
	for i := range t.NumField() {
		f := t.Field(i)
		p := f.Tag.Get("yaml")
		if path != "" {
			p = path + "." + p
		}
		inner := f.Type
		if inner.Kind() == reflect.Pointer {
			inner = inner.Elem()
		}
		if inner.Kind() == reflect.Map {
			inner, p = inner.Elem(), p+"."+placeholder(f.Tag.Get("yaml"))
		}
		switch {
		case inner == reflect.TypeFor[failoverShape]():
			all = append(all, sections(p, reflect.TypeFor[failoverListShape]())...)
		case inner.Kind() == reflect.Struct && p != "prices.regions.REGION":
			all = append(all, sections(p, inner)...)
		}
	}
	return all
}

// placeholder stands for the names of a mapping by name.
func placeholder(key string) string {
	return strings.ToUpper(strings.TrimSuffix(key, "s"))
}
