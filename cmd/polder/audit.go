package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway"
	"github.com/polder/polder/gateway/audit"
	"github.com/polder/polder/gateway/ledger"
)

// regionAudit is what polder audit finds in one region.
type regionAudit struct {
	Region  polder.RegionName     `json:"region"`
	Peer    string                `json:"peer,omitempty"` // not for a region's first one
	Running bool                  `json:"running"`
	Audit   *audit.Result         `json:"audit,omitempty"`
	Ledger  *gateway.LedgerReport `json:"ledger,omitempty"`
	Refused []string              `json:"refused,omitempty"` // why the proof refuses the last change
	Fault   string                `json:"fault,omitempty"`   // why something could not be audited

	layout gateway.Layout
	absent error // why it does not answer; nil when it runs
}

// unlawful tells whether anything speaks against the region.
func (r regionAudit) unlawful() bool {
	return len(r.Refused) > 0 || r.Audit != nil && len(r.Audit.Drift) > 0 ||
		r.Ledger != nil && (len(r.Ledger.Faults) > 0 || r.Ledger.Damage != "")
}

func auditCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "audit",
		Short: "Hold running Envoys against what was proved, and ledgers against themselves",
		Long: `Audits every region that runs with the state folder, now: its Envoy is asked for all
that it has, which must be what was proved and published, byte for byte, and pass the
proof once more; its ledger is read from end to end. Regions do the same by
themselves every few seconds, and replace an Envoy that is not as it should be.

Exit code 5 means that something is not: an Envoy has what nobody published, the
proof refuses the last change of the configuration, or another hand wrote to a
ledger. Exit code 1 means that something could not be audited.`,
		Example: `  polder audit
  polder audit --state /var/lib/polder --output json`,
		Args: noSuchCommand,
	}
	output := outputFlag(c)
	state := stateFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		audits, err := auditAll(c.Context(), *state)
		if err != nil {
			return err
		}
		if *output == formatJSON {
			err = printJSON(c.OutOrStdout(), audits)
		} else {
			err = writeAudits(c.OutOrStdout(), audits)
		}
		if err != nil {
			return err
		}
		return auditError(audits)
	}
	c.AddCommand(auditLedgerCommand(), auditReportCommand())
	return c
}

// auditAll audits every region of the state folder, all at once. Of regions that
// do not run it reads the ledgers.
func auditAll(ctx context.Context, state string) ([]regionAudit, error) {
	layouts, err := layoutsOf(state)
	if err != nil {
		return nil, err
	}
	audits := make([]regionAudit, len(layouts))
	var asking sync.WaitGroup
	for i, layout := range layouts {
		asking.Go(func() { audits[i] = auditRegion(ctx, layout) })
	}
	asking.Wait()
	if !slices.ContainsFunc(audits, func(a regionAudit) bool { return a.Running || a.Ledger != nil }) {
		return nil, audits[0].absent // there is nothing to look at
	}
	return audits, nil
}

func auditRegion(ctx context.Context, layout gateway.Layout) regionAudit {
	a := regionAudit{Region: layout.Region, Peer: layout.Peer, layout: layout}
	client := gateway.NewClient(layout)
	defer client.Close()
	status, err := client.Status(ctx)
	if errors.Is(err, gateway.ErrNotRunning) {
		a.absent = err
		a.Ledger, err = readLedger(layout)
		a.note(err)
		return a
	}
	a.Running = true
	a.note(err)
	a.Refused = status.Refused
	if result, err := client.Audit(ctx); err == nil {
		a.Audit = &result
	} else {
		a.note(err)
	}
	if report, err := client.Ledger(ctx); err == nil {
		a.Ledger = &report
	} else {
		a.note(err)
	}
	return a
}

// note keeps the first fault.
func (r *regionAudit) note(err error) {
	if err != nil && r.Fault == "" {
		r.Fault = err.Error()
	}
}

// readLedger verifies the ledger of a region that does not run.
func readLedger(layout gateway.Layout) (*gateway.LedgerReport, error) {
	summary, err := ledger.Verify(layout.Ledger())
	report := &gateway.LedgerReport{Summary: summary}
	report.Head = summary.Head
	var damage *ledger.DamageError
	switch {
	case errors.As(err, &damage):
		report.Faults = damage.Faults
	case errors.Is(err, os.ErrNotExist):
		return nil, nil // it never ran since there are ledgers
	case err != nil:
		return nil, err
	}
	return report, nil
}

func auditError(audits []regionAudit) error {
	for _, a := range audits {
		if a.unlawful() {
			return &exitError{code: exitUnlawful}
		}
	}
	for _, a := range audits {
		if a.Fault != "" {
			return fmt.Errorf("not everything could be audited: %s", a.Fault)
		}
	}
	for _, a := range audits {
		if a.Running {
			return nil
		}
	}
	return fmt.Errorf("only ledgers were read: %w", audits[0].absent)
}

func writeAudits(w io.Writer, audits []regionAudit) error {
	table := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(table, "REGION\tENVOY\tRESOURCES\tKEYS\tSNAPSHOT\tRECORDS\tLEDGER")
	for _, a := range audits {
		envoy, resources, keys, snapshot, records, book := "not running", "", "", "", "", "none"
		if a.Running {
			envoy = "not audited"
		}
		if r := a.Audit; r != nil {
			resources, keys, snapshot = fmt.Sprint(r.Resources), fmt.Sprint(r.Secrets), short(r.Running)
			switch {
			case len(r.Drift) > 0:
				envoy = fmt.Sprintf("%d drifts", len(r.Drift))
			case !r.Settled:
				envoy = "nothing foreign"
			default:
				envoy = "as published"
			}
		}
		if l := a.Ledger; l != nil {
			records, book = fmt.Sprint(l.Summary.Records), "whole"
			if len(l.Faults) > 0 || l.Damage != "" {
				book = "TAMPERED WITH"
			}
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", a.layout.Name(), envoy, resources, keys, snapshot, records, book)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	for _, a := range audits {
		for _, line := range a.findings() {
			if _, err := fmt.Fprintf(w, "\n%s: %s\n", a.layout.Name(), line); err != nil {
				return err
			}
		}
	}
	return nil
}

// findings lists all that somebody should look at.
func (r regionAudit) findings() []string {
	var lines []string
	if r.Audit != nil {
		for _, d := range r.Audit.Drift {
			lines = append(lines, "drift: "+d.String())
		}
		if !r.Audit.Settled {
			lines = append(lines, "something was being published, or its Envoy is not connected: only what is foreign could be looked for")
		}
	}
	for _, v := range r.Refused {
		lines = append(lines, "the proof refuses the last change: "+v)
	}
	if l := r.Ledger; l != nil {
		for _, f := range l.Faults {
			lines = append(lines, "ledger: "+f.String())
		}
		if l.Damage != "" {
			lines = append(lines, "ledger: "+l.Damage)
		}
		if l.Fault != "" {
			lines = append(lines, "ledger: the last record could not be written: "+l.Fault)
		}
	}
	if r.Fault != "" {
		lines = append(lines, r.Fault)
	}
	return lines
}
