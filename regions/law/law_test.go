package law_test

import (
	"flag"
	"os"
	"testing"
)

// TestMain lets every property try thousands of cases: one takes microseconds.
// The flag rapid.checks on the command line still wins.
func TestMain(m *testing.M) {
	if err := flag.Set("rapid.checks", "5000"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}
