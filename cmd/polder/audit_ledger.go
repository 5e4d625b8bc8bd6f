package main

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway"
	"github.com/polder/polder/gateway/ledger"
)

func auditLedgerCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "ledger",
		Short: "Verify or export the ledgers of regions",
		Long: `Reads the ledgers in the state folder. Nothing needs to run. What a ledger is, and
what its verification proves, is in docs/residency.md.`,
	}
	c.AddCommand(ledgerVerifyCommand(), ledgerExportCommand())
	return c
}

// verified is what the verification of one ledger found.
type verified struct {
	Region  polder.RegionName `json:"region"`
	Peer    string            `json:"peer,omitempty"` // not for a region's first one
	Summary ledger.Summary    `json:"summary"`
	Faults  []ledger.Fault    `json:"faults,omitempty"`
}

func ledgerVerifyCommand() *cobra.Command {
	var region, head string
	c := &cobra.Command{
		Use:   "verify",
		Short: "Find every line of a ledger that was cut, changed, moved or removed",
		Long: `Verifies the hash chain of each region's ledger from its first line to its last, and
prints its head: note it somewhere else. Who may write the folder can write all of
it anew; with --head, a head that you noted earlier must still be in it.

Exit code 5 means that a ledger was tampered with; the places are named.`,
		Example: `  polder audit ledger verify
  polder audit ledger verify --state /var/lib/polder --region fr --head 4711:9f86d081884c7d65…`,
		Args: cobra.NoArgs,
	}
	output := outputFlag(c)
	state := stateFlag(c)
	regionFlag(c, &region, state)
	c.Flags().StringVar(&head, "head", "", "a `SEQUENCE:HASH` that was noted earlier, of the region")
	c.RunE = func(c *cobra.Command, _ []string) error {
		layouts, err := chosen(*state, region)
		if err != nil {
			return err
		}
		noted, err := parseHead(head)
		if err != nil {
			return err
		}
		if noted != (ledger.Head{}) && region == "" {
			return misused("--head is of one region: name it with --region")
		}
		var list []verified
		tampered := false
		for _, layout := range layouts {
			v := verified{Region: layout.Region, Peer: layout.Peer}
			v.Summary, err = ledger.VerifyFrom(layout.Ledger(), noted)
			var damage *ledger.DamageError
			if errors.As(err, &damage) {
				v.Faults, tampered = damage.Faults, true
			} else if err != nil {
				return missing(layout, err)
			}
			list = append(list, v)
		}
		if *output == formatJSON {
			err = printJSON(c.OutOrStdout(), list)
		} else {
			err = writeVerified(c.OutOrStdout(), list)
		}
		if err == nil && tampered {
			return &exitError{code: exitUnlawful}
		}
		return err
	}
	return c
}

func regionFlag(c *cobra.Command, region, state *string) {
	c.Flags().StringVar(region, "region", "", "`name` of one region only")
	complete(c, "region", completeRegions(state))
}

// chosen lists the layouts of the state folder, or one of them.
func chosen(state, region string) ([]gateway.Layout, error) {
	layouts, err := layoutsOf(state)
	if err != nil || region == "" {
		return layouts, err
	}
	var names []string
	var named []gateway.Layout
	for _, l := range layouts {
		if string(l.Region) == region {
			named = append(named, l)
		}
		names = append(names, l.Name())
	}
	if len(named) > 0 {
		return named, nil
	}
	return nil, &exitError{exitNotThere, fmt.Errorf("there is no region %q in %s; there are %s", region, state, listed(names))}
}

func parseHead(text string) (ledger.Head, error) {
	if text == "" {
		return ledger.Head{}, nil
	}
	number, hash, found := strings.Cut(text, ":")
	sequence, err := strconv.ParseUint(number, 10, 64)
	if !found || err != nil || len(hash) != 64 {
		return ledger.Head{}, misused("--head is %q, want a number, a colon and 64 hexadecimal digits, as verify prints it", text)
	}
	return ledger.Head{Sequence: sequence, Hash: hash}, nil
}

// missing says that a region has no ledger, or one that cannot be read.
func missing(layout gateway.Layout, err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return &exitError{exitNotThere, fmt.Errorf("region %s has no ledger in %s: it begins when the region first runs", layout.Name(), layout.Ledger())}
	}
	return err
}

func writeVerified(w io.Writer, list []verified) error {
	for _, v := range list {
		s := v.Summary
		if len(v.Faults) > 0 {
			fmt.Fprintf(w, "%s: TAMPERED WITH\n", cmp.Or(v.Peer, string(v.Region)))
		} else {
			fmt.Fprintf(w, "%s: whole\n", cmp.Or(v.Peer, string(v.Region)))
		}
		for _, f := range v.Faults {
			fmt.Fprintf(w, "  %s\n", f)
		}
		if s.Records > 0 {
			fmt.Fprintf(w, "  records %d to %d, from %s to %s, in %d segments", s.First, s.Head.Sequence, s.From.Format("2006-01-02 15:04:05"), s.To.Format("2006-01-02 15:04:05 MST"), s.Segments)
			if s.Pruned > 0 {
				fmt.Fprintf(w, "; %d older ones were removed for their age", s.Pruned)
			}
			fmt.Fprintln(w)
		}
		for _, kind := range slices.Sorted(maps.Keys(s.Kinds)) {
			fmt.Fprintf(w, "  %6d %s\n", s.Kinds[kind], kind)
		}
		if s.Unfinished > 0 {
			fmt.Fprintf(w, "  the last line is not finished, as a crash leaves it: %d bytes\n", s.Unfinished)
		}
		if _, err := fmt.Fprintf(w, "  head %d:%s\n", s.Head.Sequence, s.Head.Hash); err != nil {
			return err
		}
	}
	return nil
}

func ledgerExportCommand() *cobra.Command {
	var region string
	c := &cobra.Command{
		Use:   "export",
		Short: "Print the records of a ledger as they stand there, one JSON object a line",
		Long: `Prints every record, oldest first, region after region, exactly as it stands in the
ledger, hash included: whoever has the lines can verify them. The ledger is verified on
the way; exit code 5 means that it was tampered with, and the message says where.`,
		Example: `  polder audit ledger export --region fr | jq 'select(.kind == "drift")'`,
		Args:    cobra.NoArgs,
	}
	state := stateFlag(c)
	regionFlag(c, &region, state)
	c.RunE = func(c *cobra.Command, _ []string) error {
		layouts, err := chosen(*state, region)
		if err != nil {
			return err
		}
		out := bufio.NewWriter(c.OutOrStdout())
		var faults []error
		for _, layout := range layouts {
			_, err := ledger.Export(layout.Ledger(), out)
			var damage *ledger.DamageError
			if errors.As(err, &damage) {
				faults = append(faults, err)
			} else if err != nil {
				return missing(layout, err)
			}
		}
		if err := out.Flush(); err != nil {
			return err
		}
		if err := errors.Join(faults...); err != nil {
			return &exitError{exitUnlawful, err}
		}
		return nil
	}
	return c
}
