package polder_test

import (
	"go/ast"
	"go/token"
	"path"
	"slices"
	"strings"
	"testing"
)

type position = token.Position

// TestHouseRules holds every file against the rules that a reader would
// otherwise have to look for.
func TestHouseRules(t *testing.T) {
	for _, p := range packages(t) {
		for _, f := range p.files {
			for _, rule := range houseRules {
				rule.find(p, f, func(at position) {
					t.Errorf("%s: %s", at, rule.says)
				})
			}
		}
	}
}

// houseRules report the places that break them.
var houseRules = []struct {
	says string
	find func(p *pkg, f file, report func(position))
}{
	{"a test that sleeps is slow where it passes and fails where it is slow: wait for the event, or use testing/synctest", func(p *pkg, f file, report func(position)) {
		if f.test {
			f.uses("time", named(report, "Sleep"))
		}
	}},
	{"a bubble with several processors can crash Go's race detector: make it with faketime.Test", func(p *pkg, f file, report func(position)) {
		if p.dir != "internal/faketime" {
			f.uses("testing/synctest", named(report, "Test"))
		}
	}},
	{"a test that is skipped tells nothing, and nobody sees it: fail with what is missing", func(p *pkg, f file, report func(position)) {
		ast.Inspect(f.File, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok && f.test && skips(call) {
				report(f.set.Position(call.Pos()))
			}
			return true
		})
	}},
	{"more than 500 lines: two ideas may live in this file", func(p *pkg, f file, report func(position)) {
		if f.lines > 500 {
			report(position{Filename: f.name, Line: f.lines})
		}
	}},
	{"a folder whose name says nothing attracts everything: name it after what it is about", func(p *pkg, f file, report func(position)) {
		if slices.ContainsFunc(strings.Split(p.dir, "/"), saysNothing) || saysNothing(strings.TrimSuffix(path.Base(f.name), ".go")) {
			report(position{Filename: f.name})
		}
	}},
	{"the default client waits for ever: make one with a Timeout", func(p *pkg, f file, report func(position)) {
		f.uses("net/http", named(report, "DefaultClient", "DefaultTransport", "Get", "Head", "Post", "PostForm"))
	}},
	{"a server without ReadHeaderTimeout is held by whoever sends nothing", func(p *pkg, f file, report func(position)) {
		f.uses("net/http", named(report, "ListenAndServe", "ListenAndServeTLS", "Serve", "ServeTLS", "DefaultServeMux"))
		f.literals("http", "Server", func(l *ast.CompositeLit) {
			if !f.test && !has(l, "ReadHeaderTimeout") {
				report(f.set.Position(l.Pos()))
			}
		})
	}},
	{"the logger is handed in: a default one belongs to nobody", func(p *pkg, f file, report func(position)) {
		if p.name != "main" && !f.test {
			f.uses("log/slog", named(report, "Default", "SetDefault", "Debug", "Info", "Warn", "Error", "Log"))
			f.uses("log", named(report, "Print", "Printf", "Println", "Fatal", "Fatalf", "Fatalln", "Panic", "Panicf"))
		}
	}},
	{"only a command ends the process: return an error", func(p *pkg, f file, report func(position)) {
		if p.name != "main" && !f.test && !strings.HasSuffix(p.name, "test") { // NAMEtest is for tests
			f.uses("os", named(report, "Exit"))
		}
	}},
	{"a context in a field hides whose end it is: make it an argument, or say beside it when it ends", func(p *pkg, f file, report func(position)) {
		ast.Inspect(f.File, func(n ast.Node) bool {
			if s, ok := n.(*ast.StructType); ok && !f.test {
				for _, field := range s.Fields.List {
					if selector, ok := field.Type.(*ast.SelectorExpr); ok && isIdent(selector.X, "context") && selector.Sel.Name == "Context" && field.Doc == nil && field.Comment == nil {
						report(f.set.Position(field.Pos()))
					}
				}
			}
			return true
		})
	}},
	{"unfinished words: finish it, or open an issue", func(p *pkg, f file, report func(position)) {
		for _, group := range f.Comments {
			for _, c := range group.List {
				if words := strings.FieldsFunc(c.Text, func(r rune) bool { return r < 'A' || r > 'Z' }); slices.ContainsFunc(words, unfinished) {
					report(f.set.Position(c.Pos()))
				}
			}
		}
	}},
}

// named makes a function for file.uses that reports the uses of these names.
func named(report func(position), names ...string) func(string, position) {
	return func(used string, at position) {
		if slices.Contains(names, used) {
			report(at)
		}
	}
}

// skips tells whether the call is t.Skip or one of its sisters.
func skips(call *ast.CallExpr) bool {
	selector, ok := call.Fun.(*ast.SelectorExpr)
	return ok && slices.Contains([]string{"Skip", "Skipf", "SkipNow"}, selector.Sel.Name) &&
		slices.ContainsFunc([]string{"t", "b", "f", "tb", "rt"}, func(name string) bool { return isIdent(selector.X, name) })
}

func saysNothing(name string) bool {
	return slices.Contains([]string{"util", "utils", "common", "helper", "helpers", "type", "types", "misc", "shared", "base", "lib"}, name)
}

func unfinished(word string) bool {
	return word == "TO"+"DO" || word == "FIX"+"ME" || word == "XX"+"X"
}

// literals calls yield for each literal of "package.NAME{…}".
func (f file) literals(of, name string, yield func(*ast.CompositeLit)) {
	ast.Inspect(f.File, func(n ast.Node) bool {
		if l, ok := n.(*ast.CompositeLit); ok {
			if selector, ok := l.Type.(*ast.SelectorExpr); ok && selector.Sel.Name == name && isIdent(selector.X, of) {
				yield(l)
			}
		}
		return true
	})
}

// has tells whether the literal sets the field.
func has(l *ast.CompositeLit, field string) bool {
	return slices.ContainsFunc(l.Elts, func(e ast.Expr) bool {
		pair, ok := e.(*ast.KeyValueExpr)
		return ok && isIdent(pair.Key, field)
	})
}

func isIdent(e ast.Expr, name string) bool {
	i, ok := e.(*ast.Ident)
	return ok && i.Name == name
}
