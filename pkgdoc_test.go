package polder_test

import (
	"go/ast"
	"go/token"
	"path"
	"strings"
	"testing"
)

// screen is how many lines may explain a package. One that needs more should be
// two.
const screen = 60

// TestPackageDocs: every package says in doc.go, and a command in main.go, what
// it is for.
func TestPackageDocs(t *testing.T) {
	for _, p := range packages(t) {
		if p.name == "" {
			continue // tests alone
		}
		want, begin := "doc.go", "Package "+p.name+" "
		if p.name == "main" {
			want, begin = "main.go", "Command "+path.Base(p.dir)+" "
		}
		found := false
		for _, f := range p.files {
			if f.test || f.Doc == nil {
				continue
			}
			if path.Base(f.name) != want {
				t.Errorf("%s: the comment on the package belongs into %s, where readers look", f.name, want)
				continue
			}
			found = true
			text := f.Doc.Text()
			if !strings.HasPrefix(text, begin) {
				t.Errorf("%s: the comment on the package does not begin with %q", f.name, begin)
			}
			if n := strings.Count(text, "\n"); n > screen {
				t.Errorf("%s: %d lines explain the package, more than a screen: two ideas may live in it", f.name, n)
			}
		}
		if !found {
			t.Errorf("%s has no %s that says what the package is for, what it promises on concurrency and failure, and who calls it", p.dir, want)
		}
	}
}

// TestExportedNamesAreDocumented: whoever calls a name does not read its code.
func TestExportedNamesAreDocumented(t *testing.T) {
	for _, p := range packages(t) {
		if p.name == "main" {
			continue
		}
		for _, f := range p.files {
			if f.test {
				continue
			}
			for _, declaration := range f.Decls {
				for _, name := range undocumented(declaration) {
					t.Errorf("%s: %s has no comment: say what it promises, with units, ranges and errors", f.set.Position(name.Pos()), name.Name)
				}
			}
		}
	}
}

// undocumented lists the exported names of a declaration that have no comment:
// above them, beside them, or above the group that they stand in. Methods that
// carry out a well-known interface explain themselves.
func undocumented(declaration ast.Decl) (names []*ast.Ident) {
	switch d := declaration.(type) {
	case *ast.FuncDecl:
		wellKnown := d.Recv != nil && strings.Contains(" String Error Unwrap Is Len Less Swap Push Pop MarshalJSON UnmarshalJSON MarshalText UnmarshalText ", " "+d.Name.Name+" ")
		if d.Doc == nil && d.Name.IsExported() && !wellKnown && (d.Recv == nil || exportedReceiver(d.Recv)) {
			names = append(names, d.Name)
		}
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			switch s := spec.(type) {
			case *ast.TypeSpec:
				if s.Name.IsExported() && s.Doc == nil && s.Comment == nil && d.Doc == nil {
					names = append(names, s.Name)
				}
			case *ast.ValueSpec:
				if s.Doc != nil || s.Comment != nil || d.Doc != nil || d.Tok == token.IMPORT {
					continue
				}
				for _, name := range s.Names {
					if name.IsExported() {
						names = append(names, name)
					}
				}
			}
		}
	}
	return names
}

func exportedReceiver(list *ast.FieldList) bool {
	of := list.List[0].Type
	for {
		switch e := of.(type) {
		case *ast.StarExpr:
			of = e.X
		case *ast.IndexExpr:
			of = e.X
		case *ast.IndexListExpr:
			of = e.X
		case *ast.Ident:
			return e.IsExported()
		default:
			return false
		}
	}
}
