package polder_test

import (
	"go/ast"
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestBehavioursNameTestsThatExist: the table of docs/cold-start.md says which
// test shows what, in the packages that it names.
func TestBehavioursNameTestsThatExist(t *testing.T) {
	text, err := os.ReadFile("docs/cold-start.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(text), "| behaviour | tests |\n| --- | --- |\n")
	table, _, _ = strings.Cut(table, "\n\n")
	rows := strings.Split(table, "\n")
	if len(rows) < 15 {
		t.Fatalf("the table has %d rows", len(rows))
	}
	tests := map[string]bool{}
	for _, p := range packages(t) {
		for _, f := range p.files {
			for _, d := range f.Decls {
				if function, ok := d.(*ast.FuncDecl); ok && f.test {
					tests[p.dir+" "+function.Name.Name] = true
				}
			}
		}
	}
	part := regexp.MustCompile("`([a-z/]+)` ([A-Za-z0-9, ]+)")
	for _, row := range rows {
		cells := strings.Split(row, "|")
		named := part.FindAllStringSubmatch(cells[len(cells)-2], -1)
		if len(named) == 0 {
			t.Errorf("names no test: %s", row)
		}
		for _, m := range named {
			for name := range strings.SplitSeq(m[2], ",") {
				name = strings.TrimSuffix(strings.TrimSpace(name), " and its neighbours")
				if name != "" && !tests[m[1]+" Test"+name] {
					t.Errorf("%s has no test of the name Test%s", m[1], name)
				}
			}
		}
	}
}
