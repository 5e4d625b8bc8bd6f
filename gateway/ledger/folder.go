package ledger

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

const (
	lockName      = "lock"
	headName      = "head"
	segmentPrefix = "segment-"
	segmentSuffix = ".jsonl"
)

func segmentFile(dir string, number int) string {
	return filepath.Join(dir, fmt.Sprintf("%s%08d%s", segmentPrefix, number, segmentSuffix))
}

// segments lists the numbers of the segments in a folder, in order.
func segments(dir string) ([]int, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var numbers []int
	for _, e := range entries {
		middle, ok := strings.CutPrefix(e.Name(), segmentPrefix)
		middle, whole := strings.CutSuffix(middle, segmentSuffix)
		if number, err := strconv.Atoi(middle); ok && whole && err == nil && segmentFile(dir, number) == filepath.Join(dir, e.Name()) {
			numbers = append(numbers, number)
		}
	}
	slices.Sort(numbers)
	return numbers, nil
}

// writeHead replaces the head file as a whole.
func writeHead(dir string, h Head) error {
	data, err := json.Marshal(h)
	if err != nil {
		return err
	}
	temporary := filepath.Join(dir, headName+".new")
	file, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(append(data, '\n'))
	if err := errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	return os.Rename(temporary, filepath.Join(dir, headName))
}

// readHead reads the head file; the zero Head when there is none.
func readHead(dir string) (Head, error) {
	data, err := os.ReadFile(filepath.Join(dir, headName))
	if errors.Is(err, fs.ErrNotExist) {
		return Head{}, nil
	}
	if err != nil {
		return Head{}, err
	}
	var h Head
	if err := json.Unmarshal(data, &h); err != nil {
		return Head{}, fmt.Errorf("%s: %w", headName, err)
	}
	return h, nil
}

// setAside moves a ledger that cannot be trusted into a folder of its own.
func setAside(dir string) (string, error) {
	aside, err := os.MkdirTemp(dir, "damaged-")
	if err != nil {
		return "", err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", err
	}
	for _, e := range entries {
		if e.Name() == headName || strings.HasPrefix(e.Name(), segmentPrefix) {
			if err := os.Rename(filepath.Join(dir, e.Name()), filepath.Join(aside, e.Name())); err != nil {
				return "", err
			}
		}
	}
	return aside, syncDir(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
