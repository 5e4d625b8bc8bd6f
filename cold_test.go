package polder

import "testing"

func TestColdAnswerOfTheLongestPath(t *testing.T) {
	c := Cold{Answer: ColdPage, Paths: map[string]ColdAnswer{"/api": ColdHold, "/api/jobs/": ColdAccepted, "/x": ColdReject}}
	for path, want := range map[string]ColdAnswer{
		"/": ColdPage, "": ColdPage, "/ap": ColdPage, "/apis": ColdPage, // a neighbour is not below
		"/api": ColdHold, "/api/": ColdHold, "/api/jobs": ColdAccepted, "/api/jobs/7": ColdAccepted, "/api/jobsite": ColdHold,
		"/x/y": ColdReject, "*": ColdPage,
	} {
		if got := c.For(path); got != want {
			t.Errorf("%q: %s, want %s", path, got, want)
		}
	}
	if got := (Cold{}).For("/"); got != ColdHold {
		t.Errorf("nothing said: %s", got)
	}
	if got := (Cold{Paths: map[string]ColdAnswer{"/": ColdReject}}).For("/a/b"); got != ColdReject {
		t.Errorf("everything below /: %s", got)
	}
	if !c.Uses(ColdAccepted) || (Cold{Answer: ColdHold}).Uses(ColdAccepted, ColdPage) {
		t.Error("Uses tells of what is not there, or not of what is")
	}
}
