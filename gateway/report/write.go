package report

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"time"
)

//go:embed page.html
var text string

//go:embed page.css
var style string

// Write writes the page.
func Write(w io.Writer, d Data) error {
	t, err := template.New("page").Funcs(template.FuncMap{
		"style":  func() template.CSS { return template.CSS(style) },
		"time":   func(at time.Time) string { return at.UTC().Format("2006-01-02 15:04:05 UTC") },
		"short":  abbreviated,
		"number": func(x float64) string { return fmt.Sprintf("%.1f", x) },
		"plural": plural,
	}).Parse(text)
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	if err := t.Execute(w, newPage(d)); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	return nil
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
