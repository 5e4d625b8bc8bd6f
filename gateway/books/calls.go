package books

import (
	"encoding/binary"
	"fmt"
	"time"

	"go.etcd.io/bbolt"

	"github.com/polder/polder"
)

// Days is for how many days, the present one included, calls are kept.
const Days = 28

// DayBytes bounds what is kept of one service's calls in one day, in bytes: two
// for each minute that had any, and one to five for their number, for a day
// whose every minute is written twice.
const DayBytes = 2 * 1440 * 7

const minutesPerDay = 1440

// Calls are those of one service in one minute of the wall clock (UTC).
type Calls struct {
	Service polder.ServiceName
	Minute  int64 // Unix time / 60
	Number  uint32
}

// writeCalls appends to each service's day: minute of the day, number.
func writeCalls(b *bbolt.Bucket, calls []Calls) error {
	for _, c := range calls {
		if c.Minute < 0 || c.Number == 0 {
			continue
		}
		days, err := b.CreateBucketIfNotExists([]byte(c.Service))
		if err != nil {
			return err
		}
		day := c.Minute / minutesPerDay
		key := dayKey(day)
		text := append([]byte{}, days.Get(key)...)
		if len(text) == 0 {
			if err := drop(days, day-Days+1); err != nil {
				return err
			}
		}
		text = binary.BigEndian.AppendUint16(text, uint16(c.Minute%minutesPerDay))
		text = binary.AppendUvarint(text, uint64(c.Number))
		if len(text) > DayBytes {
			continue
		}
		if err := days.Put(key, text); err != nil {
			return err
		}
	}
	return nil
}

func dayKey(day int64) []byte { return binary.BigEndian.AppendUint64(nil, uint64(day)) }

// drop removes the days before one.
func drop(days *bbolt.Bucket, before int64) error {
	cursor := days.Cursor()
	for key, _ := cursor.First(); len(key) == 8 && int64(binary.BigEndian.Uint64(key)) < before; key, _ = cursor.First() {
		if err := cursor.Delete(); err != nil {
			return err
		}
	}
	return nil
}

// Record is a service's calls, minute by minute.
type Record struct {
	Service polder.ServiceName `json:"service"`
	From    time.Time          `json:"from"`   // of the first minute
	Counts  []uint32           `json:"counts"` // of each minute since
}

// Calls returns the calls of a service from the first remembered day on up to
// now. A service without any has no Counts.
func (s *Store) Calls(name polder.ServiceName, now time.Time) (Record, error) {
	r := Record{Service: name}
	today := now.Unix() / 60 / minutesPerDay
	err := s.db.View(func(tx *bbolt.Tx) error {
		days := tx.Bucket(callsBucket).Bucket([]byte(name))
		if days == nil {
			return nil
		}
		return days.ForEach(func(key, text []byte) error {
			if len(key) != 8 {
				return nil
			}
			day := int64(binary.BigEndian.Uint64(key))
			if day <= today-Days || day > today {
				return nil
			}
			if r.From.IsZero() {
				first, ok := firstMinute(text)
				if !ok {
					return nil
				}
				from := day*minutesPerDay + first
				if from > now.Unix()/60 {
					return nil // noted before the clock was set back
				}
				r.From = time.Unix(from*60, 0).UTC()
				r.Counts = make([]uint32, now.Unix()/60-from+1)
			}
			return r.fill(day, text)
		})
	})
	if err != nil {
		return Record{}, fmt.Errorf("books %s: calls of service %s: %w", s.db.Path(), name, err)
	}
	return r, nil
}

func firstMinute(text []byte) (int64, bool) {
	if len(text) < 3 {
		return 0, false
	}
	return int64(binary.BigEndian.Uint16(text)), true
}

func (r *Record) fill(day int64, text []byte) error {
	from := r.From.Unix() / 60
	for len(text) > 0 {
		if len(text) < 3 {
			return fmt.Errorf("day %d ends early", day)
		}
		minute := day*minutesPerDay + int64(binary.BigEndian.Uint16(text))
		number, n := binary.Uvarint(text[2:])
		if n <= 0 {
			return fmt.Errorf("day %d is damaged", day)
		}
		text = text[2+n:]
		if i := minute - from; i >= 0 && i < int64(len(r.Counts)) {
			r.Counts[i] += uint32(number)
		}
	}
	return nil
}
