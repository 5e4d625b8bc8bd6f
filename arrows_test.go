package polder_test

import (
	"go/ast"
	"slices"
	"strings"
	"testing"
)

// arrows say what of ours each part of the module may import, tests included.
// The longest matching part counts. They point down:
//
//	cmd/polder → gateway → xds, regions, prewarm → the root
var arrows = []struct {
	part   string
	may    []string
	reason string
}{
	{".", nil, "the words depend on nothing, so that everything may depend on them"},
	{"regions", []string{".", "regions"}, "regions, xds and prewarm exchange words of the root, and gateway connects them: what they know of each other would have to change together"},
	{"regions/law", []string{"."}, "the law reads like the law: it follows from the words alone"},
	{"regions/gossip", []string{".", "regions"}, "gossip carries rows and decides nothing"},
	{"xds", []string{".", "xds", "regions/law"}, "regions, xds and prewarm exchange words of the root, and gateway connects them; translate takes what the law approved"},
	{"xds/proof", []string{".", "regions/law"}, "the proof would repeat translate's mistakes if it shared code with it"},
	{"prewarm", []string{".", "prewarm", "regions/law"}, "regions, xds and prewarm exchange words of the root, and gateway connects them: what they know of each other would have to change together"},
	{"prewarm/instance/process", nil, "processes are started and adopted for instances and for Envoy alike: it knows neither"},
	{"gateway", []string{".", "gateway", "xds", "regions", "prewarm", "internal/freeport"}, "gateway connects the parts; load is sent from outside and evidence is gathered from outside"},
	{"gateway/authority", []string{"."}, "certificates know hosts and regions, and nothing that uses them"},
	{"gateway/envoy", []string{"prewarm/instance/process"}, "a supervisor keeps a program running that it knows nothing of: configuration comes over xDS"},
	{"gateway/activator", []string{".", "gateway/activator"}, "the activator is on the path of cold requests: it knows a function that wakes, and not what does"},
	{"loadtest", []string{"loadtest"}, "load is sent as a stranger would: whoever knows our inside measures something else"},
	{"tools", []string{".", "bench", "prewarm", "loadtest"}, "tools prepare what is built and tested: they run nothing of a region"},
	{"bench", []string{".", "bench", "gateway", "xds", "regions", "prewarm", "loadtest", "internal/freeport"}, "nothing imports a command"},
	{"cmd", []string{".", "bench", "gateway", "xds", "regions", "prewarm", "loadtest"}, "nothing imports a command"},
	{"internal/faketime", nil, "tests of every package use it"},
	{"internal/grpctest", nil, "calls are made as a stranger makes them"},
	{"internal/freeport", nil, "it knows ports, and not what for"},
	{"examples", []string{"examples"}, "a sample is what a user would write, who has nothing of ours"},
}

// testArrows are what the tests of one package may import besides: a proof is
// held against what translate makes.
var testArrows = [][2]string{
	{"xds/proof", "xds"},
}

func TestArrows(t *testing.T) {
	for _, p := range packages(t) {
		at := -1
		for i, a := range arrows {
			if within(p.dir, a.part) && (at < 0 || len(a.part) > len(arrows[at].part)) {
				at = i
			}
		}
		if at < 0 {
			t.Errorf("%s: a new part of the module: write in arrows_test.go what it may import, and why", p.dir)
			continue
		}
		p.imports(func(f file, imported string) {
			dir, ok := ours(imported)
			excused := f.test && (within(dir, "internal") || slices.Contains(testArrows, [2]string{p.dir, dir}))
			if ok && dir != p.dir && !within(dir, arrows[at].may...) && !excused {
				t.Errorf("%s imports %s: %s may import of ours only %v, because %s",
					f.name, imported, arrows[at].part, arrows[at].may, arrows[at].reason)
			}
		})
	}
}

// fences say which parts may reach a library, tests aside where that is said.
var fences = []struct {
	library string
	parts   []string
	tests   bool // whether tests elsewhere may
	reason  string
}{
	{"github.com/hashicorp/memberlist", []string{"regions/gossip"}, false, "what the membership does is behind one package, which can be replaced"},
	{"github.com/envoyproxy", []string{"xds", "bench/convergence", "bench/conformance"}, true, "Envoy's types outside of xds would let configuration be made that the law has not approved"},
	{"github.com/cncf/xds", []string{"xds"}, true, "Envoy's types outside of xds would let configuration be made that the law has not approved"},
	{"google.golang.org/protobuf", []string{"xds", "bench/convergence", "bench/conformance"}, true, "protobufs are how we talk to Envoy, not how we think"},
	{"google.golang.org/grpc", []string{"xds", "gateway", "bench/convergence", "bench/conformance", "internal/grpctest"}, true, "gRPC is how we talk to Envoy: xds has the services, gateway the server with its socket"},
	{"github.com/goccy/go-yaml", []string{"."}, true, "one package reads the configuration, so that its rules are the same for every reader"},
	{"github.com/miekg/dns", []string{"gateway/dns"}, true, "what is told over DNS is the law's choice, and made in one package"},
	{"github.com/spf13/cobra", []string{"cmd", "bench"}, true, "flags are the command's matter"},
	{"github.com/charmbracelet", []string{"cmd"}, true, "the terminal is the command's matter"},
	{"flag", []string{"cmd", "bench", "tools"}, true, "flags are the command's matter"},
	{"testing", []string{"prewarm/instance/instancetest", "internal/faketime"}, true, "the product does not contain its tests; a conformance suite is for tests of several packages"},
}

func TestFences(t *testing.T) {
	for _, p := range packages(t) {
		p.imports(func(f file, imported string) {
			for _, fence := range fences {
				reached := imported == fence.library || strings.HasPrefix(imported, fence.library+"/")
				if reached && !within(p.dir, fence.parts...) && !(f.test && fence.tests) {
					t.Errorf("%s imports %s, which only %v may: %s", f.name, imported, fence.parts, fence.reason)
				}
			}
		})
	}
}

// pure are the packages that compute and do nothing else: no file, socket,
// clock, chance or goroutine. What they do is the same every time, in a test, in
// a simulation of a day, and in production.
var pure = []string{".", "regions", "regions/law", "xds", "xds/proof", "prewarm", "prewarm/budget"}

func TestPure(t *testing.T) {
	// What a pure package does not import, and what it may use of a package
	// that has both.
	never := []string{"os", "io/ioutil", "syscall", "golang.org/x/sys", "net/http", "net/rpc", "log", "context", "crypto/rand", "math/rand", "plugin"}
	only := map[string][]string{
		"net":  {"SplitHostPort", "JoinHostPort", "ParseIP", "ParseMAC", "ParseCIDR", "IP", "IPv4", "IPMask", "IPNet", "CIDRMask", "AddrError", "ParseError"},
		"time": nil,
	}
	clock := []string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker"}
	for _, p := range packages(t) {
		if !slices.Contains(pure, p.dir) {
			continue
		}
		for _, f := range p.files {
			if f.test {
				continue
			}
			for name, allowed := range only {
				f.uses(name, func(used string, at position) {
					if name == "time" && slices.Contains(clock, used) || name != "time" && !slices.Contains(allowed, used) {
						t.Errorf("%s: %s.%s in package %s, which is pure: hand it in as a value", at, name, used, p.dir)
					}
				})
			}
			ast.Inspect(f.File, func(n ast.Node) bool {
				if goes, ok := n.(*ast.GoStmt); ok {
					t.Errorf("%s: a goroutine in package %s, which is pure: its caller owns the goroutines", f.set.Position(goes.Pos()), p.dir)
				}
				return true
			})
		}
		p.imports(func(f file, imported string) {
			if f.test {
				return
			}
			for _, library := range never {
				if imported == library || strings.HasPrefix(imported, library+"/") {
					t.Errorf("%s imports %s in package %s, which is pure: hand it in as a value", f.name, imported, p.dir)
				}
			}
			if dir, ok := ours(imported); ok && !slices.Contains(pure, dir) {
				t.Errorf("%s imports %s, which is not pure: package %s would not be either", f.name, imported, p.dir)
			}
		})
	}
}
