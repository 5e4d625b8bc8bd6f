package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway"
	"github.com/polder/polder/xds/server"
)

// TestExit runs the very command on what people get wrong. Every answer is one
// line (faults of a configuration aside) that says what to do, and an exit code.
func TestExit(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	good := write("good.yaml", "regions:\n  fr: { jurisdiction: [FR], location: [48.86, 2.35] }\n")
	bad := write("bad.yaml", "regions:\n  fr: { jurisdiction: [FR], place: here }\n")
	state := filepath.Join(dir, "state")
	empty := filepath.Join(dir, "empty")
	stopped := filepath.Join(dir, "stopped")
	for _, d := range []string{filepath.Join(empty, "regions"), filepath.Join(stopped, "regions", "fr")} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}

	for _, c := range []struct {
		args string
		code int
		says string // on stderr for errors, on stdout otherwise
	}{
		{"", exitDone, "Available Commands"},
		{"help", exitDone, "Available Commands"},
		{"help load", exitDone, "Latency counts"},
		{"load --help", exitDone, "Latency counts"},
		{"bench", exitDone, "policy"},
		{"completion", exitDone, "bash"},
		{"version", exitDone, "Envoy"},
		{"check " + good, exitDone, "1 region, 0 services, no faults"},
		{"check --config " + good, exitDone, "1 region, 0 services, no faults"},
		{"check --config " + good + " " + good, exitUsage, "is said twice"},

		{"stats", exitUsage, `polder has no command "stats": did you mean status?; see polder --help`},
		{"frobnicate", exitUsage, `polder has no command "frobnicate"; see polder --help`},
		{"bench police", exitUsage, `did you mean policy?`},
		{"help frobnicate", exitUsage, `polder has no command "frobnicate"`},
		{"completion tcsh", exitUsage, `has no command "tcsh"`},
		{"--pump", exitUsage, "unknown flag: --pump"},
		{"status --stat x", exitUsage, "unknown flag: --stat; see polder status --help"},
		{"status extra", exitUsage, "see polder status --help"},
		{"status --output xml", exitUsage, "want text or json"},
		{"status --state", exitUsage, "flag needs an argument"},
		{"check a b", exitUsage, `"b" is an argument too many: write polder check [PATH]`},
		{"version extra", exitUsage, "see polder version --help"},
		{"logs", exitUsage, "an argument is missing: write polder logs SERVICE"},
		{"logs billing --lines -1", exitUsage, "--lines is -1, want 0 to 10000"},
		{"logs billing --lines many", exitUsage, `invalid argument "many"`},
		{"why", exitUsage, "an argument is missing: write polder why REQUEST-ID|SERVICE"},
		{"why billing --output xml", exitUsage, "want text or json"},
		{"run", exitUsage, `required flag(s) "region" not set`},
		{"up extra", exitUsage, "see polder up --help"},
		{"up --config " + good + " --port 70000 --state " + state, exitUsage, "--port: 70000 leaves no room"},
		{"up --config " + good + " --port 80 --state " + state, exitUsage, "want 0, or 1001 to 65535"},
		{"load extra", exitUsage, "see polder load --help"},
		{"load --rate 0", exitUsage, "--rate is 0, want more than 0"},
		{"load --rate NaN", exitUsage, "--rate is NaN"},
		{"load --rate fast", exitUsage, `invalid argument "fast"`},
		{"load --duration 5", exitUsage, "missing unit"},
		{"load --duration -1s", exitUsage, "--duration is -1s"},
		{"load --trace x --rate 3", exitUsage, "[rate trace]"},
		{"load --trace x --speed 0", exitUsage, "--speed is 0"},
		{"load --functions 0", exitUsage, "--functions is 0"},
		{"load --from -1", exitUsage, "--from is -1"},
		{"load --minutes -1", exitUsage, "--minutes is -1"},
		{"load --max-rate -1", exitUsage, "--max-rate is -1"},
		{"load --path here", exitUsage, `--path is "here"`},
		{"load --timeout 0s", exitUsage, "--timeout is 0s"},
		{"load --in-progress 0", exitUsage, "--in-progress is 0"},
		{"audit extra", exitUsage, `polder audit has no command "extra"`},
		{"audit ledger verify extra", exitUsage, "see polder audit ledger verify --help"},
		{"audit ledger verify --head 7 --state " + stopped, exitUsage, `--head is "7", want a number`},
		{"audit report", exitUsage, `required flag(s) "html" not set`},
		{"bench policy", exitUsage, "an argument is missing: write polder bench policy TRACE"},
		{"bench cold --programs perl", exitUsage, `there is no program "perl"`},
		{"bench policy trace.csv --output xml", exitUsage, "want text or json"},

		{"check " + bad, exitFaults, "place"},
		{"check " + filepath.Join(dir, "none.yaml"), exitFaults, "no such file"},
		{"up --config " + bad + " --state " + state, exitFaults, "place"},
		{"up --config " + filepath.Join(dir, "none.yaml") + " --state " + state, exitFaults, "no such file"},
		{"run --region fr --config " + bad + " --state " + state, exitFaults, "place"},
		{"run --region fr --config " + filepath.Join(dir, "nowhere.yaml") + " --state " + state, exitFaults, "no such file"},

		{"status --state " + state + "/none", exitNotThere, "start one with polder up or polder run"},
		{"status --state " + empty, exitNotThere, "start one with polder up or polder run"},
		{"status --state " + stopped, exitNotThere, "region does not run: fr"},
		{"logs billing --state " + stopped, exitNotThere, "region does not run: fr"},
		{"why billing --state " + stopped, exitNotThere, "region does not run: fr"},
		{"load --state " + stopped, exitNotThere, "region does not run: fr"},
		{"audit --state " + stopped, exitNotThere, "region does not run: fr"},
		{"audit --state " + empty, exitNotThere, "start one with polder up or polder run"},
		{"audit ledger verify --state " + stopped, exitNotThere, "region fr has no ledger"},
		{"audit ledger export --region xx --state " + stopped, exitNotThere, `there is no region "xx"`},
		{"audit report --html - --state " + stopped, exitNotThere, "name one with --config"},
		{"dns records " + filepath.Join(dir, "none.yaml"), exitFaults, "no such file"},
		{"dns records --without xx " + good, exitNotThere, "--without xx: there is no such region"},
		{"dns records " + good, exitDone, ""},
		{"run --region fr --dns nowhere --config " + good + " --state " + state, exitFailed, `address of DNS is "nowhere"`},
		{"check " + good + " --explain billing", exitNotThere, `there is no service "billing"`},
		{"run --region fr --clients 10.0.0.1:7445 --config " + good + " --state " + state, exitFailed, "there is no control plane for clients"},
		{"run --region xx --config " + good + " --state " + state, exitNotThere, `region "xx" is not in the configuration`},

		{"load --compare " + filepath.Join(dir, "none.json"), exitFailed, "report to compare with"},
		{"bench policy " + filepath.Join(dir, "none.csv"), exitFailed, "open trace"},
		{"up --config " + good + " --port 0 --state " + good, exitFailed, "not a directory"},
	} {
		t.Run("polder "+strings.ReplaceAll(c.args, dir, "DIR"), func(t *testing.T) {
			code, stdout, stderr := run(t, strings.Fields(c.args)...)
			said := stderr
			if c.code == exitDone {
				said = stdout
			}
			if code != c.code || !strings.Contains(said, c.says) {
				t.Errorf("exit code %d, want %d with %q; stdout:\n%s\nstderr:\n%s", code, c.code, c.says, stdout, stderr)
			}
			if c.code != exitDone && stdout != "" {
				t.Errorf("an error on stdout: %q", stdout)
			}
			lines := strings.Split(strings.TrimSuffix(stderr, "\n"), "\n")
			if strings.HasPrefix(c.args, "run ") {
				lines = lines[len(lines)-1:] // its log comes before
			}
			if c.code != exitDone && c.code != exitFaults && (len(lines) != 1 || !strings.HasPrefix(lines[0], "polder: ")) {
				t.Errorf("not one line that begins with polder: %q", stderr)
			}
		})
	}
}

// TestCheckJSON holds the JSON of polder check to what docs/cli.md says.
func TestCheckJSON(t *testing.T) {
	for path, want := range map[string]struct {
		code  int
		fatal bool
		fault bool
	}{
		three:                {exitDone, false, false},
		"testdata/pin.yaml":  {exitFaults, false, true},
		"testdata/none.yaml": {exitFaults, true, true},
	} {
		code, stdout, stderr := run(t, "check", path, "--output", "json")
		var report struct {
			Regions  *int
			Services *int
			Fatal    *bool
			Faults   []map[string]any
		}
		strict(t, stdout, &report)
		if code != want.code || stderr != "" || report.Regions == nil || report.Services == nil || report.Fatal == nil ||
			*report.Fatal != want.fatal || (len(report.Faults) > 0) != want.fault || report.Faults == nil {
			t.Errorf("check %s: exit code %d, %s%s; want %+v", path, code, stdout, stderr, want)
		}
		for _, f := range report.Faults {
			for _, key := range []string{"file", "line", "column", "message"} {
				if _, ok := f[key]; !ok {
					t.Errorf("check %s: fault without %q: %v", path, key, f)
				}
			}
		}
	}
}

// strict decodes one JSON value with the fields of into, and nothing else.
func strict(t *testing.T, text string, into any) {
	t.Helper()
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil || decoder.More() {
		t.Fatalf("not one JSON value as documented: %v\n%s", err, text)
	}
}

// TestStatusJSON holds the JSON of polder status to names that programs may rely
// on: what the command printed decodes without loss, and no name begins with a
// capital letter, as one without a tag would.
func TestStatusJSON(t *testing.T) {
	before := busy(0, 100).statuses
	before[0].Config.Faults = []polder.Fault{{At: polder.Position{File: "polder.yaml", Line: 9, Column: 26}, Service: "a", Message: "no", Fix: "write yes"}}
	before[0].Listen = polder.Listen{HTTPS: "127.0.0.1:8443", HTTP: "127.0.0.1:8080", Peer: "127.0.0.1:7443", Gossip: "127.0.0.1:7943"}
	before[0].Peers = []gateway.PeerStatus{{Peer: "fr-1", Region: "fr", Warm: []polder.ServiceName{"billing"}}}
	before[0].Nodes[0].Rejections = []server.Rejection{{Node: "fr-1", Type: "t", Name: "n", Version: "v", Reason: "r"}}
	var text strings.Builder
	if err := printJSON(&text, before); err != nil {
		t.Fatal(err)
	}
	var after []gateway.Status
	strict(t, text.String(), &after)
	if !reflect.DeepEqual(after, before) {
		t.Errorf("got\n%+v\nwant\n%+v", after, before)
	}
	var names func(where string, value any)
	names = func(where string, value any) {
		switch v := value.(type) {
		case []any:
			for _, item := range v {
				names(where, item)
			}
		case map[string]any:
			for name, item := range v {
				if name != strings.ToLower(name) {
					t.Errorf("%s.%s has capital letters", where, name)
				}
				names(where+"."+name, item)
			}
		}
	}
	var raw any
	strict(t, text.String(), &raw)
	names("status", raw)
}

func TestVersionJSON(t *testing.T) {
	code, stdout, _ := run(t, "version", "-o", "json")
	var v versionReport
	strict(t, stdout, &v)
	if code != exitDone || v.Version == "" || v.Envoy == "" || v.Go == "" {
		t.Errorf("exit code %d, %s", code, stdout)
	}
}

func TestExitCodesAreDocumented(t *testing.T) {
	for code, meaning := range exitCodes {
		if meaning == "" {
			t.Errorf("exit code %d has no meaning", code)
		}
	}
}
