package ledger

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/polder/polder"
)

// maxFaults bounds what one verification reports: a chain that is broken once
// says little about what follows.
const maxFaults = 32

// Fault is one thing that is wrong with a ledger.
type Fault struct {
	File     string `json:"file"`
	Line     int    `json:"line,omitempty"`     // from 1; 0 for the file as a whole
	Sequence uint64 `json:"sequence,omitempty"` // of the record, as far as known
	Reason   string `json:"reason"`
}

func (f Fault) String() string {
	at := f.File
	if f.Line > 0 {
		at = fmt.Sprintf("%s:%d", at, f.Line)
	}
	if f.Sequence > 0 {
		at = fmt.Sprintf("%s (record %d)", at, f.Sequence)
	}
	return at + ": " + f.Reason
}

// DamageError says that somebody changed a ledger.
type DamageError struct {
	Dir    string
	Faults []Fault // at least one
}

func (e *DamageError) Error() string {
	return fmt.Sprintf("ledger %s was tampered with: %s", e.Dir, strings.Join(e.lines(), "; "))
}

func (e *DamageError) lines() []string {
	lines := make([]string, len(e.Faults))
	for i, f := range e.Faults {
		lines[i] = f.String()
	}
	return lines
}

// Summary is what a whole ledger contains.
type Summary struct {
	Segments   int          `json:"segments"`
	Records    uint64       `json:"records"`
	First      uint64       `json:"first"`            // sequence of the oldest record that is kept
	Pruned     int          `json:"pruned,omitempty"` // segments that were removed because they were old
	Kinds      map[Kind]int `json:"kinds"`
	From       time.Time    `json:"from"`
	To         time.Time    `json:"to"`
	Head       Head         `json:"head"`
	Unfinished int64        `json:"unfinished,omitempty"` // bytes of a last line that was never finished
	region     polder.RegionName

	last        int // number of the last segment
	lastBytes   int64
	lastRecords uint64
	sealed      bool // the last segment is
}

// Verify reads a whole ledger. A *DamageError says which lines or segments were
// cut, changed, moved or removed; any other error, that it cannot be read. A
// last line without its end is no damage: a crash leaves one.
func Verify(dir string) (Summary, error) { return VerifyFrom(dir, Head{}) }

// VerifyFrom is Verify for someone who noted a head earlier, and kept it where
// nobody who can write the ledger can: its record must still be there. The zero
// Head is none.
func VerifyFrom(dir string, noted Head) (Summary, error) {
	return walk(dir, noted, func(Record, []byte) error { return nil })
}

// Export verifies a ledger and writes its records, one JSON object a line,
// exactly as they stand in the ledger: whoever has the lines can verify them.
func Export(dir string, w io.Writer) (Summary, error) {
	buffered := bufio.NewWriter(w)
	summary, err := walk(dir, Head{}, func(_ Record, line []byte) error {
		_, err := buffered.Write(append(line, '\n'))
		return err
	})
	return summary, errors.Join(err, buffered.Flush())
}

// Read verifies a ledger and hands over the records whose sequence is above
// after, oldest first. An error of yield ends it, and is returned.
func Read(dir string, after uint64, yield func(Record) error) (Summary, error) {
	return walk(dir, Head{}, func(r Record, _ []byte) error {
		if r.Sequence <= after {
			return nil
		}
		return yield(r)
	})
}

// walk verifies a ledger and shows every good line.
func walk(dir string, noted Head, show func(Record, []byte) error) (Summary, error) {
	head, err := readHead(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return Summary{}, fmt.Errorf("ledger %s: %w", dir, err)
	}
	w := walker{dir: dir, show: show, summary: Summary{Kinds: map[Kind]int{}}, pruned: map[int]prunedData{}, wanted: map[Head]string{}}
	if err != nil {
		w.fault(headName, 0, 0, "%v", err)
	}
	if head != (Head{}) {
		w.wanted[head] = "the head file names it: what came after it was cut off"
	}
	if noted != (Head{}) {
		w.wanted[noted] = "it was noted earlier: the ledger was cut or written anew"
	}
	numbers, err := segments(dir)
	if err != nil {
		return Summary{}, fmt.Errorf("ledger: %w", err)
	}
	for i, number := range numbers {
		if err := w.segment(number, i == 0, i == len(numbers)-1); err != nil {
			return w.summary, fmt.Errorf("ledger %s: %w", dir, err)
		}
	}
	w.finish(numbers)
	if len(w.faults) > 0 {
		return w.summary, &DamageError{Dir: dir, Faults: w.faults}
	}
	return w.summary, nil
}

// walker goes through a ledger once.
type walker struct {
	dir     string
	show    func(Record, []byte) error
	summary Summary
	faults  []Fault
	pruned  map[int]prunedData
	wanted  map[Head]string // heads that must be met, and why

	first  openedData // of the oldest segment
	number int        // of the segment before
	broken bool       // the last line could not be followed: take its word for the next
}

func (w *walker) fault(file string, line int, sequence uint64, format string, values ...any) {
	if len(w.faults) < maxFaults {
		w.faults = append(w.faults, Fault{file, line, sequence, fmt.Sprintf(format, values...)})
	}
}

// segment goes through one segment.
func (w *walker) segment(number int, oldest, newest bool) error {
	name := segmentFile(w.dir, number)
	base := filepath.Base(name)
	if !oldest && number != w.number+1 {
		w.fault(base, 0, 0, "segments %d to %d are missing before it", w.number+1, number-1)
		w.broken = true
	} else if !oldest && !w.summary.sealed {
		w.fault(filepath.Base(segmentFile(w.dir, w.number)), 0, 0, "is not sealed, and yet another segment follows: its end was cut off")
		w.broken = true
	}
	w.number = number
	file, err := os.Open(name)
	if err != nil {
		return err
	}
	defer file.Close()
	w.summary.Segments++
	w.summary.last, w.summary.lastBytes, w.summary.lastRecords, w.summary.sealed = number, 0, 0, false
	reader := bufio.NewReaderSize(file, 64<<10)
	for line := 1; ; line++ {
		text, err := readLine(reader)
		switch {
		case errors.Is(err, io.EOF) && len(text) == 0:
			if line == 1 && !newest {
				w.fault(base, 0, 0, "is empty")
			}
			return nil
		case errors.Is(err, io.EOF):
			if !newest {
				w.fault(base, line, 0, "the last line is not finished, in a segment that is not the last")
			}
			w.summary.Unfinished = int64(len(text))
			return nil
		case err != nil:
			w.fault(base, line, 0, "%v", err)
			return nil
		}
		if err := w.line(base, line, number, oldest, text); err != nil {
			return err
		}
	}
}

// readLine reads a line of bounded length, without its line feed.
func readLine(reader *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := reader.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case len(line) > maxLine:
			return nil, fmt.Errorf("%w: it is longer than %d bytes", errLine, maxLine)
		case errors.Is(err, bufio.ErrBufferFull):
		case err != nil:
			return line, err
		default:
			return line[:len(line)-1], nil
		}
	}
}

func (w *walker) line(base string, line, number int, oldest bool, text []byte) error {
	s := &w.summary
	previous := s.Head.Hash
	var begin openedData
	if line == 1 && (oldest || w.broken) { // nothing before it to rest on: the first record says on what
		if r, _, err := parse(text, ""); err == nil && r.Kind == opened && json.Unmarshal(r.Data, &begin) == nil {
			previous = begin.Previous
			s.Head.Sequence = r.Sequence - 1
		}
		w.broken = false
	}
	r, want, err := parse(text, previous)
	if err != nil {
		w.fault(base, line, s.Head.Sequence+1, "%v", err)
		w.broken = true
		return nil
	}
	switch {
	case w.broken: // told already
	case r.Sequence != s.Head.Sequence+1 && r.Sequence > s.Head.Sequence:
		w.fault(base, line, r.Sequence, "follows record %d: what was between them was removed or moved", s.Head.Sequence)
	case r.Sequence != s.Head.Sequence+1:
		w.fault(base, line, r.Sequence, "follows record %d: it was moved or repeated", s.Head.Sequence)
	case r.Hash != want:
		w.fault(base, line, r.Sequence, "was changed, or the record before it was: its hash is %.12s…, and should be %.12s…", r.Hash, want)
	}
	w.broken = false
	w.structure(base, line, number, oldest, r)
	head := Head{r.Sequence, r.Hash}
	delete(w.wanted, head)
	if s.Records == 0 {
		s.First, s.From, s.region = r.Sequence, r.Time, r.Region
	}
	if r.Region != s.region {
		w.fault(base, line, r.Sequence, "belongs to region %q, and the ledger to %q", r.Region, s.region)
	}
	s.Records++
	s.lastRecords++
	s.lastBytes += int64(len(text)) + 1
	s.Kinds[r.Kind]++
	s.Head, s.To = head, r.Time
	return w.show(r, text)
}

// structure checks where the ledger's own records stand.
func (w *walker) structure(base string, line, number int, oldest bool, r Record) {
	s := &w.summary
	if s.sealed {
		w.fault(base, line, r.Sequence, "follows the end of a sealed segment")
	}
	if (r.Kind == opened) != (line == 1) {
		w.fault(base, line, r.Sequence, "is of kind %q: a segment begins with %q, and only there", r.Kind, opened)
	}
	switch r.Kind {
	case opened:
		var data openedData
		if json.Unmarshal(r.Data, &data) != nil || data.Segment != number {
			w.fault(base, line, r.Sequence, "is the beginning of segment %d: the file was renamed", data.Segment)
		}
		if oldest {
			w.first = data
		} else if data.Previous != s.Head.Hash {
			w.fault(base, line, r.Sequence, "does not follow the segment before it")
		}
	case sealed:
		var data sealedData
		if json.Unmarshal(r.Data, &data) != nil || data.Segment != number || data.Records != s.lastRecords {
			w.fault(base, line, r.Sequence, "seals segment %d with %d records, and there are %d", data.Segment, data.Records, s.lastRecords)
		}
		s.sealed = true
	case pruned:
		var data prunedData
		if err := json.Unmarshal(r.Data, &data); err != nil {
			w.fault(base, line, r.Sequence, "%v", err)
		}
		w.pruned[data.Segment] = data
	}
}

// finish checks what can be known only at the end.
func (w *walker) finish(numbers []int) {
	s := &w.summary
	if s.Records > 0 && numbers[0] == 1 && (s.First != 1 || w.first.Previous != "") {
		w.fault(filepath.Base(segmentFile(w.dir, 1)), 1, s.First, "is not the beginning of a ledger")
	}
	if len(numbers) > 0 && numbers[0] > 1 {
		last, ok := w.pruned[numbers[0]-1]
		switch {
		case !ok:
			w.fault(filepath.Base(segmentFile(w.dir, numbers[0])), 0, 0, "the segments before it are missing, and no record says that they were removed for their age")
		case last.Hash != w.first.Previous || last.Last+1 != s.First:
			w.fault(filepath.Base(segmentFile(w.dir, numbers[0])), 1, s.First, "does not follow segment %d, which was removed for its age", numbers[0]-1)
		}
		s.Pruned = numbers[0] - 1
	}
	for head, why := range w.wanted {
		switch {
		case s.Records == 0:
			w.fault(headName, 0, head.Sequence, "there are no records at all, and %s", why)
		case head.Sequence < s.First:
			if s.Pruned == 0 {
				w.fault(headName, 0, head.Sequence, "the record is missing, and %s", why)
			}
		default:
			w.fault(headName, 0, head.Sequence, "the record with hash %.12s… is missing, and %s", head.Hash, why)
		}
	}
	slices.SortStableFunc(w.faults, func(a, b Fault) int { return strings.Compare(a.File, b.File) })
}

// lastOf reads the last record of a segment that was verified before.
func lastOf(dir string, number int) (Record, error) {
	data, err := os.ReadFile(segmentFile(dir, number))
	if err != nil {
		return Record{}, err
	}
	data = bytes.TrimSuffix(data, []byte("\n"))
	r, _, err := parse(data[bytes.LastIndexByte(data, '\n')+1:], "")
	if err != nil {
		return Record{}, fmt.Errorf("%s: its last line %w", filepath.Base(segmentFile(dir, number)), err)
	}
	return r, nil
}
