package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway"
	"github.com/polder/polder/regions/law"
	"github.com/polder/polder/xds/proof"
)

// explainService shows where the callers of a service can get.
func explainService(c *cobra.Command, f format, m *polder.Model, name polder.ServiceName) error {
	explainer, err := gateway.NewExplainer(m)
	if err != nil {
		return err
	}
	e, err := explainer.Explain(name)
	if errors.Is(err, gateway.ErrNoService) {
		var names []string
		for _, s := range m.Services {
			names = append(names, string(s.Name))
		}
		return &exitError{exitNotThere, fmt.Errorf("there is no service %q; there are %s", name, listed(names))}
	}
	if err != nil {
		return err
	}
	if f == formatJSON {
		err = printJSON(c.OutOrStdout(), e)
	} else {
		err = writeExplanation(c.OutOrStdout(), e)
	}
	for _, r := range e.Regions {
		if err == nil && len(r.Violations) > 0 {
			return &exitError{code: exitUnlawful}
		}
	}
	return err
}

func writeExplanation(w io.Writer, e gateway.Explanation) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s\n", e.Service, e.Policy)
	for _, r := range e.Regions {
		fmt.Fprintf(&b, "\n%s (%s)%s: %s\n", r.Region, r.Title, standing(e, r), rulingText(r.Now))
		if rulingText(r.Lost) != rulingText(r.Now) {
			fmt.Fprintf(&b, "  while no other allowed region is alive: %s\n", rulingText(r.Lost))
		}
		if r.Broken != nil && rulingText(*r.Broken) != rulingText(r.Lost) {
			fmt.Fprintf(&b, "  the same while the glass is broken: %s\n", rulingText(*r.Broken))
		}
		for _, way := range grouped(r.Ways) {
			fmt.Fprintf(&b, "  - %s\n      %s\n", way.text, strings.Join(way.path, " > "))
			switch {
			case way.more == 1:
				b.WriteString("      and one more path\n")
			case way.more > 1:
				fmt.Fprintf(&b, "      and %d more paths\n", way.more)
			}
		}
		for _, v := range r.Violations {
			fmt.Fprintf(&b, "  VIOLATION %s\n", v)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// standing marks a region that may serve at times only.
func standing(e gateway.Explanation, r gateway.RegionExplanation) string {
	switch {
	case slices.Contains(e.Standby, r.Region):
		return ", stands by"
	case !slices.Contains(e.Glass, r.Region):
		return ""
	case r.Lost.Verdict == law.Serve:
		return ", behind broken glass"
	}
	return ", behind glass"
}

func rulingText(r gateway.Ruling) string {
	text := string(r.Verdict)
	if len(r.Targets) > 0 {
		names := make([]string, len(r.Targets))
		for i, t := range r.Targets {
			names[i] = string(t)
		}
		text += " to " + strings.Join(names, ", then ")
	}
	return text + " (" + r.Reason + ")"
}

// ends are ways that come to the same end.
type ends struct {
	text string
	path []string // of the first
	more int
}

// grouped joins ways with the same end, in the order in which a connection meets
// them: the key first, then where it goes.
func grouped(ways []gateway.Way) []ends {
	var list []ends
	for _, kind := range []proof.WayKind{proof.ToKey, proof.ToInstance, proof.ToActivator, proof.ToPeer, proof.ToSink, proof.ToAnswer} {
		at := map[string]int{}
		for _, way := range ways {
			if way.Kind != kind {
				continue
			}
			text := way.String()
			if i, known := at[text]; known {
				list[i].more++
				continue
			}
			at[text] = len(list)
			list = append(list, ends{text: text, path: way.Path})
		}
	}
	return list
}
