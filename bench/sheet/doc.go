// Package sheet writes the reports of the benchmarks: text or JSON, and a page
// beside them. Their commands call it.
//
// It keeps nothing between two calls, which may be concurrent. An error names the
// file that could not be written; what was written of it then stays.
package sheet
