package main

import (
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway/dns"
)

func dnsCommand() *cobra.Command {
	c := &cobra.Command{Use: "dns", Short: "What callers are told of where the hosts are"}
	c.AddCommand(recordsCommand())
	return c
}

func recordsCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "records [PATH]",
		Short: "Write DNS records of all hosts, for name servers of others",
		Long: `Writes the records of all hosts of a configuration, a file or a folder of .yaml
files (default polder.yaml): the public addresses of the regions by which callers
may enter, as the law has it while all regions live. Nothing needs to run.

The text is a piece of a zone file. The JSON is a DNSEndpoint, which external-dns
reads with its source "crd"; it knows no records of type HTTPS.

Such records do not follow a region's health, nor the place of a caller: what
listen.dns of a region answers does. Name a region that is lost with --without.`,
		Example: `  polder dns records examples/polder.yaml
  polder dns records /etc/polder --output json | kubectl apply -f -
  polder dns records --without pl`,
		Args: cobra.MaximumNArgs(1),
	}
	output := outputFlag(c)
	var without []string
	c.Flags().StringSliceVar(&without, "without", nil, "`region` that cannot take callers; may be repeated")
	c.RunE = func(c *cobra.Command, args []string) error {
		path := defaultConfig
		if len(args) == 1 {
			path = args[0]
		}
		model, err := firstModel(c.ErrOrStderr(), path)
		if err != nil {
			return err
		}
		alive := polder.RegionHealth{}
		for _, r := range model.Regions {
			alive[r.Name] = !slices.Contains(without, string(r.Name))
		}
		for _, name := range without {
			if _, ok := alive[polder.RegionName(name)]; !ok {
				return &exitError{exitNotThere, fmt.Errorf("--without %s: there is no such region in %s", name, path)}
			}
		}
		list := dns.Records(dns.World{Model: model, Alive: alive, Usable: alive, Now: time.Now()})
		if *output == formatJSON {
			return dns.WriteEndpoints(c.OutOrStdout(), list)
		}
		return dns.WriteZone(c.OutOrStdout(), list)
	}
	return c
}
