package polder_test

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// module is the path of ours.
const module = "github.com/polder/polder"

// pkg is one package of the module, as its source files say.
type pkg struct {
	dir   string // relative to the module's root, with slashes; "." for the root
	name  string
	files []file
}

// file is one Go file, whatever machine it is built for.
type file struct {
	name  string // relative to the module's root
	test  bool
	lines int
	*ast.File
	set *token.FileSet
}

// readModule reads every Go file of the module, once.
var readModule = sync.OnceValues(func() ([]*pkg, error) {
	packages := map[string]*pkg{}
	set := token.NewFileSet()
	err := filepath.WalkDir(".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if base := entry.Name(); name != "." && (base[0] == '.' || base[0] == '_' || base == "testdata" || base == "bin") {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		parsed, err := parser.ParseFile(set, name, text, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		name = filepath.ToSlash(name)
		dir := path.Dir(name)
		if packages[dir] == nil {
			packages[dir] = &pkg{dir: dir}
		}
		p, f := packages[dir], file{name: name, test: strings.HasSuffix(name, "_test.go"), lines: bytes.Count(text, []byte("\n")), File: parsed, set: set}
		if !f.test {
			p.name = parsed.Name.Name
		}
		p.files = append(p.files, f)
		return nil
	})
	sorted := make([]*pkg, 0, len(packages))
	for _, p := range packages {
		sorted = append(sorted, p)
	}
	slices.SortFunc(sorted, func(a, b *pkg) int { return strings.Compare(a.dir, b.dir) })
	return sorted, err
})

func packages(t *testing.T) []*pkg {
	t.Helper()
	all, err := readModule()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 15 {
		t.Fatalf("only %d packages found: is this the module's root?", len(all))
	}
	return all
}

// imports calls yield for each import with the file that has it.
func (p *pkg) imports(yield func(f file, imported string)) {
	for _, f := range p.files {
		for _, spec := range f.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err == nil {
				yield(f, imported)
			}
		}
	}
}

// ours returns the folder of one of our packages: "." for the root.
func ours(imported string) (dir string, ok bool) {
	if imported == module {
		return ".", true
	}
	return strings.CutPrefix(imported, module+"/")
}

// within tells whether the package is one of these, or below one of them. The
// root stands for itself alone.
func within(dir string, areas ...string) bool {
	return slices.ContainsFunc(areas, func(area string) bool {
		return dir == area || area != "." && strings.HasPrefix(dir, area+"/")
	})
}

// uses calls yield for each NAME of "package.NAME" in the file, where the
// package is imported by this path.
func (f file) uses(imported string, yield func(name string, at token.Position)) {
	local := ""
	for _, spec := range f.Imports {
		if spec.Path.Value != strconv.Quote(imported) {
			continue
		}
		if local = path.Base(imported); spec.Name != nil {
			local = spec.Name.Name
		}
	}
	if local == "" {
		return
	}
	ast.Inspect(f.File, func(n ast.Node) bool {
		selector, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if of, ok := selector.X.(*ast.Ident); ok && of.Name == local {
			yield(selector.Sel.Name, f.set.Position(selector.Pos()))
		}
		return true
	})
}
