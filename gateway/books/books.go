package books

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/polder/polder"
	"github.com/polder/polder/prewarm/budget"
)

// openWait bounds the wait for another process to let go of the file.
const openWait = 5 * time.Second

var (
	accountsBucket = []byte("accounts") // "service/NAME" or "tenant/NAME" → budget.Saved, JSON
	leasesBucket   = []byte("leases")   // instance → budget.SavedLease, JSON
	callsBucket    = []byte("calls")    // service → bucket of days
)

// Store is the region's books on disk.
type Store struct{ db *bbolt.DB }

// Open opens the books, or begins new ones. An error beside a Store says that a
// damaged file was put aside.
func Open(file string) (*Store, error) {
	db, err := open(file)
	if err == nil {
		return &Store{db}, nil
	}
	if errors.Is(err, bolterrors.ErrTimeout) {
		return nil, fmt.Errorf("books %s: another process holds them: stop it, or name another state folder", file)
	}
	aside := file + ".damaged"
	if moved := os.Rename(file, aside); moved != nil {
		return nil, fmt.Errorf("books %s: %w; and they could not be put aside: %w", file, err, moved)
	}
	db, again := open(file)
	if again != nil {
		return nil, fmt.Errorf("books %s: %w", file, again)
	}
	return &Store{db}, fmt.Errorf("books %s cannot be read (%w) and lie at %s now: what was spent this month counts anew from 0", file, err, aside)
}

// open also reads everything once: a damaged page is found here or never.
func open(file string) (db *bbolt.DB, err error) {
	defer func() { // bbolt panics on some damaged pages
		if fault := recover(); fault != nil {
			err = fmt.Errorf("damaged: %v", fault)
		}
		if err != nil && db != nil {
			db.Close() // the first error is the one to tell
			db = nil
		}
	}()
	if db, err = bbolt.Open(file, 0o600, &bbolt.Options{Timeout: openWait, NoFreelistSync: true}); err != nil {
		return nil, err
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		for _, name := range [][]byte{accountsBucket, leasesBucket, callsBucket} {
			b, err := tx.CreateBucketIfNotExists(name)
			if err != nil {
				return err
			}
			if err := b.ForEach(func(_, _ []byte) error { return nil }); err != nil {
				return err
			}
		}
		return nil
	})
	return db, err
}

// Close ends the use of the file.
func (s *Store) Close() error { return s.db.Close() }

// Entry is what changed since the last Write.
type Entry struct {
	Accounts []budget.Saved
	Leases   []budget.SavedLease // all of them, if Moved
	Moved    bool
	Calls    []Calls
}

// Empty tells whether there is nothing to write.
func (e Entry) Empty() bool { return len(e.Accounts) == 0 && !e.Moved && len(e.Calls) == 0 }

// Write brings an entry to disk, whole or not at all.
func (s *Store) Write(e Entry) error {
	if e.Empty() {
		return nil
	}
	err := s.db.Update(func(tx *bbolt.Tx) error {
		accounts := tx.Bucket(accountsBucket)
		for _, a := range e.Accounts {
			key := "service/" + string(a.Service)
			if a.Tenant != "" {
				key = "tenant/" + string(a.Tenant)
			}
			if err := put(accounts, key, a); err != nil {
				return err
			}
		}
		if err := writeCalls(tx.Bucket(callsBucket), e.Calls); err != nil || !e.Moved {
			return err
		}
		if err := tx.DeleteBucket(leasesBucket); err != nil {
			return err
		}
		leases, err := tx.CreateBucket(leasesBucket)
		if err != nil {
			return err
		}
		for _, l := range e.Leases {
			if err := put(leases, string(l.Instance), l); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("write books %s: %w", s.db.Path(), err)
	}
	return nil
}

func put(b *bbolt.Bucket, key string, value any) error {
	text, err := json.Marshal(value)
	if err != nil {
		return err
	}
	return b.Put([]byte(key), text)
}

// Read returns all accounts and leases. Rows that cannot be read are left out
// and named by the error.
func (s *Store) Read() (accounts []budget.Saved, leases []budget.SavedLease, err error) {
	var faults []error
	err = s.db.View(func(tx *bbolt.Tx) error {
		tx.Bucket(accountsBucket).ForEach(func(key, text []byte) error {
			var a budget.Saved
			if err := json.Unmarshal(text, &a); err != nil {
				faults = append(faults, fmt.Errorf("account %s: %w", key, err))
				return nil
			}
			accounts = append(accounts, a)
			return nil
		})
		return tx.Bucket(leasesBucket).ForEach(func(key, text []byte) error {
			var l budget.SavedLease
			if err := json.Unmarshal(text, &l); err != nil {
				faults = append(faults, fmt.Errorf("instance %s: %w", key, err))
				return nil
			}
			leases = append(leases, l)
			return nil
		})
	})
	if err = errors.Join(append(faults, err)...); err != nil {
		err = fmt.Errorf("read books %s: %w", s.db.Path(), err)
	}
	return accounts, leases, err
}

// Forget drops the calls of every service that may not be kept here.
func (s *Store) Forget(keep func(polder.ServiceName) bool) error {
	err := s.db.Update(func(tx *bbolt.Tx) error {
		calls := tx.Bucket(callsBucket)
		var gone [][]byte
		err := calls.ForEachBucket(func(name []byte) error {
			if !keep(polder.ServiceName(name)) {
				gone = append(gone, append([]byte{}, name...))
			}
			return nil
		})
		for _, name := range gone {
			if err == nil {
				err = calls.DeleteBucket(name)
			}
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("books %s: forget the calls of services that left: %w", s.db.Path(), err)
	}
	return nil
}
