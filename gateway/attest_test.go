package gateway

import "testing"

// TestTheSuspectIsNotAbsolved: an Envoy that broke the law is trusted by nobody while
// it still runs, however good it looks; the next one is.
func TestTheSuspectIsNotAbsolved(t *testing.T) {
	var a attestation
	if a.absolves(7) {
		t.Error("there was no distrust to take back")
	}
	a.suspect.Store(7)
	a.distrust.Store(true)
	if a.absolves(7) || a.status().Trusted {
		t.Error("the suspect is trusted again")
	}
	if !a.absolves(8) || !a.status().Trusted {
		t.Error("another process is not trusted")
	}
	a.suspect.Store(0) // nobody knows which process it was
	a.distrust.Store(true)
	if !a.absolves(0) {
		t.Error("an audit that finds everything in order absolves nobody")
	}
}
