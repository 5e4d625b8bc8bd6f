package proof_test

import "flag"

// The properties take some hundred milliseconds a try with the race detector.
// Long runs raise the number: go test ./xds/proof -rapid.checks=100000.
func init() {
	if err := flag.Set("rapid.checks", "25"); err != nil {
		panic(err)
	}
}
