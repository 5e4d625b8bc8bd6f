package server

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the table of clauses in docs/xds.md anew")

// protocolText is what the clauses are from: xDS REST and gRPC protocol, in Envoy's documentation.
const protocolText = "https://www.envoyproxy.io/docs/envoy/v1.40.0/api-docs/xds_protocol#"

type tests []func(*testing.T)

// clause is one demand of the protocol's text, and the tests that hold the server to it.
type clause struct {
	title, section string // section is the anchor in protocolText
	delta, state   tests  // on the aggregated stream
	separate       tests  // on streams of one type, in both variants unless only says otherwise
	only           string // why a column is empty
}

var clauses = []clause{
	{title: "The first request names the node; later ones need not", section: "basic-protocol-overview",
		delta: tests{TestConformanceNodeInTheFirstRequest}, state: tests{TestConformanceNodeInTheFirstRequest}, separate: tests{TestConformanceNodeInTheFirstRequest}},
	{title: "ACK: the next version follows", section: "ack",
		delta: tests{TestConformanceDeltaRemoval}, state: tests{TestConformanceStateOfTheWorldHoldsEverything}, separate: tests{TestConformanceSeparateDelta, TestConformanceSeparateState}},
	{title: "NACK: never the same again, but the next version", section: "nack",
		delta: tests{TestRejectionIsolatesOneResource}, state: tests{TestConformanceStateOfTheWorldRejection}, separate: tests{TestConformanceSeparateDelta, TestConformanceSeparateState}},
	{title: "error_detail is what makes a NACK, whatever the version", section: "ack-and-nack-semantics-summary",
		delta: tests{TestConformanceErrorDetailRejects}, state: tests{TestConformanceErrorDetailRejects}, separate: tests{TestConformanceErrorDetailRejects}},
	{title: "A version changes when something changes, and only changes are sent", section: "when-to-send-an-update",
		delta: tests{TestConformanceOnlyChangesAreSent}, state: tests{TestConformanceOnlyChangesAreSent}, separate: tests{TestConformanceOnlyChangesAreSent}},
	{title: "State of the world: names of a request with a stale nonce do not count", section: "resource-updates",
		state: tests{TestConformanceStateOfTheWorldStaleNonce}, only: "delta has the next clause instead; a separate stream is read by the same code"},
	{title: "Delta: what is subscribed to counts, even with a stale nonce", section: "incremental-xds",
		delta: tests{TestConformanceDeltaStaleNonce}, separate: tests{TestConformanceDeltaStaleNonce}, only: "of delta"},
	{title: "A nonce does not survive its stream", section: "basic-protocol-overview",
		delta: tests{TestConformanceDeltaResumption}, state: tests{TestConformanceStateResumption}, separate: tests{TestConformanceStateResumption}},
	{title: "Names: what is newly requested is sent, also again", section: "how-the-client-specifies-what-resources-to-return",
		delta: tests{TestConformanceDeltaSubscribingAgainSendsAgain}, state: tests{TestConformanceStateOfTheWorldNames}, separate: tests{TestConformanceSeparateDelta, TestConformanceSeparateState}},
	{title: "Wildcard: legacy, by no names, and explicit, by *", section: "how-the-client-specifies-what-resources-to-return",
		delta: tests{TestConformanceDeltaWildcard}, state: tests{TestConformanceStateWildcardIsLeft}, separate: tests{TestConformanceSeparateWildcard}},
	{title: "Leaving the wildcard; after a name, no names mean nothing", section: "how-the-client-specifies-what-resources-to-return",
		delta: tests{TestConformanceDeltaWildcardIsLeft}, state: tests{TestConformanceStateWildcardIsLeft}, separate: tests{TestConformanceDeltaWildcardIsLeft, TestConformanceStateWildcardIsLeft}},
	{title: "Grouping: delta has what changed; the state of the world all listeners or clusters, of other types what changed", section: "grouping-resources-into-responses",
		delta: tests{TestSlowEnvoyGetsTheLatest}, state: tests{TestConformanceStateOfTheWorldHoldsEverything, TestStateOfTheWorld}, separate: tests{TestConformanceSeparateDelta, TestConformanceSeparateState}},
	{title: "No name twice in one response", section: "duplicate-resource-names",
		delta: tests{TestConformanceNoNameTwice}, state: tests{TestConformanceNoNameTwice}, separate: tests{TestConformanceNoNameTwice}},
	{title: "Deleting listeners and clusters", section: "deleting-resources",
		delta: tests{TestConformanceDeltaRemoval}, state: tests{TestConformanceStateOfTheWorldHoldsEverything}, separate: tests{TestConformanceSeparateWildcard}},
	{title: "Deleting others", section: "deleting-resources",
		delta: tests{TestConformanceDeltaRemoval}, state: tests{TestConformanceStateNotThere}, separate: tests{TestConformanceSeparateDelta, TestConformanceStateNotThere}},
	{title: "What does not exist, and comes later", section: "knowing-when-a-requested-resource-does-not-exist",
		delta: tests{TestConformanceDeltaSubscribingToAnUnknownNameIsAnswered}, state: tests{TestConformanceStateNotThere}, separate: tests{TestConformanceSeparateDelta, TestConformanceStateNotThere}},
	{title: "Unsubscribing", section: "unsubscribing-from-resources",
		delta: tests{TestConformanceDeltaUnsubscribe}, state: tests{TestConformanceStateOfTheWorldNames}, separate: tests{TestConformanceSeparateDelta, TestConformanceSeparateState}},
	{title: "Delta: a name left under a wildcard is answered", section: "xds-protocol-unsubscribe",
		delta: tests{TestConformanceDeltaUnsubscribeUnderWildcard}, separate: tests{TestConformanceDeltaUnsubscribeUnderWildcard}, only: "of delta"},
	{title: "Delta: phantom unsubscriptions are ignored", section: "xds-protocol-unsubscribe",
		delta: tests{TestConformanceDeltaPhantomUnsubscribe}, separate: tests{TestConformanceDeltaPhantomUnsubscribe}, only: "of delta"},
	{title: "Several resources on one stream, several streams", section: "requesting-multiple-resources-on-a-single-stream",
		delta: tests{TestConformanceSeveralStreams}, state: tests{TestConformanceSeveralStreams}, separate: tests{TestConformanceSeveralStreams}},
	{title: "Warming: a cluster's endpoints follow it, changed or not", section: "resource-warming",
		delta: tests{TestEndpointsFollowTheirCluster, TestClusterGoesBeforeItIsWarm}, separate: tests{TestSeparateStreamsAreOneNode}, only: "the state of the world takes the same path"},
	{title: "Make before break", section: "eventual-consistency-considerations",
		delta: tests{TestMakeBeforeBreak}, state: tests{TestStateOfTheWorld}, only: "no order between separate streams"},
	{title: "On demand: asked for in the middle of a stream", section: "incremental-xds",
		delta: tests{TestSecretsComeOnDemandAndGo}, separate: tests{TestConformanceSeparateDelta}, only: "of delta"},
	{title: "Resumption by initial_resource_versions", section: "incremental-xds",
		delta: tests{TestConformanceDeltaResumption, TestReconnectingEnvoyGetsOnlyWhatChanged}, separate: tests{TestConformanceDeltaResumption}, only: "of delta"},
	{title: "A stream of one type is of that type", section: "aggregated-discovery-service",
		separate: tests{TestConformanceSeparateOtherType}, only: "of separate streams"},
}

// name is how a test function is called.
func name(test func(*testing.T)) string {
	full := runtime.FuncForPC(reflect.ValueOf(test).Pointer()).Name()
	return full[strings.LastIndex(full, ".")+1:]
}

func (t tests) String() string {
	var names []string
	for _, test := range t {
		names = append(names, "`"+strings.TrimPrefix(strings.TrimPrefix(name(test), "Test"), "Conformance")+"`")
	}
	if names == nil {
		return "–"
	}
	return strings.Join(names, " ")
}

// TestClauses fails for a clause without a test, for an empty column that nobody
// explains, and for a test of conformance that belongs to no clause.
func TestClauses(t *testing.T) {
	used := map[string]bool{}
	for _, c := range clauses {
		empty := false
		for _, column := range []tests{c.delta, c.state, c.separate} {
			empty = empty || len(column) == 0
			for _, test := range column {
				used[name(test)] = true
			}
		}
		if len(c.delta)+len(c.state)+len(c.separate) == 0 {
			t.Errorf("%q: no test", c.title)
		}
		if c.title == "" || c.section == "" || empty != (c.only != "") {
			t.Errorf("%q: title and section are needed, and a reason exactly where a column is empty", c.title)
		}
	}
	files, err := filepath.Glob("*_test.go")
	if err != nil || len(files) == 0 {
		t.Fatal("no files of tests: ", err)
	}
	for _, file := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range parsed.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && strings.HasPrefix(f.Name.Name, "TestConformance") && !used[f.Name.Name] {
				t.Errorf("%s: %s belongs to no clause", file, f.Name.Name)
			}
		}
	}
}

// TestClausesAreDocumented holds the table of docs/xds.md equal to this one.
func TestClausesAreDocumented(t *testing.T) {
	const file, begin, end = "../../docs/xds.md", "<!-- clauses -->\n", "<!-- end of clauses -->\n"
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(text), begin)
	had, after, ended := strings.Cut(rest, end)
	if !ok || !ended {
		t.Fatalf("%s has no place for the clauses, between %q and %q", file, begin, end)
	}
	var want strings.Builder
	want.WriteString("| clause | delta | state of the world | separate streams |\n| --- | --- | --- | --- |\n")
	for _, c := range clauses {
		title := fmt.Sprintf("[%s](%s%s)", c.title, protocolText, c.section)
		if c.only != "" {
			title += " (" + c.only + ")"
		}
		fmt.Fprintf(&want, "| %s | %s | %s | %s |\n", title, c.delta, c.state, c.separate)
	}
	if *update {
		if err := os.WriteFile(file, []byte(before+begin+want.String()+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if had != want.String() {
		t.Errorf("the table of %s is not that of clauses_test.go; run: go test ./xds/server -run Clauses -update", file)
	}
}
