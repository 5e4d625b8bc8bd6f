package polder

import (
	"os"
	"strings"
	"testing"
)

// unseen are the mistakes that a schema of one file's form cannot see, by why.
var unseen = map[string][]string{
	"a JSON value has no keys twice":                   {"duplicate key", "duplicate section", "duplicate service"},
	"one value depends on another":                     {"min above max", "schedule above max", "broken for too long", "broken too shortly", "broken backwards", "host claimed twice", "wildcard claimed twice", "endpoints in a forbidden region", "budget in another currency", "budget without prices", "cold start without prices", "budget of a tenant without prices", "region without a price", "Envoys on other machines that nobody listens for", "clients that nobody listens for", "activator for clients without a control plane", "activator for clients where the control plane is", "prefix in two places"},
	"names of regions and tenants are the file's own":  {"unknown tenant", "unknown region", "region in capitals", "jurisdiction in lower case", "unknown jurisdiction", "failover to an allowed region", "break-glass to an allowed region", "failover to an unknown region", "failover to a jurisdiction", "endpoints in an unknown region", "prices of an unknown region", "place near an unknown region"},
	"a pattern would be long and would explain little": {"address as a host", "schedule with a word for a day", "schedule by a nickname", "schedule in a zone that is none", "endpoint with a bad port", "endpoint by name", "endpoint that is no machine", "IPv6 endpoint without brackets", "listen address by name", "node that listens by name", "wildcard over a top-level domain", "directory of a shell", "name server as an address", "public address with a port", "public address of nobody", "public address twice in two forms", "place that is no prefix", "place with bits beyond its prefix"},
	"bounds of text":                                   {"duration out of bounds", "schedule without an end", "TTL of a second and a half", "TTL of a day", "too little memory", "no money", "program without a name", "quota of nothing", "variable with a NUL", "argument with a NUL", "ready with a space", "broken with an empty reason", "endpoint with a zone", "peer to join by URL"},
	"JSON has no such number":                          {"location that is no number"},
	"bounds of an item among items of one form":        {"latitude out of range", "longitude out of range"},
	"a folder may have it in another file":             {"no region"},
}

func TestTheSchemaSeesMistakesOfForm(t *testing.T) {
	why := make(map[string]string)
	for reason, names := range unseen {
		for _, name := range names {
			why[name] = reason
		}
	}
	schema := compiledSchema(t)
	seen := 0
	for _, c := range append(brokenCases(), machineCases()...) {
		v, err := instance([]byte(strings.ReplaceAll(c.text, mark, "")))
		if err == nil {
			err = schema.Validate(v)
		} else if why[c.name] == "" {
			t.Errorf("%s: %v", c.name, err)
			continue
		} else {
			delete(why, c.name)
			continue
		}
		if _, ok := why[c.name]; ok == (err != nil) {
			t.Errorf("%s: the schema says %v; listed as unseen: %v", c.name, err, ok)
		}
		delete(why, c.name)
		if err != nil {
			seen++
		}
	}
	for name := range why {
		t.Errorf("%s is listed as unseen and is no case", name)
	}
	if seen < 60 {
		t.Errorf("the schema sees %d kinds of mistakes", seen)
	}
}

func TestTheSchemaAcceptsTheExamples(t *testing.T) {
	example, err := os.ReadFile("examples/polder.yaml")
	if err != nil {
		t.Fatal(err)
	}
	schema := compiledSchema(t)
	for name, text := range map[string][]byte{"examples/polder.yaml": example, "docs/config.md": docExample(t), "good": []byte(good)} {
		v, err := instance(text)
		if err != nil {
			t.Fatal(err)
		}
		if err := schema.Validate(v); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// docExample is the first YAML block of docs/config.md.
func docExample(t *testing.T) []byte {
	t.Helper()
	_, rest, _ := strings.Cut(introduction, "```yaml\n")
	block, _, ok := strings.Cut(rest, "```")
	if !ok {
		t.Fatal("docs/config.md has no example")
	}
	return []byte(block)
}
