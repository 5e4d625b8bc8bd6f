package authority_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway/authority"
	"github.com/polder/polder/internal/faketime"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// asChild, when set, makes the test binary open the authority of the folder it
// names, as another process would, and print what it found.
const asChild = "AUTHORITY_TEST_CHILD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(asChild); dir != "" {
		if err := child(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func child(dir string) error {
	a, err := authority.Open(filepath.Join(dir, "authority"))
	if err != nil {
		return err
	}
	issuer, err := a.Issuer("fr", filepath.Join(dir, "fr"))
	if err != nil {
		return err
	}
	leaf, err := issuer.Leaf([]polder.Host{"billing.example.com"})
	if err != nil {
		return err
	}
	peer, err := issuer.Peer("fr-1")
	if err != nil {
		return err
	}
	_, err = fmt.Printf("%s%x\n%s%s%s", a.Root(), a.GossipKeys(), leaf.CertPEM, peer.CertPEM, peer.TrustPEM)
	return err
}

func open(t testingT, dir string) *authority.Authority {
	t.Helper()
	a, err := authority.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func issuer(t testingT, a *authority.Authority, region polder.RegionName, dir string) *authority.Issuer {
	t.Helper()
	i, err := a.Issuer(region, dir)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// TestProcessesAgree starts several processes on an empty folder at once: there
// is one authority in the end, and every process has it.
func TestProcessesAgree(t *testing.T) {
	dir := t.TempDir()
	outputs := make([][]byte, 6)
	var group errgroup.Group
	for n := range outputs {
		group.Go(func() error {
			command := exec.CommandContext(t.Context(), os.Args[0])
			command.Env = append(os.Environ(), asChild+"="+dir)
			command.Stderr = t.Output()
			var err error
			outputs[n], err = command.Output()
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	for n, output := range outputs {
		if !bytes.Equal(output, outputs[0]) {
			t.Errorf("process %d has another authority than process 0:\n%s\n---\n%s", n, output, outputs[0])
		}
	}
	if !bytes.Contains(outputs[0], open(t, filepath.Join(dir, "authority")).Root()) {
		t.Error("a later process has another root")
	}
}

// TestSecretsAreTheOwnersAlone walks everything that was written.
func TestSecretsAreTheOwnersAlone(t *testing.T) {
	dir := t.TempDir()
	a := open(t, filepath.Join(dir, "authority"))
	i := issuer(t, a, "fr", filepath.Join(dir, "fr"))
	if _, err := i.Leaf([]polder.Host{"a.example.com"}); err != nil {
		t.Fatal(err)
	}
	if _, err := i.Peer("fr-1"); err != nil {
		t.Fatal(err)
	}
	secrets := 0
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		want := fs.FileMode(0o600)
		switch {
		case entry.IsDir():
			want = 0o700
		case filepath.Base(path) == "root.pem" || filepath.Base(path) == "peers.pem":
			want = 0o644 // certificates alone
		default:
			secrets++
		}
		if info.Mode().Perm() != want {
			t.Errorf("%s has mode %#o, want %#o", path, info.Mode().Perm(), want)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if secrets < 5 { // two roots' keys, the membership's, a leaf's, a peer's
		t.Errorf("found %d files with secrets, want at least 5", secrets)
	}
}

// TestDamage: whatever is wrong with the authority's files, Open names the file
// and leaves all of them as they were.
func TestDamage(t *testing.T) {
	for _, c := range []struct {
		name   string
		damage func(dir string) error
		want   []string
	}{
		{"key gone", func(dir string) error { return os.Remove(dir + "/root-key.pem") }, []string{"root-key.pem", "restore the key"}},
		{"key of peers gone", func(dir string) error { return os.Remove(dir + "/peers-key.pem") }, []string{"peers-key.pem", "restore the key"}},
		{"keys exchanged", func(dir string) error {
			return os.Rename(dir+"/peers-key.pem", dir+"/root-key.pem")
		}, []string{"root-key.pem do not belong together"}},
		{"key truncated", func(dir string) error { return os.Truncate(dir+"/root-key.pem", 40) }, []string{"root-key.pem", "backup"}},
		{"key emptied", func(dir string) error { return os.Truncate(dir+"/root-key.pem", 0) }, []string{"root-key.pem", "no PEM"}},
		{"certificate emptied", func(dir string) error { return os.Truncate(dir+"/root.pem", 0) }, []string{"root.pem", "no PEM"}},
		{"certificate is no certificate", func(dir string) error {
			text, err := os.ReadFile(dir + "/peers-key.pem")
			if err != nil {
				return err
			}
			return os.WriteFile(dir+"/peers.pem", text, 0o644)
		}, []string{"peers.pem", "backup"}},
		{"key readable by others", func(dir string) error { return os.Chmod(dir+"/root-key.pem", 0o640) }, []string{"root-key.pem", "chmod 600"}},
		{"gossip key readable by others", func(dir string) error { return os.Chmod(dir+"/gossip.key", 0o644) }, []string{"gossip.key", "chmod 600"}},
		{"gossip key short", func(dir string) error { return os.Truncate(dir+"/gossip.key", 20) }, []string{"gossip.key:1", "32 bytes"}},
		{"gossip key emptied", func(dir string) error { return os.Truncate(dir+"/gossip.key", 0) }, []string{"gossip.key", "is empty"}},
		{"folder is a file", func(dir string) error {
			if err := os.RemoveAll(dir); err != nil {
				return err
			}
			return os.WriteFile(dir, nil, 0o600)
		}, []string{"not a directory"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "authority")
			open(t, dir)
			if err := c.damage(dir); err != nil {
				t.Fatal(err)
			}
			before := contents(t, dir)
			_, err := authority.Open(dir)
			if err == nil {
				t.Fatal("opened a damaged authority")
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error does not say %q: %v", want, err)
				}
			}
			if after := contents(t, dir); after != before {
				t.Errorf("files changed from\n%s\nto\n%s", before, after)
			}
		})
	}
}

// TestCertificateRestored: the certificate of a root follows from its key.
func TestCertificateRestored(t *testing.T) {
	dir := t.TempDir()
	a := open(t, filepath.Join(dir, "authority"))
	leaf, err := issuer(t, a, "fr", filepath.Join(dir, "fr")).Leaf([]polder.Host{"a.example.com"})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(a.RootFile()); err != nil {
		t.Fatal(err)
	}
	verify(t, leaf, open(t, filepath.Join(dir, "authority")).Root(), "a.example.com", time.Now())
}

// TestRenewal lives through ten years: a leaf is the same one until two thirds
// of its life, and a root that takes over from its predecessor changes nothing
// for those who trust the old one, nor for leaves that the old one signed.
func TestRenewal(t *testing.T) {
	faketime.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		a := open(t, filepath.Join(dir, "authority"))
		i := issuer(t, a, "fr", filepath.Join(dir, "fr"))
		hosts := []polder.Host{"a.example.com"}
		oldRoot := a.Root()
		leaf, err := i.Leaf(hosts)
		if err != nil {
			t.Fatal(err)
		}
		roots, leaves := 1, 1
		begin := time.Now()
		for time.Since(begin) < 9*365*24*time.Hour+48*time.Hour {
			<-time.After(5 * 24 * time.Hour)
			next, err := i.Leaf(hosts)
			if err != nil {
				t.Fatal(err)
			}
			renewed := !bytes.Equal(next.CertPEM, leaf.CertPEM)
			if due := !time.Now().Before(leaf.RenewAt()); renewed != due {
				t.Fatalf("after %s: renewed %v, want %v", time.Since(begin), renewed, due)
			}
			if renewed {
				leaves++
			}
			if root := a.Root(); !bytes.Equal(root, oldRoot) {
				roots++
				verify(t, leaf, root, "a.example.com", time.Now())
				verify(t, next, oldRoot, "a.example.com", time.Now())
				oldRoot = root
			}
			leaf = next
			verify(t, leaf, oldRoot, "a.example.com", time.Now())
		}
		if roots != 2 {
			t.Errorf("%d roots in nine years, want 2", roots)
		}
		if leaves < 54 || leaves > 56 { // 60 days each
			t.Errorf("%d leaves in nine years, want one in 60 days", leaves)
		}
	})
}

// TestLockWait: a hanging process cannot hold another one up for ever.
func TestLockWait(t *testing.T) {
	dir := t.TempDir()
	lock, err := os.Create(filepath.Join(dir, ".lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	faketime.Test(t, func(t *testing.T) {
		begin := time.Now()
		_, err := authority.Open(dir)
		if err == nil || !strings.Contains(err.Error(), lock.Name()) {
			t.Errorf("want an error that names %s, got %v", lock.Name(), err)
		}
		if waited := time.Since(begin); waited < authority.LockWait/2 || waited > 2*authority.LockWait {
			t.Errorf("waited %s, want about %s", waited, authority.LockWait)
		}
	})
}

// contents is every file of a folder with its bytes, for comparison.
func contents(t *testing.T, dir string) string {
	t.Helper()
	var all strings.Builder
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		fmt.Fprintf(&all, "%s: %q\n", path, text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all.String()
}

// verify checks the pair as a client does that trusts the root.
func verify(t *testing.T, pair authority.Pair, root []byte, host string, now time.Time) {
	t.Helper()
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(root) {
		t.Fatal("root is no certificate")
	}
	both, err := tls.X509KeyPair(pair.CertPEM, pair.KeyPEM)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := both.Leaf.Verify(x509.VerifyOptions{DNSName: host, Roots: pool, CurrentTime: now}); err != nil {
		t.Fatalf("%s: %v", host, err)
	}
}

func parse(t testingT, text []byte) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode(text)
	if block == nil {
		t.Fatal("no PEM block")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// testingT is what helpers need of testing.T, and of rapid.T.
type testingT interface {
	Helper()
	Fatal(args ...any)
}
