package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/polder/polder/gateway"
	"github.com/polder/polder/gateway/ledger"
	"github.com/polder/polder/gateway/report"
	"github.com/polder/polder/gateway/source"
)

func auditReportCommand() *cobra.Command {
	var file, config string
	c := &cobra.Command{
		Use:   "report --html FILE",
		Short: "Write one page on where services may go, and how that is known",
		Long: `Audits every region and writes one HTML page about it, for people who must answer for
it: the regions on a map, who may open what, every policy in words with all ways that
the proof finds, the evidence of each gateway, and from the ledgers the incidents and
the changes of policy. The page has no scripts and fetches nothing: send it, print it,
keep it. It is of the configuration in force, or of the one named.

Exit codes are those of polder audit; the page is written in any case.`,
		Example: `  polder audit report --html residency.html
  polder audit report --html - --state /var/lib/polder >residency.html`,
		Args: cobra.NoArgs,
	}
	state := stateFlag(c)
	c.Flags().StringVar(&file, "html", "", "`file` to write, - for standard output")
	c.Flags().StringVar(&config, "config", "", "`path` of a configuration to report on (default: the last one in force)")
	must(c.MarkFlagRequired("html"))
	must(c.MarkFlagFilename("html", "html"))
	c.RunE = func(c *cobra.Command, _ []string) error {
		data, err := reportOn(*state, config)
		if err != nil {
			return err
		}
		audits, err := auditAll(c.Context(), *state)
		if err != nil {
			return err
		}
		for _, a := range audits {
			r, err := evidence(a)
			if err != nil {
				return err
			}
			data.Regions = append(data.Regions, r)
		}
		if err := saveReport(c.OutOrStdout(), file, data); err != nil {
			return err
		}
		if file != "-" {
			fmt.Fprintf(c.OutOrStdout(), "%s: %d regions, %d services\n", file, len(data.Model.Regions), len(data.Model.Services))
		}
		return auditError(audits)
	}
	return c
}

// reportOn reads the configuration that the page is about.
func reportOn(state, config string) (report.Data, error) {
	data := report.Data{Made: time.Now().UTC(), Source: config}
	if config != "" {
		reading := source.Source{Path: config}.Load()
		if len(reading.Faults) > 0 {
			return data, &exitError{exitFaults, fmt.Errorf("%s has faults: see polder check %s", config, config)}
		}
		data.Model = reading.Model
	} else if err := inForce(state, &data); err != nil {
		return data, err
	}
	explainer, err := gateway.NewExplainer(data.Model)
	if err != nil {
		return data, err
	}
	for _, s := range data.Model.Services[:min(len(data.Model.Services), report.MaxServices)] {
		e, err := explainer.Explain(s.Name)
		if err != nil {
			return data, err
		}
		data.Services = append(data.Services, e)
	}
	return data, nil
}

// inForce finds the configuration that a region had in force last.
func inForce(state string, data *report.Data) error {
	layouts, err := layoutsOf(state)
	if err != nil {
		return err
	}
	for _, layout := range layouts {
		model, digest, err := gateway.LastGood(layout)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		data.Model, data.Digest = model, digest
		data.Source = fmt.Sprintf("what is in force in region %s", layout.Region)
		return nil
	}
	return &exitError{exitNotThere, fmt.Errorf("no region in %s has had a configuration without faults in force: name one with --config", state)}
}

// evidence gathers what a region's audit and ledger say.
func evidence(a regionAudit) (report.Region, error) {
	r := report.Region{Region: a.Region, Running: a.Running, Refused: a.Refused, Audit: a.Audit, Fault: a.Fault}
	if a.Ledger == nil {
		return r, nil
	}
	for _, f := range a.Ledger.Faults {
		r.Damage = append(r.Damage, f.String())
	}
	if a.Ledger.Damage != "" {
		r.Damage = append(r.Damage, a.Ledger.Damage)
	}
	var told, changed []ledger.Record // the latest of each
	summary, err := ledger.Read(a.layout.Ledger(), 0, func(record ledger.Record) error {
		if !report.Tells(record.Kind) {
			return nil
		}
		if record.Kind == ledger.Configuration {
			changed = append(changed, record)
			changed = changed[max(0, len(changed)-report.MaxChanges-1):]
			return nil
		}
		told = append(told, record)
		told = told[max(0, len(told)-report.MaxIncidents-1):]
		return nil
	})
	var damage *ledger.DamageError
	if err != nil && !errors.As(err, &damage) {
		return r, err
	}
	r.Ledger, r.Records = &summary, append(told, changed...)
	return r, nil
}

// saveReport writes the page to a file as a whole, or to out.
func saveReport(out io.Writer, file string, data report.Data) error {
	if file == "-" {
		return report.Write(out, data)
	}
	temporary, err := os.CreateTemp(filepath.Dir(file), ".report-*.html") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(temporary.Name()) // an error means that it has its name already
	if err := errors.Join(report.Write(temporary, data), temporary.Close()); err != nil {
		return err
	}
	return os.Rename(temporary.Name(), file)
}
