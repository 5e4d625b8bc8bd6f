package polder

import "strings"

// Cold says what callers get while a service has no instance. Whatever it is,
// the call wakes the service.
type Cold struct {
	Answer ColdAnswer
	Paths  map[string]ColdAnswer // for a path and all below it, instead; "" and nil hold none
}

// ColdStatePath is the path below which a caller who was told to come back asks
// how the start goes: one segment, the identifier of the request. It is the
// gateway's own for services that tell anybody so, and the service's otherwise.
const ColdStatePath = "/.well-known/polder/cold/"

// ColdAnswer is what one caller of a service without an instance gets.
type ColdAnswer string

// The answers. In a Model the zero value means ColdHold.
const (
	ColdHold     ColdAnswer = "hold"     // what the instance says, once there is one
	ColdAccepted ColdAnswer = "accepted" // 202 and a link to the state of the start; the call is dropped
	ColdPage     ColdAnswer = "page"     // for browsers, a page that waits; all others are held
	ColdReject   ColdAnswer = "reject"   // 503 with retry-after
)

// For is the answer to a call of the path: that of the longest of Paths which is
// the path, or above it.
func (c Cold) For(path string) ColdAnswer {
	answer, longest := c.Answer, -1
	for above, other := range c.Paths {
		if len(above) > longest && within(path, above) {
			answer, longest = other, len(above)
		}
	}
	if answer == "" {
		return ColdHold
	}
	return answer
}

// within tells whether a path is the other one, or below it.
func within(path, above string) bool {
	rest, ok := strings.CutPrefix(path, strings.TrimSuffix(above, "/"))
	return ok && (rest == "" || rest[0] == '/')
}

// Uses tells whether any call may get the answer.
func (c Cold) Uses(answers ...ColdAnswer) bool {
	for _, a := range answers {
		if c.Answer == a {
			return true
		}
		for _, other := range c.Paths {
			if other == a {
				return true
			}
		}
	}
	return false
}
