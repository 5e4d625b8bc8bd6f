package loadtest

import "strings"

// coldMetric is the Server-Timing metric of an answer that waited for a start.
const coldMetric = "cold"

// hasMetric tells whether Server-Timing headers (W3C Server Timing, 2) carry the
// metric. Names are compared exactly. What the grammar does not allow is skipped
// up to the next comma, as browsers do.
func hasMetric(headers []string, name string) bool {
	for _, header := range headers {
		for header != "" {
			var metric string
			metric, header = cutUnquoted(header)
			metric, _, _ = strings.Cut(metric, ";")
			if strings.Trim(metric, " \t") == name {
				return true
			}
		}
	}
	return false
}

// cutUnquoted cuts at the first comma that is not inside a quoted string.
func cutUnquoted(s string) (before, after string) {
	quoted := false
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '"':
			quoted = !quoted
		case s[i] == '\\' && quoted:
			i++
		case s[i] == ',' && !quoted:
			return s[:i], s[i+1:]
		}
	}
	return s, ""
}
