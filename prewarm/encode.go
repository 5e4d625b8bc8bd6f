package prewarm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
)

// stateVersion is the first byte of an encoded State. Bytes of another version
// are refused: the caller begins anew, and the service is back at "not enough
// data" for an hour.
const stateVersion = 3

// fields are all values of a State, in the order of the encoding. Their sizes
// are fixed, and so is the encoding's.
func (s *State) fields() []any {
	r := &s.rhythm
	return []any{
		&s.window.area, &s.window.first, &s.window.last, &s.window.level,
		&s.startUp.micros, &s.startUp.n, &s.sizing.burst.over, &s.sizing.burst.peak,
		&s.lastCall, &s.announced, &s.calls, &s.now, &s.bias, &s.forecasted,
		&r.minute, &r.open, &r.seen, &r.active, &r.idle, &r.run, &r.lastRun, &r.broken,
		&r.gaps, &r.gapN, &r.life, &r.long, &r.past, &r.count, &r.meanActive, &r.meanCalls, &r.calls,
		&r.regression.bias, &r.regression.biasSquare, &r.regression.weight, &r.regression.square,
		&r.regression.chance, &r.regression.regret,
		&r.mixer.weight, &r.mixer.stretch, &r.mixer.n, &r.mixer.kind, &r.mixer.chance, &r.mixer.regret,
	}
}

// MarshalBinary encodes the state: a version, the values, a checksum. It never
// fails, and the bytes fit into StateBytes.
func (s *State) MarshalBinary() ([]byte, error) {
	b := make([]byte, 1, StateBytes)
	b[0] = stateVersion
	for _, f := range s.fields() {
		var err error
		if b, err = binary.Append(b, binary.LittleEndian, f); err != nil {
			return nil, fmt.Errorf("encode state: %w", err)
		}
	}
	return binary.LittleEndian.AppendUint32(b, crc32.ChecksumIEEE(b)), nil
}

// UnmarshalBinary restores what MarshalBinary wrote. On an error the state is
// unchanged. Call [State.Resume] next, if time has passed since.
func (s *State) UnmarshalBinary(b []byte) error {
	if len(b) < 5 {
		return fmt.Errorf("decode state: %d bytes are too few", len(b))
	}
	if b[0] != stateVersion {
		return fmt.Errorf("decode state: version %d, want %d: begin with an empty state", b[0], stateVersion)
	}
	body, sum := b[:len(b)-4], binary.LittleEndian.Uint32(b[len(b)-4:])
	if crc32.ChecksumIEEE(body) != sum {
		return errors.New("decode state: the checksum is wrong: begin with an empty state")
	}
	var t State
	body = body[1:]
	for _, f := range t.fields() {
		n, err := binary.Decode(body, binary.LittleEndian, f)
		if err != nil {
			return errors.New("decode state: it ends too early: begin with an empty state")
		}
		body = body[n:]
	}
	if len(body) > 0 {
		return fmt.Errorf("decode state: %d bytes too many", len(body))
	}
	if err := t.sound(); err != nil {
		return fmt.Errorf("decode state: %w: begin with an empty state", err)
	}
	t.rhythm.recount()
	*s = t
	return nil
}

// sound checks what the rest of the package relies on.
func (s *State) sound() error {
	r := &s.rhythm
	for _, at := range []int64{s.window.first, s.window.last, s.sizing.burst.over, s.lastCall, s.announced, r.minute} {
		if at < 0 || at > math.MaxInt64/2 {
			return errors.New("an instant is out of range")
		}
	}
	if s.window.first > s.window.last || r.minute > s.window.last/6e10+1 || int(r.mixer.n) > maxExperts ||
		s.startUp.n > 2*startUpSamples || r.seen > math.MaxUint32/2 || r.idle > r.seen || r.active > r.seen {
		return errors.New("a count is out of range")
	}
	for _, g := range r.gaps[:min(r.gapN, gapRing)] {
		if g == 0 {
			return errors.New("a gap is zero")
		}
	}
	for _, f := range s.fields() {
		switch f := f.(type) {
		case *float32:
			if !finite(*f) {
				return errors.New("a value is not a number")
			}
		default:
			for _, x := range floats(f) {
				if !finite(x) {
					return errors.New("a value is not a number")
				}
			}
		}
	}
	return nil
}

// floats views the arrays of floats among the fields.
func floats(f any) []float32 {
	switch f := f.(type) {
	case *[windowSeconds]float32:
		return f[:]
	case *[len(decays)]float32:
		return f[:]
	case *[regressed]float32:
		return f[:]
	case *[maxExperts]float32:
		return f[:]
	case *[len(mixings)]float32:
		return f[:]
	case *[mixingRows][maxExperts]float32:
		all := make([]float32, 0, mixingRows*maxExperts)
		for i := range f {
			all = append(all, f[i][:]...)
		}
		return all
	}
	return nil
}

func finite(x float32) bool { return x-x == 0 }
