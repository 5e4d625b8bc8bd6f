// Command conformance holds xds/server to a suite that others wrote: xds-test-harness,
// which the xDS working group of the CNCF began, with the scenarios of both variants of
// the protocol over aggregated and separate streams. The suite is no Go module that can
// be required, so it is built from its source beforehand:
//
//	git clone https://github.com/ii/xds-test-harness && cd xds-test-harness
//	protoc --go_out=. --go_opt=paths=source_relative --go-grpc_out=. \
//	  --go-grpc_opt=paths=source_relative api/adapter/adapter.proto && go build .
//
//	conformance --harness xds-test-harness
//	conformance --harness xds-test-harness -- -V "incremental aggregated"
//
// What follows the dashes is the suite's.
//
// It exits with 1 when a scenario fails, and with 2 when the suite could not run.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	harness := flag.String("harness", "xds-test-harness", "`folder` of the suite, with its program built")
	flag.Parse()
	failed, err := conform(ctx, *harness, flag.Args(), os.Stdout)
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, "conformance:", err)
		os.Exit(2)
	case failed > 0:
		os.Exit(1)
	}
}

// conform runs the suite of a folder against the server, and tells how many steps of
// its scenarios did not pass.
func conform(ctx context.Context, folder string, args []string, out io.Writer) (failed int, err error) {
	s, err := serve()
	if err != nil {
		return 0, err
	}
	defer s.stop()
	suite := exec.CommandContext(ctx, "./xds-test-harness", "-N", node, "-T", s.targetPort(), "-A", s.adapterPort())
	suite.Args = append(suite.Args, args...)
	suite.Dir, suite.Stderr = folder, os.Stderr
	results := filepath.Join(folder, "results.json")
	if err := os.Remove(results); err != nil && !errors.Is(err, os.ErrNotExist) {
		return 0, err
	}
	if err := suite.Run(); err != nil {
		return 0, fmt.Errorf("run %s in %s: %w; build it there first", suite.Path, folder, err)
	}
	text, err := os.ReadFile(results)
	if err != nil {
		return 0, fmt.Errorf("the suite left no results: %w", err)
	}
	return report(text, out)
}

// results are the suite's, as far as they are told. It counts steps, several of each
// scenario; those after one that failed do not pass either.
type results struct {
	Total, Passed    int
	ResultsByVariant []struct {
		Name            string
		Total, Passed   int
		FailedScenarios []struct{ Name, FailedStep, Error string }
	}
}

// report writes the suite's results, and tells how many steps did not pass.
func report(text []byte, out io.Writer) (failed int, err error) {
	var r results
	if err := json.Unmarshal(text, &r); err != nil {
		return 0, fmt.Errorf("results of the suite: %w", err)
	}
	if r.Total == 0 {
		return 0, errors.New("the suite ran nothing")
	}
	scenarios := 0
	for _, v := range r.ResultsByVariant {
		scenarios += len(v.FailedScenarios)
		fmt.Fprintf(out, "%s: %d of %d steps pass\n", v.Name, v.Passed, v.Total)
		for _, s := range v.FailedScenarios {
			fmt.Fprintf(out, "  failed: %s\n    at: %s\n    %s\n", s.Name, s.FailedStep, s.Error)
		}
	}
	fmt.Fprintf(out, "%d of %d steps pass; scenarios that fail: %d\n", r.Passed, r.Total, scenarios)
	return r.Total - r.Passed, nil
}
