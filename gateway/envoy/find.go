package envoy

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Version is the version of Envoy that Polder runs and is tested with.
// tools/envoy.txt pins the same one.
const Version = "1.40.0"

// versionWait bounds the run of `envoy --version`, which takes milliseconds.
const versionWait = 10 * time.Second

// Find returns the absolute path of an Envoy of the right version: the one that
// `make envoy` put below toolDir (the project's .tools), or else the first one
// in path, a list of folders as in $PATH. The error tells what was looked at.
func Find(ctx context.Context, toolDir, path string) (string, error) {
	candidates := []string{filepath.Join(toolDir, "envoy-"+Version, "envoy")}
	for _, dir := range filepath.SplitList(path) {
		if filepath.IsAbs(dir) { // like package exec, nothing out of the working folder
			candidates = append(candidates, filepath.Join(dir, "envoy"))
		}
	}
	var seen []string
	for _, candidate := range candidates {
		version, err := versionOf(ctx, candidate)
		switch {
		case err == nil && version == Version:
			return filepath.Abs(candidate)
		case err == nil:
			seen = append(seen, fmt.Sprintf("%s is %s", candidate, version))
		case !errors.Is(err, fs.ErrNotExist):
			seen = append(seen, err.Error())
		}
	}
	if ctx.Err() != nil {
		return "", fmt.Errorf("find Envoy %s: %w", Version, context.Cause(ctx))
	}
	if len(seen) == 0 {
		seen = []string{"there is none"}
	}
	return "", fmt.Errorf("no Envoy %s in %s nor on PATH (%s): run `make envoy`, or put that version on PATH",
		Version, filepath.Dir(candidates[0]), strings.Join(seen, "; "))
}

// versionOf asks the program. Its answer is
// "PATH  version: COMMIT/VERSION/Clean/RELEASE/BoringSSL".
func versionOf(ctx context.Context, program string) (string, error) {
	if info, err := os.Stat(program); err != nil {
		return "", err
	} else if info.IsDir() {
		return "", fmt.Errorf("%s is a folder", program)
	}
	ctx, cancel := context.WithTimeout(ctx, versionWait)
	defer cancel()
	command := exec.CommandContext(ctx, program, "--version")
	command.WaitDelay = time.Second // a child of a script may hold the pipe open
	output, err := command.Output()
	if err != nil {
		return "", fmt.Errorf("%s --version: %w", program, err)
	}
	_, answer, found := strings.Cut(string(output), "version: ")
	parts := strings.Split(answer, "/")
	if !found || len(parts) < 2 {
		return "", fmt.Errorf("%s --version answers %.80q, which is not how Envoy answers", program, output)
	}
	return parts[1], nil
}
