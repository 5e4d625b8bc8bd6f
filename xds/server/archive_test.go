package server

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/polder/polder/xds"
)

// kept makes a resource whose version is that of its bytes, as in production.
func kept(typeURL, name, bytes string) xds.Resource {
	return xds.Restore(xds.Key{Type: typeURL, Name: name}, []byte(bytes))
}

func openArchive(t *testing.T, file string) *Archive {
	t.Helper()
	a, err := OpenArchive(file, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// TestRestartWithABadResource restarts Polder and Envoy while the configuration
// has a resource that Envoy rejects: the new Envoy gets the last accepted
// version, of a life before, and is never asked to take the bad one again.
func TestRestartWithABadResource(t *testing.T) {
	file := filepath.Join(t.TempDir(), "accepted")
	good, bad := kept(xds.TypeCluster, "service/a", "good"), kept(xds.TypeCluster, "service/a", "bad")
	other := kept(xds.TypeCluster, "service/b", "fine")

	first := openArchive(t, file)
	c := newControl(t, Options{Archive: first})
	c.Apply([]xds.Resource{good, other}, nil)
	e := c.envoy("fr-1")
	e.accept(e.expect(xds.TypeCluster, "service/a@"+good.Version, "service/b@"+other.Version))
	c.Apply([]xds.Resource{bad}, nil)
	e.reject(e.expect(xds.TypeCluster, "service/a@"+bad.Version), "no")
	e.barrier(c, "quiet")
	if err := first.flush(false); err != nil { // then it is killed
		t.Fatal(err)
	}

	c = newControl(t, Options{Archive: openArchive(t, file)})
	c.Apply([]xds.Resource{bad, other}, nil)
	e = c.envoy("fr-1")
	e.accept(e.expect(xds.TypeCluster, "service/a@"+good.Version, "service/b@"+other.Version))
	e.barrier(c, "still quiet")
	better := kept(xds.TypeCluster, "service/a", "better")
	c.Apply([]xds.Resource{better}, nil)
	e.accept(e.expect(xds.TypeCluster, "service/a@"+better.Version))
}

// TestRejectedAtOnce starts with a version that was never tried, which Envoy
// rejects: the one that was accepted in an earlier life takes its place.
func TestRejectedAtOnce(t *testing.T) {
	file := filepath.Join(t.TempDir(), "accepted")
	first := openArchive(t, file)
	good, bad := kept(xds.TypeCluster, "service/a", "good"), kept(xds.TypeCluster, "service/a", "bad")
	first.keep("fr-1", good)
	if err := first.flush(false); err != nil {
		t.Fatal(err)
	}
	c := newControl(t, Options{Archive: openArchive(t, file)})
	c.Apply([]xds.Resource{bad}, nil)
	e := c.envoy("fr-1")
	e.reject(e.expect(xds.TypeCluster, "service/a@"+bad.Version), "no")
	e.accept(e.expect(xds.TypeCluster, "service/a@"+good.Version))
}

func TestArchiveHoldsOnlyWhatServicesOwn(t *testing.T) {
	file := filepath.Join(t.TempDir(), "accepted")
	a := openArchive(t, file)
	for _, r := range []xds.Resource{
		kept(xds.TypeSecret, "service/a", "a key"), kept(xds.TypeListener, "entrypoint-https", "a listener"),
		kept(xds.TypeEndpoint, "service/a", "an address"), kept(xds.TypeCluster, "pass/fr", "another region"),
		kept(xds.TypeRoute, "wildcards", "a route"),
	} {
		a.keep("fr-1", r)
		a.refuse("fr-1", r.Key, refusal{version: r.Version})
	}
	a.keep("fr-1", kept(xds.TypeScope, "host/a.example", "a scope"))
	if err := a.flush(false); err != nil {
		t.Fatal(err)
	}
	good, bad := openArchive(t, file).remembered()
	if len(good) != 1 || len(bad) != 0 {
		t.Errorf("kept %v and %v, want one scope", good, bad)
	}
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file is %v %v, want mode 0600", info.Mode(), err)
	}
}

// TestArchiveStaysSmall changes one resource again and again.
func TestArchiveStaysSmall(t *testing.T) {
	file := filepath.Join(t.TempDir(), "accepted")
	a := openArchive(t, file)
	body := strings.Repeat("x", 10_000)
	var last xds.Resource
	for i := range 1_000 {
		last = kept(xds.TypeRoute, "host/a", fmt.Sprint(i, body))
		a.keep("fr-1", last)
		if err := a.flush(false); err != nil {
			t.Fatal(err)
		}
	}
	info, err := os.Stat(file)
	if err != nil || info.Size() > 2*archiveSlack {
		t.Errorf("%d bytes %v after 1,000 changes of one resource, want at most %d", info.Size(), err, 2*archiveSlack)
	}
	a.keep("fr-1", kept(xds.TypeRoute, "host/gone", "1"))
	a.forget(xds.Key{Type: xds.TypeRoute, Name: "host/gone"})
	if err := a.flush(false); err != nil {
		t.Fatal(err)
	}
	good, _ := openArchive(t, file).remembered()
	if len(good) != 1 || good[last.Key].Version != last.Version {
		t.Errorf("%d resources come back, want the last version of one", len(good))
	}
}

// TestArchiveSurvivesDamage cuts the last line short, as a crash does.
func TestArchiveSurvivesDamage(t *testing.T) {
	file := filepath.Join(t.TempDir(), "accepted")
	a := openArchive(t, file)
	a.keep("fr-1", kept(xds.TypeRoute, "host/a", "1"))
	if err := a.flush(false); err != nil {
		t.Fatal(err)
	}
	a.keep("fr-1", kept(xds.TypeRoute, "host/b", "1"))
	if err := a.flush(false); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, info.Size()-5); err != nil {
		t.Fatal(err)
	}
	again := openArchive(t, file)
	if good, _ := again.remembered(); len(good) != 1 {
		t.Errorf("%d resources come back, want the one before the damage", len(good))
	}
	// What is written after the damage is not lost with it.
	again.keep("fr-1", kept(xds.TypeRoute, "host/c", "1"))
	if err := again.flush(false); err != nil {
		t.Fatal(err)
	}
	if good, _ := openArchive(t, file).remembered(); len(good) != 2 {
		t.Errorf("%d resources come back, want two", len(good))
	}
}

// TestArchiveForgetsThePast keeps, at a graceful end, only what the last
// configuration had.
func TestArchiveForgetsThePast(t *testing.T) {
	file := filepath.Join(t.TempDir(), "accepted")
	a := openArchive(t, file)
	a.keep("fr-1", kept(xds.TypeRoute, "host/old", "1"))
	if err := a.flush(false); err != nil {
		t.Fatal(err)
	}
	a = openArchive(t, file)
	c := newControl(t, Options{Archive: a})
	c.Apply([]xds.Resource{kept(xds.TypeRoute, "host/new", "1")}, nil)
	a.keep("fr-1", kept(xds.TypeRoute, "host/new", "1"))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := a.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if good, _ := openArchive(t, file).remembered(); len(good) != 1 || good[xds.Key{Type: xds.TypeRoute, Name: "host/new"}].Body == nil {
		t.Errorf("kept %v, want host/new only", good)
	}
}
