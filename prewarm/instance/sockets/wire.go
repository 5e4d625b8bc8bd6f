package sockets

import (
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// The keeper's language: one packet a word, of the word's letter and a name. A
// packet that carries a socket has it as its one file descriptor.
const (
	wordPut  = 'p' // keep this socket under the name, in place of another
	wordDrop = 'd' // let go of the name
	wordList = 'l' // answered with one wordPut for each socket, and wordDone
	wordEnd  = 'e' // let go of all and end
	wordDone = '.' // the answer to everything
)

const (
	longestName = 512             // bytes
	answerWait  = 5 * time.Second // for one packet; the other end does nothing slow
)

// packet is one word on its way.
type packet struct {
	word byte
	name string
	file *os.File // with wordPut
}

func send(c *net.UnixConn, p packet) error {
	if len(p.name) > longestName {
		return fmt.Errorf("the name of a socket has %d bytes, at most %d are taken", len(p.name), longestName)
	}
	if err := c.SetWriteDeadline(time.Now().Add(answerWait)); err != nil {
		return err
	}
	text := append([]byte{p.word}, p.name...)
	if p.file == nil {
		_, err := c.Write(text)
		return err
	}
	return withFD(p.file, func(fd int) error {
		_, _, err := c.WriteMsgUnix(text, unix.UnixRights(fd), nil)
		return err
	})
}

// receive waits for a packet, for ever if limit is 0.
func receive(c *net.UnixConn, limit time.Duration) (p packet, err error) {
	var deadline time.Time
	if limit > 0 {
		deadline = time.Now().Add(limit)
	}
	if err := c.SetReadDeadline(deadline); err != nil {
		return packet{}, err
	}
	text, rights := make([]byte, 1+longestName), make([]byte, unix.CmsgSpace(4))
	n, more, flags, _, err := c.ReadMsgUnix(text, rights) // close-on-exec
	if err != nil {
		return packet{}, err
	}
	if n == 0 || flags&(unix.MSG_CTRUNC|unix.MSG_TRUNC) != 0 {
		return packet{}, errors.New("a packet is empty or too long")
	}
	p = packet{word: text[0], name: string(text[1:n])}
	messages, err := unix.ParseSocketControlMessage(rights[:more])
	if err != nil {
		return packet{}, err
	}
	for _, m := range messages {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			return packet{}, err
		}
		for _, fd := range fds {
			p.file = os.NewFile(uintptr(fd), p.name)
		}
	}
	if (p.word == wordPut) != (p.file != nil) {
		return packet{}, fmt.Errorf("a packet %q does not have what it should", p.word)
	}
	return p, nil
}

// withFD lends a file's descriptor, and leaves its mode as it is.
func withFD(f *os.File, use func(fd int) error) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	err = raw.Control(func(fd uintptr) { inner = use(int(fd)) })
	return errors.Join(err, inner)
}
