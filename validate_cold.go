package polder

import (
	"maps"
	"regexp"
	"slices"
	"strings"
)

// coldPathSyntax is a path as callers write it, without query and fragment, and
// normal: Envoy has removed "." and ".." before paths are compared.
var coldPathSyntax = regexp.MustCompile(`^/([!-"$->@-~]*)$`)

// coldAnswers lists the answers for the JSON Schema.
func coldAnswers() []any { return []any{ColdHold, ColdAccepted, ColdPage, ColdReject} }

func (c *checker) cold(path string, shape *coldShape) Cold {
	if shape == nil {
		return Cold{Answer: ColdHold}
	}
	cold := Cold{Answer: c.coldAnswer(path+".answer", shape.Answer)}
	for _, name := range slices.Sorted(maps.Keys(shape.Paths)) {
		p := key(path+".paths", name)
		switch {
		case !strings.HasPrefix(name, "/"):
			c.wrongKey(p, quote(name)+" is not a path", "write /"+name)
		case strings.ContainsAny(name, "?#"):
			c.wrongKey(p, quote(name)+" has a query or a fragment, and only paths are compared", "write "+name[:strings.IndexAny(name, "?#")])
		case !coldPathSyntax.MatchString(name):
			c.wrongKey(p, quote(name)+" has characters that a path does not carry", "escape them, as in /a%20path")
		}
		if cold.Paths == nil {
			cold.Paths = make(map[string]ColdAnswer, len(shape.Paths))
		}
		cold.Paths[name] = c.coldAnswer(p, shape.Paths[name])
	}
	return cold
}

func (c *checker) coldAnswer(path, word string) ColdAnswer {
	return oneOf(c, path, word, ColdHold, ColdAccepted, ColdPage, ColdReject)
}
