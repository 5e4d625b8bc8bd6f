package main

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/polder/polder"
)

// TestCanary follows a word that only callers of pinned services send, and the
// key of one, through three real regions: they may be nowhere in a region that
// the owner did not allow, neither in files, nor in what an Envoy says of
// itself, nor in the memory of any process.
//
//  1. Callers arrive everywhere, with the word in path, header and body.
//  2. With every backend of a pinned service dead, callers get a labelled 503
//     through every entrypoint.
//  3. With the region itself dead, the others refuse: a TLS alert, and a labelled
//     503 in plain HTTP.
func TestCanary(t *testing.T) {
	u := startUp(t, three)
	word := "canary-" + rand.Text()
	all := []polder.RegionName{"fr", "nl", "pl"}
	for _, entry := range all {
		if code, _, err := u.sing(entry, "billing.example.com", word); err != nil || code != http.StatusOK {
			t.Fatalf("billing through %s: got %d, %v", entry, code, err)
		}
	}
	for _, entry := range all {
		code, header, err := u.sing(entry, "broken.example.com", word)
		if err != nil || code != http.StatusServiceUnavailable || header.Get("x-polder-reason") == "" {
			t.Errorf("dead backends through %s: got %d, %v, headers %v; want a labelled 503", entry, code, err, header)
		}
	}
	key := u.keyOf("fr", "billing.example.com")
	secrets := map[string][]byte{"the word": []byte(word), "the key in PEM": key.text, "the key in DER": key.bytes}
	if places := u.memory("fr", map[string][]byte{"the key": key.text}); len(places) == 0 {
		t.Error("the key is not even in the memory of fr: this search finds nothing")
	}
	u.absent("nl", secrets)
	u.absent("pl", secrets)

	for pid, label := range u.pids() {
		if label == "region fr" || label == "Envoy of fr-1" {
			if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
				t.Fatal(err)
			}
			defer syscall.Kill(pid, syscall.SIGCONT)
		}
	}
	for _, entry := range []polder.RegionName{"nl", "pl"} {
		eventually(t, "billing is refused by "+string(entry), func() bool {
			_, _, err := u.sing(entry, "billing.example.com", word)
			return err != nil && strings.Contains(err.Error(), "internal error")
		})
		u.refusesInPlain(entry, "billing.example.com")
		u.absent(entry, secrets)
	}
}

// sing calls a host with the word wherever a caller can put one.
func (u *fleetUnderTest) sing(entry polder.RegionName, host, word string) (int, http.Header, error) {
	_, port, _ := net.SplitHostPort(u.listen[entry].HTTPS)
	request, err := http.NewRequest(http.MethodPost, "https://"+host+":"+port+"/"+word, strings.NewReader(strings.Repeat(word+"\n", 100)))
	if err != nil {
		return 0, nil, err
	}
	request.Close = true
	request.Header.Set("X-Word", word)
	response, err := u.http.Do(request)
	if err != nil {
		return 0, nil, err
	}
	return response.StatusCode, response.Header, response.Body.Close()
}

// plain calls a host without TLS.
func (u *fleetUnderTest) plain(entry polder.RegionName, host string) (int, http.Header, error) {
	request, err := http.NewRequest(http.MethodGet, "http://"+u.listen[entry].HTTP+"/", nil)
	if err != nil {
		return 0, nil, err
	}
	request.Host, request.Close = host, true
	response, err := (&http.Client{Timeout: patience, Transport: u.http.Transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}).Do(request)
	if err != nil {
		return 0, nil, err
	}
	return response.StatusCode, response.Header, response.Body.Close()
}

// refusesInPlain waits until nobody may answer for a host that is called without TLS,
// and callers are told so.
func (u *fleetUnderTest) refusesInPlain(entry polder.RegionName, host string) {
	u.t.Helper()
	eventually(u.t, host+" is refused with a labelled 503 in plain HTTP by "+string(entry), func() bool {
		code, header, err := u.plain(entry, host)
		return err == nil && code == http.StatusServiceUnavailable && header.Get("x-polder-reason") == "no-permitted-region"
	})
}

// privateKey is a key as it can be recognised.
type privateKey struct{ text, bytes []byte } // the middle line of its PEM; the scalar in its DER

// keyOf finds the key of a host among the files of the region that may have it.
func (u *fleetUnderTest) keyOf(region polder.RegionName, host string) privateKey {
	u.t.Helper()
	files, err := filepath.Glob(filepath.Join(u.layout(region).Certificates(), "hosts", "*.pem"))
	if err != nil {
		u.t.Fatal(err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			u.t.Fatal(err)
		}
		var found privateKey
		ours := false
		for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
			if c, err := x509.ParseCertificate(block.Bytes); err == nil {
				ours = ours || slices.Contains(c.DNSNames, host)
			} else if strings.Contains(block.Type, "PRIVATE KEY") {
				lines := bytes.Split(pem.EncodeToMemory(block), []byte("\n"))
				found = privateKey{lines[2], block.Bytes[len(block.Bytes)/4 : len(block.Bytes)/2]}
			}
		}
		if ours && len(found.text) > 30 {
			return found
		}
	}
	u.t.Fatalf("no key of %s in %v", host, files)
	return privateKey{}
}

// absent fails the test if any of the secrets is anywhere in a region.
func (u *fleetUnderTest) absent(region polder.RegionName, secrets map[string][]byte) {
	u.t.Helper()
	dump := []byte(u.envoy(region, "/config_dump?include_eds"))
	if len(dump) < 1000 {
		u.t.Errorf("the dump of %s is %d bytes: this shows nothing", region, len(dump))
	}
	files := u.files(region)
	for name, secret := range secrets {
		if bytes.Contains(dump, secret) {
			u.t.Errorf("%s is in the configuration of Envoy in %s", name, region)
		}
		for file, data := range files {
			if bytes.Contains(data, secret) {
				u.t.Errorf("%s is in %s of region %s", name, file, region)
			}
		}
	}
	for _, place := range u.memory(region, secrets) {
		u.t.Error(place)
	}
}

// files reads everything that a region keeps, its sockets aside.
func (u *fleetUnderTest) files(region polder.RegionName) map[string][]byte {
	u.t.Helper()
	files := map[string][]byte{}
	err := filepath.WalkDir(u.layout(region).Dir(), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return nil // it went while we looked
		}
		data, err := os.ReadFile(path)
		if err == nil {
			files[path] = data
		}
		return nil
	})
	if err != nil || len(files) < 5 {
		u.t.Fatalf("region %s has %d files, %v: this shows nothing", region, len(files), err)
	}
	return files
}

// memory lists which secrets are in the memory of which processes of a region. It is
// read once for all of them, since that is what takes the time.
func (u *fleetUnderTest) memory(region polder.RegionName, secrets map[string][]byte) []string {
	u.t.Helper()
	var places []string
	for pid, label := range u.pids() {
		if label != "region "+string(region) && label != "Envoy of "+string(region)+"-1" {
			continue
		}
		found, err := inMemory(pid, secrets)
		if err != nil {
			u.t.Fatalf("memory of %s (the test needs the right to trace what it starts): %v", label, err)
		}
		for _, name := range found {
			places = append(places, name+" is in the memory of "+label)
		}
	}
	return places
}

// inMemory names the secrets that are in the writable memory of a process.
func inMemory(pid int, secrets map[string][]byte) ([]string, error) {
	ranges, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return nil, err
	}
	memory, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		return nil, err
	}
	defer memory.Close()
	const window = 1 << 20
	longest := 0
	for _, secret := range secrets {
		longest = max(longest, len(secret))
	}
	buffer := make([]byte, window+longest)
	read := 0
	found := map[string]bool{}
	for line := range strings.Lines(string(ranges)) {
		var from, to int64
		var mode string
		if n, err := fmt.Sscanf(line, "%x-%x %s", &from, &to, &mode); n != 3 || err != nil || !strings.HasPrefix(mode, "rw") {
			continue
		}
		for at := from; at < to; at += window {
			n, err := memory.ReadAt(buffer[:min(int64(len(buffer)), to-at)], at)
			if err != nil && !errors.Is(err, syscall.EIO) && n == 0 {
				return nil, err
			}
			read += n
			for name, secret := range secrets {
				found[name] = found[name] || bytes.Contains(buffer[:n], secret)
			}
		}
	}
	if read == 0 {
		return nil, errors.New("nothing could be read")
	}
	maps.DeleteFunc(found, func(_ string, there bool) bool { return !there })
	return slices.Sorted(maps.Keys(found)), nil
}
