// Package report writes one page for people who must answer for where services
// may go: which regions there are, what the owners allowed, what the gateways do
// about it, how that was proved, and what happened.
//
// The page is one HTML file without scripts, and without anything that it would
// fetch: it can be sent, printed and kept. It says when it was made, of what,
// and what it does not know. Write is a pure function of its Data, safe for
// concurrent use; equal data give equal pages. Package gateway explains the
// services, command polder gathers the data.
package report
