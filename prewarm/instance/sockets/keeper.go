package sockets

import (
	"fmt"
	"net"
	"os"
)

// keeperFD is where the keeper finds the socket that it listens on.
const keeperFD = 3

// Keep is all that a keeper does: it returns when it was told to end. It
// expects its own socket as file descriptor 3, as Store.Open passes it.
func Keep() error {
	own := os.NewFile(keeperFD, "keeper")
	defer own.Close()
	listener, err := net.FileListener(own)
	if err != nil {
		return fmt.Errorf("keeper of sockets: it is started by polder run, and not by hand: %w", err)
	}
	defer listener.Close()
	unixListener, ok := listener.(*net.UnixListener)
	if !ok {
		return fmt.Errorf("keeper of sockets: file descriptor %d is no Unix socket", keeperFD)
	}
	return keep(unixListener)
}

// keep serves one Polder after the other.
func keep(listener *net.UnixListener) error {
	kept := map[string]*os.File{}
	defer func() {
		for _, f := range kept {
			f.Close()
		}
	}()
	for {
		c, err := listener.AcceptUnix()
		if err != nil {
			return fmt.Errorf("keeper of sockets: %w", err)
		}
		ended := attend(c, kept)
		c.Close()
		if ended {
			return nil
		}
	}
}

// attend does what a Polder asks until it is gone. True means: end.
func attend(c *net.UnixConn, kept map[string]*os.File) (ended bool) {
	for {
		asked, err := receive(c, 0)
		if err != nil {
			return false // it closed, or speaks another language
		}
		switch asked.word {
		case wordPut:
			if old := kept[asked.name]; old != nil {
				old.Close()
			}
			kept[asked.name] = asked.file
		case wordDrop:
			if old := kept[asked.name]; old != nil {
				old.Close()
				delete(kept, asked.name)
			}
		case wordList:
			for name, f := range kept {
				if send(c, packet{wordPut, name, f}) != nil {
					return false
				}
			}
		case wordEnd:
			ended = true
		}
		if send(c, packet{word: wordDone}) != nil || ended {
			return ended
		}
	}
}
