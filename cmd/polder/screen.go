package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	tea "github.com/charmbracelet/bubbletea"

	"github.com/polder/polder/gateway"
	"github.com/polder/polder/gateway/fleet"
)

const (
	// pollWait bounds the wait for one region's answer, so that one that hangs
	// does not stop the picture of the others.
	pollWait = 2 * time.Second
	// eventQueue is how many lines of log may wait to be drawn. More are in the
	// regions' files.
	eventQueue = 1000
)

// screen is the living overview's link to the rest.
type screen struct{ events chan upEvent }

// event hands a line of log over, or drops it when the screen cannot keep up.
func (s *screen) event(e upEvent) {
	select {
	case s.events <- e:
	default:
	}
}

// showLiving draws until ctx ends or the user quits.
func (v *view) showLiving(ctx context.Context, members []fleet.Member, clients []*gateway.Client, root string) error {
	drawing, stop := context.WithCancel(ctx)
	var feeding sync.WaitGroup
	defer feeding.Wait()
	defer stop()
	// Signals are ours, and the terminal's Ctrl-C is a key here. The end of ctx
	// quits as a key does; bubbletea's own way would kill it in the middle of a read.
	program := tea.NewProgram(newOverview(members, root), tea.WithOutput(v.out), tea.WithAltScreen(), tea.WithoutSignalHandler())
	defer context.AfterFunc(ctx, program.Quit)()
	s := &screen{events: make(chan upEvent, eventQueue)}
	v.setScreen(s)
	feeding.Go(func() { s.forward(drawing, program) })
	feeding.Go(func() { poll(drawing, clients, program) })
	_, err := program.Run()
	v.setScreen(nil)
	fmt.Fprintln(v.errs, "stopping all regions")
	return err
}

// forward hands lines of log to the program, in their order.
func (s *screen) forward(ctx context.Context, program *tea.Program) {
	for {
		select {
		case e := <-s.events:
			program.Send(e)
		case <-ctx.Done():
			return
		}
	}
}

// poll asks all regions again and again. A region that does not answer has the
// zero status.
func poll(ctx context.Context, clients []*gateway.Client, program *tea.Program) {
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	for {
		round := polled{statuses: make([]gateway.Status, len(clients))}
		var asking sync.WaitGroup
		for i, c := range clients {
			asking.Go(func() {
				ctx, cancel := context.WithTimeout(ctx, pollWait)
				defer cancel()
				if s, err := c.Status(ctx); err == nil {
					round.statuses[i] = s
				}
			})
		}
		asking.Wait()
		round.at = time.Now()
		program.Send(round)
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}
