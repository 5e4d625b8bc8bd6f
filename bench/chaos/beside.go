package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// endLimit is how long a campaign may take to stop in order.
const endLimit = 2 * time.Minute

// share is the seeds of one of several campaigns.
type share struct{ first, seeds uint64 }

// shares divides seeds among campaigns, as evenly as can be; those without any are
// left out.
func shares(first, seeds uint64, n int) []share {
	var list []share
	for left := uint64(n); left > 0 && seeds > 0; left-- {
		mine := (seeds + left - 1) / left
		list = append(list, share{first, mine})
		first, seeds = first+mine, seeds-mine
	}
	return list
}

// sideBySide runs campaigns that share the seeds, each as a program of its own: with
// its own network, processes and mounts, so that they share nothing but the machine.
// Their lines are told apart by a number.
func sideBySide(ctx context.Context, args []string, parts []share, out io.Writer) error {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	var telling sync.Mutex
	var all sync.WaitGroup
	faults := make([]error, len(parts))
	for i, s := range parts {
		all.Go(func() {
			own := append(append([]string{}, args...), "--beside", "1", "--seed", strconv.FormatUint(s.first, 10), "--seeds", strconv.FormatUint(s.seeds, 10))
			c := exec.CommandContext(ctx, program, own...)
			c.Cancel = func() error { return c.Process.Signal(syscall.SIGTERM) }
			c.WaitDelay = endLimit
			said, words := io.Pipe()
			c.Stdout, c.Stderr = words, words
			told := make(chan struct{})
			go func() {
				defer close(told)
				for lines := bufio.NewReader(said); ; {
					line, err := lines.ReadString('\n')
					if line != "" {
						telling.Lock()
						fmt.Fprintf(out, "[%d] %s\n", i+1, strings.TrimSuffix(line, "\n"))
						telling.Unlock()
					}
					if err != nil {
						return
					}
				}
			}()
			faults[i] = c.Run()
			words.Close()
			<-told
		})
	}
	all.Wait()
	return errors.Join(faults...)
}
