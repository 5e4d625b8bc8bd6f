package source

import (
	"context"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Provenance says from whom a state of a source is, as far as the machine knows:
// who owns its files, and which Git commit they are of.
type Provenance struct {
	Owners  []string  `json:"owners,omitempty"`  // of the files, sorted
	Written time.Time `json:"written,omitzero"`  // when the last of them was
	Commit  *Commit   `json:"commit,omitempty"`  // nil outside a repository, or without git
	Changed bool      `json:"changed,omitempty"` // files are not as they were committed
}

// Commit is the last commit that touched the source.
type Commit struct {
	Hash    string    `json:"hash"`
	Author  string    `json:"author"`
	Date    time.Time `json:"date"`
	Subject string    `json:"subject"`
}

const (
	// gitTimeout bounds each question to git.
	gitTimeout = 3 * time.Second
	// maxSubject bounds what is kept of a commit's subject, in bytes.
	maxSubject = 500
)

// Provenance looks at the files as they are now. What it cannot find out is left
// out: it says who, and decides nothing.
func (s Source) Provenance(ctx context.Context) Provenance {
	var p Provenance
	now, err := s.stamp()
	if err != nil {
		return p
	}
	for _, f := range now.files {
		if f.info.ModTime().After(p.Written) {
			p.Written = f.info.ModTime().UTC()
		}
		if owner := ownerOf(f.info); owner != "" && !slices.Contains(p.Owners, owner) {
			p.Owners = append(p.Owners, owner)
		}
	}
	slices.Sort(p.Owners)
	path, err := filepath.EvalSymlinks(s.Path)
	if err != nil {
		return p
	}
	dir := path
	if !now.folder {
		dir = filepath.Dir(path)
	}
	// The author comes after what is bounded, so that no name can pose as another field.
	text, err := git(ctx, dir, "log", "-1", "--format=%H%n%cI%n%an <%ae>%n%s", "--", path)
	if fields := strings.SplitN(strings.TrimSpace(text), "\n", 4); err == nil && len(fields) == 4 {
		date, _ := time.Parse(time.RFC3339, fields[1]) // git writes it so; zero otherwise
		p.Commit = &Commit{Hash: fields[0], Date: date.UTC(), Author: fields[2], Subject: fields[3][:min(len(fields[3]), maxSubject)]}
	}
	if text, err := git(ctx, dir, "status", "--porcelain", "--", path); err == nil {
		p.Changed = strings.TrimSpace(text) != ""
	}
	return p
}

func ownerOf(info os.FileInfo) string {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return ""
	}
	id := strconv.FormatUint(uint64(stat.Uid), 10)
	if u, err := user.LookupId(id); err == nil {
		return u.Username
	}
	return "uid " + id
}

// git asks about a repository, and lets it run nothing of its own.
func git(ctx context.Context, dir string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, gitTimeout)
	defer cancel()
	c := exec.CommandContext(ctx, "git", append([]string{"-C", dir, "-c", "safe.directory=*", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null"}, args...)...)
	c.Env = append(os.Environ(), "GIT_OPTIONAL_LOCKS=0", "GIT_TERMINAL_PROMPT=0", "LC_ALL=C")
	out, err := c.Output()
	return string(out), err
}
