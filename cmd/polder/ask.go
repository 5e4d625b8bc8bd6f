package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway"
	"github.com/polder/polder/gateway/source"
)

// localState is the state folder of polder up, and what other commands look at.
const localState = ".polder"

// ask asks every region that runs with the state folder for its status, and
// tells which ones do not answer.
func ask(ctx context.Context, state string) (there []gateway.Status, absent []string, err error) {
	return askEach(ctx, state, (*gateway.Client).Status)
}

// askEach puts one question to every region that runs with the state folder, all
// at once, and tells which ones do not run. It fails if none does.
func askEach[T any](ctx context.Context, state string, question func(*gateway.Client, context.Context) (T, error)) (there []T, absent []string, err error) {
	layouts, err := layoutsOf(state)
	if err != nil {
		return nil, nil, err
	}
	answers := make([]T, len(layouts))
	faults := make([]error, len(layouts))
	var asking sync.WaitGroup
	for i, layout := range layouts {
		asking.Go(func() {
			client := gateway.NewClient(layout)
			defer client.Close()
			answers[i], faults[i] = question(client, ctx)
		})
	}
	asking.Wait()
	for i, fault := range faults {
		switch {
		case fault == nil:
			there = append(there, answers[i])
		case errors.Is(fault, gateway.ErrNotRunning):
			absent = append(absent, layouts[i].Name())
		default:
			return nil, nil, fault
		}
	}
	if len(there) == 0 {
		return nil, nil, faults[0]
	}
	return there, absent, nil
}

// askAll asks every region that runs with the state folder.
func askAll(ctx context.Context, state string) ([]gateway.Status, error) {
	there, _, err := ask(ctx, state)
	return there, err
}

// layoutsOf lists the regions that ever ran with the state folder, one or more.
func layoutsOf(state string) ([]gateway.Layout, error) {
	layouts, err := gateway.Regions(state)
	if err == nil && len(layouts) == 0 {
		err = fmt.Errorf("no region has ever run with the state folder %s: start one with polder up or polder run, or name another folder with --state", state)
	}
	if err != nil {
		return nil, &exitError{exitNotThere, err}
	}
	return layouts, nil
}

// noSuchService says that none of the regions knows the service.
func noSuchService(name polder.ServiceName, statuses []gateway.Status) error {
	return &exitError{exitNotThere, fmt.Errorf("there is no service %q; there are %s", name, listed(namesOf(statuses)))}
}

// namesOf lists the services that any of the regions knows, sorted.
func namesOf(statuses []gateway.Status) []string {
	var names []string
	for _, s := range statuses {
		for _, service := range s.Services {
			if name := string(service.Service); !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return names
}

// listed joins names for an error, the first ones if they are many.
func listed(names []string) string {
	const most = 8
	text := ""
	for i, name := range names {
		switch {
		case i == most:
			return fmt.Sprintf("%s and %d more", text, len(names)-most)
		case i > 0:
			text += ", "
		}
		text += name
	}
	if text == "" {
		return "none"
	}
	return text
}

// completeServices completes names of services from the regions that run.
func completeServices(state *string) cobra.CompletionFunc {
	return func(c *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		return namesOf(askSoon(c.Context(), *state)), cobra.ShellCompDirectiveNoFileComp
	}
}

// completeRegions completes names of regions from those that run.
func completeRegions(state *string) cobra.CompletionFunc {
	return func(c *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		var names []string
		for _, s := range askSoon(c.Context(), *state) {
			names = append(names, string(s.Region))
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}

// completeConfigured completes names of regions from the configuration.
func completeConfigured(config *string) cobra.CompletionFunc {
	return func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		var names []string
		if m := (source.Source{Path: *config}).Load().Model; m != nil {
			for _, r := range m.Regions {
				names = append(names, string(r.Name))
			}
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}

// askSoon is askAll for a shell that waits: silence is an answer.
func askSoon(ctx context.Context, state string) []gateway.Status {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	statuses, err := askAll(ctx, state)
	if err != nil {
		return nil
	}
	return statuses
}
