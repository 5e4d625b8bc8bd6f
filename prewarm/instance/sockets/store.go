package sockets

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/polder/polder/prewarm/instance/process"
)

// Options say where a Store's keeper lives. Log is needed.
type Options struct {
	Dir     string   // of the keeper's record and log; private to its owner
	Socket  string   // where the keeper listens; in a private folder too
	Program string   // that calls Keep; "" means no keeper: sockets then end with this process
	Args    []string // of the program
	Label   string   // names the keeper in errors, "keeper of fr"
	Log     *slog.Logger
}

// endWithin is how long a keeper may take to end, before it is killed.
const endWithin = 2 * time.Second

// Store is this Polder's hold of sockets by name. Make one with New.
type Store struct {
	o Options

	mu     sync.Mutex // guards all below
	files  map[string]*os.File
	keeper *process.Process
	conn   *net.UnixConn // to the keeper; nil without one
	closed bool
}

// New makes an empty Store, and starts nothing.
func New(o Options) *Store { return &Store{o: o, files: map[string]*os.File{}} }

// Open takes over the keeper, with all that it holds, that an earlier Polder
// left, or starts one. After an error the Store works all the same, without a
// keeper until the next change.
func (s *Store) Open() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.o.Program == "" {
		return nil
	}
	if s.adopt() == nil {
		return nil
	}
	s.abandon()
	err := s.begin()
	if err != nil {
		s.abandon()
	}
	return err
}

func (s *Store) record() string { return filepath.Join(s.o.Dir, "keeper.json") }

// adopt takes over a keeper that runs.
func (s *Store) adopt() error {
	keeper, err := process.Adopt(s.record())
	if err != nil {
		return err
	}
	s.keeper = keeper
	if s.conn, err = net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: s.o.Socket, Net: "unixpacket"}); err != nil {
		return err
	}
	if err := send(s.conn, packet{word: wordList}); err != nil {
		return err
	}
	for {
		p, err := receive(s.conn, answerWait)
		if err != nil {
			return err
		}
		if p.word == wordDone {
			return nil
		}
		s.files[p.name] = p.file
	}
}

// begin starts a keeper and gives it what we hold.
func (s *Store) begin() (err error) {
	if err := os.Remove(s.o.Socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	listener, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: s.o.Socket, Net: "unixpacket"})
	if err != nil {
		return err
	}
	listener.SetUnlinkOnClose(false)
	defer listener.Close()
	own, err := listener.File()
	if err != nil {
		return err
	}
	defer own.Close()
	if err := os.Chmod(s.o.Socket, 0o600); err != nil {
		return err
	}
	if s.keeper, err = process.Start(process.Spec{
		Path: s.o.Program, Args: s.o.Args, Dir: s.o.Dir, Env: environment(), Files: []*os.File{own},
		LogFile: filepath.Join(s.o.Dir, "keeper.log"), RecordFile: s.record(), Label: s.o.Label,
	}); err != nil {
		return err
	}
	if s.conn, err = net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: s.o.Socket, Net: "unixpacket"}); err != nil {
		return err
	}
	for name, f := range s.files {
		if err := s.tell(packet{wordPut, name, f}); err != nil {
			return err
		}
	}
	return nil
}

// environment is ours, without the key that marks us as somebody's process.
func environment() []string {
	return slices.DeleteFunc(os.Environ(), func(entry string) bool { return strings.HasPrefix(entry, process.EnvKey+"=") })
}

// tell says one word and waits for the answer.
func (s *Store) tell(p packet) error {
	if err := send(s.conn, p); err != nil {
		return err
	}
	_, err := receive(s.conn, answerWait)
	return err
}

// abandon ends a keeper that cannot be spoken to.
func (s *Store) abandon() {
	if s.conn != nil {
		s.conn.Close()
		s.conn = nil
	}
	if s.keeper != nil {
		if err := s.keeper.Stop(context.Background(), 0); err != nil {
			s.o.Log.Warn("the keeper of listening sockets does not end", "reason", err)
		}
		s.keeper = nil
	}
}

// change tells the keeper, and starts another if it does not answer.
func (s *Store) change(p packet) {
	if s.o.Program == "" {
		return
	}
	err := errors.New("it has ended")
	if s.conn != nil {
		err = s.tell(p)
	}
	if err == nil {
		return
	}
	s.o.Log.Warn("the keeper of listening sockets is replaced", "reason", err)
	s.abandon()
	if err := s.begin(); err != nil { // which gives it all that we hold
		s.abandon()
		s.o.Log.Warn("listening sockets have no keeper: callers that connect while Polder is replaced, or has crashed, are refused", "reason", err)
	}
}

// Put keeps a socket, or any open file that shall last as long, under a name, in place
// of the one before. The Store has a descriptor of its own; f remains the caller's.
func (s *Store) Put(name string, f *os.File) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return os.ErrClosed
	}
	own, err := again(f)
	if err != nil {
		return fmt.Errorf("keep the socket %s: %w", name, err)
	}
	if old := s.files[name]; old != nil {
		old.Close()
	}
	s.files[name] = own
	s.change(packet{wordPut, name, own})
	return nil
}

// Get gives another descriptor of the socket with that name, for the caller to
// close; nil when there is none.
func (s *Store) Get(name string) (*os.File, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.files[name]
	if f == nil {
		return nil, nil
	}
	return again(f)
}

// Names lists what is kept, in no order.
func (s *Store) Names() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	names := make([]string, 0, len(s.files))
	for name := range s.files {
		names = append(names, name)
	}
	return names
}

// Drop lets go of a socket: when nobody else holds it, it is closed, and what
// waits in its queue is reset.
func (s *Store) Drop(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.files[name]
	if f == nil {
		return
	}
	f.Close()
	delete(s.files, name)
	s.change(packet{word: wordDrop, name: name})
}

// Leave leaves all sockets with the keeper, for the next Polder.
func (s *Store) Leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.close()
	if s.keeper != nil {
		s.keeper.Release()
	}
}

// End closes all sockets and ends the keeper.
func (s *Store) End() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != nil {
		_ = send(s.conn, packet{word: wordEnd}) // else it is killed below
	}
	s.close()
	if s.keeper == nil {
		return nil
	}
	select {
	case <-s.keeper.Done():
	case <-time.After(endWithin):
	}
	err := s.keeper.Stop(context.Background(), 0)
	if gone := os.Remove(s.o.Socket); gone != nil && !errors.Is(gone, os.ErrNotExist) {
		err = errors.Join(err, gone)
	}
	return err
}

func (s *Store) close() {
	s.closed = true
	for _, f := range s.files {
		f.Close()
	}
	s.files = map[string]*os.File{}
	if s.conn != nil {
		s.conn.Close()
		s.conn = nil
	}
}

// again opens a file once more, in the mode in which it is.
func again(f *os.File) (*os.File, error) {
	var copied int
	err := withFD(f, func(fd int) (err error) {
		copied, err = unix.FcntlInt(uintptr(fd), syscall.F_DUPFD_CLOEXEC, 0)
		return err
	})
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(copied), f.Name()), nil
}
