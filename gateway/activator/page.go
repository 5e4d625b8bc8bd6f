package activator

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"html/template"
	"net/http"
	"strings"
	"sync"
)

// The waiting page, in parts, because its policy names what may run by hash.
//
//go:embed page.html
var pageText string

//go:embed page.css
var pageStyle string

//go:embed page.js
var pageScript string

// page is the page and the policy that goes with it.
type page struct {
	template *template.Template
	policy   string // Content-Security-Policy: this style and this script, and no other
}

var waitingPage = sync.OnceValue(func() page {
	text := strings.NewReplacer("/*style*/", pageStyle, "/*script*/", pageScript).Replace(pageText)
	hash := func(part string) string {
		sum := sha256.Sum256([]byte(part))
		return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
	}
	return page{
		template: template.Must(template.New("page").Parse(text)),
		policy: "default-src 'none'; style-src " + hash(pageStyle) + "; script-src " + hash(pageScript) +
			"; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'",
	}
})

// writePage shows a browser that the service starts. It loads again by itself,
// with the same address, when the state that the link tells is ready; without
// scripts it does so every two seconds.
func writePage(w http.ResponseWriter, host, link string) {
	p := waitingPage()
	header := w.Header()
	header.Set("Content-Type", "text/html; charset=utf-8")
	header.Set("Content-Security-Policy", p.policy)
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("X-Robots-Tag", "noindex")
	w.WriteHeader(http.StatusServiceUnavailable)
	p.template.Execute(w, struct{ Host, Link string }{host, link}) // an error means that the caller has gone
}
