package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/polder/polder/gateway"
)

// drainPoll is how often a drain is looked at.
const drainPoll = 250 * time.Millisecond

func drainCommand() *cobra.Command {
	var force, nowait bool
	var patience time.Duration
	c := &cobra.Command{
		Use:   "drain REGION|PEER",
		Short: "Give the callers of a region, or of one peer, to others, without a lost request",
		Long: `Gives the callers of a region's peers, or of one peer, to others that the law
permits: the membership and the DNS send nobody new, who arrives all the same is
passed on unopened, services become warm elsewhere before they go, and open
connections end after their present request. It shows how far it is and returns
when only what cannot be elsewhere is left; Ctrl-C stops the showing and not the
draining, which lasts until polder undrain, also over a restart.

A service that would be left without a home is a reason to change nothing, unless
--force is given. Even then it is served on for as long as the peer runs.

Peers are found by the state folder: on each of several machines run it there.`,
		Example: `  polder drain fr
  polder drain fr-2 --force --output json`,
		Args: cobra.ExactArgs(1),
	}
	output, state := outputFlag(c), stateFlag(c)
	f := c.Flags()
	f.BoolVar(&force, "force", false, "drain though services would be left without a home; these stay")
	f.BoolVar(&nowait, "no-wait", false, "return as soon as it has begun")
	f.DurationVar(&patience, "timeout", 10*time.Minute, "how `long` to wait for the end of it")
	c.ValidArgsFunction = completePeers(state)
	c.RunE = func(c *cobra.Command, args []string) error {
		peers, err := peersNamed(*state, args[0])
		if err != nil {
			return err
		}
		defer peers.close()
		if err := peers.drain(c.Context(), force); err != nil {
			return err
		}
		show := &drainView{c: c, format: *output}
		if nowait {
			return peers.look(c.Context(), show.tell)
		}
		ctx, cancel := context.WithTimeout(c.Context(), patience)
		defer cancel()
		return peers.follow(ctx, show)
	}
	return c
}

func undrainCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "undrain REGION|PEER",
		Short: "Let a drained region, or one peer, have callers again",
		Long: `Ends a drain. Callers come back gently: a service whose home is here returns when
it was asleep for once, and a busy one when it is warm here.`,
		Example: `  polder undrain fr`,
		Args:    cobra.ExactArgs(1),
	}
	output, state := outputFlag(c), stateFlag(c)
	c.ValidArgsFunction = completePeers(state)
	c.RunE = func(c *cobra.Command, args []string) error {
		peers, err := peersNamed(*state, args[0])
		if err != nil {
			return err
		}
		defer peers.close()
		show := &drainView{c: c, format: *output}
		for _, p := range peers {
			status, err := p.Undrain(c.Context())
			if err != nil {
				return err
			}
			if err := show.tell(status); err != nil {
				return err
			}
		}
		return nil
	}
	return c
}

// peerClient is a client and the name of its peer.
type peerClient struct {
	*gateway.Client
	peer string
}

type peerClients []peerClient

// peersNamed finds the peers of a region, or one peer, by the state folder.
func peersNamed(state, name string) (peerClients, error) {
	layouts, err := layoutsOf(state)
	if err != nil {
		return nil, err
	}
	var found peerClients
	var names []string
	for _, l := range layouts {
		peer := l.Peer
		if peer == "" {
			peer = gateway.FirstPeer(l.Region)
		}
		if string(l.Region) == name || peer == name {
			found = append(found, peerClient{gateway.NewClient(l), peer})
		}
		names = append(names, peer)
	}
	if len(found) == 0 {
		return nil, &exitError{exitNotThere, fmt.Errorf("there is no region and no peer %q in %s; there are the peers %s", name, state, listed(names))}
	}
	return found, nil
}

func (p peerClients) close() {
	for _, c := range p {
		c.Close()
	}
}

// others are the names of all but one.
func (p peerClients) others(peer string) []string {
	var names []string
	for _, c := range p {
		if c.peer != peer {
			names = append(names, c.peer)
		}
	}
	return names
}

// drain begins to drain all, or none if something would be left without a home.
func (p peerClients) drain(ctx context.Context, force bool) error {
	if !force {
		for _, c := range p {
			status, err := c.DrainStatus(ctx, p.others(c.peer))
			if err != nil {
				return err
			}
			if len(status.Stays) > 0 {
				return refused(&gateway.PinnedError{Peer: c.peer, Stays: status.Stays})
			}
		}
	}
	for _, c := range p {
		if _, err := c.Drain(ctx, p.others(c.peer), force); err != nil {
			return refused(err)
		}
	}
	return nil
}

func refused(err error) error {
	var pinned *gateway.PinnedError
	if errors.As(err, &pinned) {
		return &exitError{exitRefused, fmt.Errorf("%w\nNothing was changed. With --force they stay, and are lost when the peer stops", err)}
	}
	return err
}

// look hands over how far each peer is.
func (p peerClients) look(ctx context.Context, tell func(gateway.DrainStatus) error) error {
	for _, c := range p {
		status, err := c.DrainStatus(ctx, p.others(c.peer))
		if err != nil {
			return err
		}
		if err := tell(status); err != nil {
			return err
		}
	}
	return nil
}

// follow shows how far all are until all are done.
func (p peerClients) follow(ctx context.Context, show *drainView) error {
	ticker := time.NewTicker(drainPoll)
	defer ticker.Stop()
	for {
		done := true
		err := p.look(ctx, func(s gateway.DrainStatus) error {
			done = done && s.Done
			return show.tell(s)
		})
		switch {
		case ctx.Err() == nil && err != nil:
			return err
		case errors.Is(ctx.Err(), context.DeadlineExceeded):
			return errors.New("it drains on, but was not done in time: see what is left with polder drain once more, or choose a longer --timeout")
		case ctx.Err() != nil || done:
			return nil // done, or Ctrl-C
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
		}
	}
}

// drainView shows what changed.
type drainView struct {
	c      *cobra.Command
	format format
	last   map[string]string // by peer
}

func (v *drainView) tell(s gateway.DrainStatus) error {
	line := drainLine(s)
	if v.last[s.Peer] == line {
		return nil
	}
	if v.last == nil {
		v.last = map[string]string{}
	}
	v.last[s.Peer] = line
	if v.format == formatJSON {
		return jsonLine(v.c.OutOrStdout(), s)
	}
	_, err := fmt.Fprintln(v.c.OutOrStdout(), line)
	return err
}

func drainLine(s gateway.DrainStatus) string {
	if !s.Draining {
		return s.Peer + ": has callers"
	}
	parts := []string{fmt.Sprintf("%d services moved", s.Moved)}
	if s.Waiting > 0 {
		parts = append(parts, fmt.Sprintf("%d wait until they are warm elsewhere", s.Waiting))
	}
	if s.Instances > 0 || s.Open > 0 {
		parts = append(parts, fmt.Sprintf("%d instances and %d requests left", s.Instances, s.Open))
	}
	if len(s.Stays) > 0 {
		names := make([]string, len(s.Stays))
		for i, stay := range s.Stays {
			names[i] = string(stay.Service)
		}
		parts = append(parts, "stays: "+listed(names))
	}
	text := s.Peer + ": drains, " + strings.Join(parts, ", ")
	if s.Done {
		text = s.Peer + ": drained, " + strings.Join(parts, ", ")
	}
	return text
}

// completePeers completes names of regions and peers from the state folder.
func completePeers(state *string) cobra.CompletionFunc {
	return func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		layouts, err := gateway.Regions(*state)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var names []string
		for _, l := range layouts {
			names = append(names, string(l.Region), l.Name())
		}
		slices.Sort(names)
		return slices.Compact(names), cobra.ShellCompDirectiveNoFileComp
	}
}
