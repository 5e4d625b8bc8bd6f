package gateway

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/polder/polder/prewarm/instance/sockets"
	"github.com/polder/polder/xds"
	"github.com/polder/polder/xds/proof"
)

const (
	// keptWaysName is what the keeper knows the memory of the ways as.
	keptWaysName = "memory of the ways out"
	// maxKeptWays bounds that memory, in bytes: some ten times what 10,000 hosts take.
	maxKeptWays = 16 << 20
	// keptWaysMagic names the format, and its version.
	keptWaysMagic = "polder ways 1\x00\x00\x00"
	// keptWaysHead is how many bytes stand before what is remembered: the magic, and
	// where that begins and how long it is, each as 8 bytes, little-endian.
	keptWaysHead = int64(len(keptWaysMagic) + 16)
)

// keptWays remember the ways out, and whose connections they may have, beyond the death
// of this process: as long as the Envoy may live that has these connections, and no
// longer. So they are no file of the disk, which may hang, but a piece of memory that
// the keeper of the listening sockets holds open. They know hosts and regions of the
// configuration, and nothing of callers.
//
// What is about to be published is written first, so that the memory never knows less
// than Envoy. Everything is written beside what stands there, and counts once the head
// says so, in one write: whoever is killed meanwhile leaves what was there before.
//
// It belongs to the reconciler's goroutine; nil remembers nothing.
type keptWays struct {
	log    *slog.Logger
	file   *os.File
	begin  int64 // of what counts
	length int64 // of that; 0 for nothing
}

// keptWaysLine is a line of the memory: one of these.
type keptWaysLine struct {
	At  int64      `json:"at,omitempty"`  // when the ages of the ways were these, by the clock that counts from the boot, in nanoseconds
	Way *xds.Way   `json:"way,omitempty"` // as the translation knows it
	Led *proof.Led `json:"led,omitempty"` // as the proof knows it
}

// openKeptWays finds the memory that an earlier Polder left with the keeper, or makes one.
func openKeptWays(store *sockets.Store, log *slog.Logger) (*keptWays, error) {
	file, err := store.Get(keptWaysName)
	if err != nil {
		return nil, err
	}
	if file != nil {
		return &keptWays{log: log, file: file}, nil
	}
	fd, err := unix.MemfdCreate("polder-ways", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("memory of the ways out: %w", err)
	}
	file = os.NewFile(uintptr(fd), keptWaysName)
	if err := store.Put(keptWaysName, file); err != nil {
		file.Close()
		return nil, err
	}
	return &keptWays{log: log, file: file}, nil
}

// read gives what an earlier Polder remembered, as it is now. What is damaged, or of
// another version, is not remembered at all: ways of which something is missing might
// outlive what permits them.
func (k *keptWays) read(now time.Time) (xds.Ways, []proof.Led, error) {
	info, err := k.file.Stat()
	if err != nil || info.Size() == 0 {
		return xds.Ways{}, nil, err
	}
	head := make([]byte, keptWaysHead)
	if _, err := k.file.ReadAt(head, 0); err != nil {
		return xds.Ways{}, nil, fmt.Errorf("the head: %w", err)
	}
	if string(head[:len(keptWaysMagic)]) != keptWaysMagic {
		return xds.Ways{}, nil, errors.New("it is of another version of Polder")
	}
	begin, length := binary.LittleEndian.Uint64(head[len(keptWaysMagic):]), binary.LittleEndian.Uint64(head[len(keptWaysMagic)+8:])
	if begin > 3*maxKeptWays || length > maxKeptWays || int64(begin+length) > info.Size() {
		return xds.Ways{}, nil, fmt.Errorf("it has %d bytes, of which %d from %d on shall count", info.Size(), length, begin)
	}
	ways, known, err := parseKeptWays(io.NewSectionReader(k.file, int64(begin), int64(length)), now)
	if err != nil {
		return xds.Ways{}, nil, err
	}
	k.begin, k.length = int64(begin), int64(length)
	return ways, known, nil
}

func parseKeptWays(from io.Reader, now time.Time) (xds.Ways, []proof.Led, error) {
	var list []xds.Way
	var known []proof.Led
	passed := time.Duration(-1) // since the ages were right
	for d := json.NewDecoder(bufio.NewReader(from)); ; {
		var line keptWaysLine
		err := d.Decode(&line)
		switch {
		case errors.Is(err, io.EOF):
			ways, err := xds.Recall(list, now)
			return ways, known, err
		case err != nil:
			return xds.Ways{}, nil, err
		case line.At > 0:
			boot, err := sinceBoot()
			if err != nil {
				return xds.Ways{}, nil, err
			}
			passed = boot - time.Duration(line.At)
		case passed < 0:
			return xds.Ways{}, nil, errors.New("it does not say since when")
		case line.Way != nil:
			line.Way.Left += passed
			list = append(list, *line.Way)
		case line.Led != nil:
			known = append(known, *line.Led)
		}
	}
}

// replace remembers these and nothing else.
func (k *keptWays) replace(ways []xds.Way, known []proof.Led) {
	if k == nil {
		return
	}
	boot, err := sinceBoot()
	lines := []keptWaysLine{{At: int64(boot)}}
	for i := range ways {
		lines = append(lines, keptWaysLine{Way: &ways[i]})
	}
	for i := range known {
		lines = append(lines, keptWaysLine{Led: &known[i]})
	}
	text, encoded := encodeKeptWays(lines)
	at := keptWaysHead // before what counts now, or else behind it
	if k.length > 0 && at+int64(len(text)) > k.begin {
		at = k.begin + k.length
	}
	k.write(text, at, int64(len(text)), errors.Join(err, encoded), at)
}

// add remembers these too.
func (k *keptWays) add(ways []xds.Way) {
	if k == nil || len(ways) == 0 || k.length == 0 {
		return
	}
	lines := make([]keptWaysLine, len(ways))
	for i := range ways {
		lines[i].Way = &ways[i]
	}
	text, err := encodeKeptWays(lines)
	k.write(text, k.begin+k.length, k.length+int64(len(text)), err, k.begin)
}

func encodeKeptWays(lines []keptWaysLine) ([]byte, error) {
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	for _, line := range lines {
		if err := e.Encode(line); err != nil {
			return nil, err
		}
	}
	return text.Bytes(), nil
}

// write puts text at an offset, and lets length bytes from begin on count. What cannot
// be remembered whole is forgotten.
func (k *keptWays) write(text []byte, at, length int64, err error, begin int64) {
	if err == nil && length > maxKeptWays {
		err = fmt.Errorf("they take %d bytes, more than %d", length, maxKeptWays)
	}
	if err == nil {
		_, err = k.file.WriteAt(text, at)
	}
	if err == nil {
		head := binary.LittleEndian.AppendUint64([]byte(keptWaysMagic), uint64(begin))
		_, err = k.file.WriteAt(binary.LittleEndian.AppendUint64(head, uint64(length)), 0)
	}
	if err == nil {
		k.begin, k.length = begin, length
		return
	}
	k.begin, k.length = 0, 0
	k.log.Warn("the ways out are not remembered: connections on those that nobody is led to any more end if Polder is started again", "reason", errors.Join(err, k.file.Truncate(0)))
}

func (k *keptWays) close() error {
	if k == nil {
		return nil
	}
	return k.file.Close()
}

// sinceBoot is the clock that never steps and runs on while the machine sleeps.
func sinceBoot() (time.Duration, error) {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		return 0, fmt.Errorf("read the boot clock: %w", err)
	}
	return time.Duration(now.Nano()), nil
}

// recallWays takes over the ways out that Envoy has from an earlier Polder. It comes
// before anything is published.
func (r *Region) recallWays() {
	kept, err := openKeptWays(r.sockets, r.options.Log)
	if err != nil {
		r.options.Log.Warn("the ways out are not remembered if Polder is started again", "reason", err)
		return
	}
	r.reconciler.gate.kept = kept
	ways, known, err := kept.read(time.Now())
	if err != nil {
		r.options.Log.Warn("the ways out of an earlier Polder are forgotten: connections on those that nobody is led to any more end", "reason", err)
		return
	}
	r.reconciler.ways = ways
	r.reconciler.gate.checker.Recall(known)
}
