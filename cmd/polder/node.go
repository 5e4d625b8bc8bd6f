package main

import (
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway"
)

func nodeCommand() *cobra.Command {
	c := &cobra.Command{Use: "node", Short: "Prepare Envoys of a region on other machines"}
	c.AddCommand(nodeBootstrapCommand())
	return c
}

func nodeBootstrapCommand() *cobra.Command {
	var b gateway.NodeBootstrap
	var region string
	c := &cobra.Command{
		Use:   "bootstrap --region NAME --out FOLDER NODE",
		Short: "Issue the identity of an Envoy on another machine, and write what it starts with",
		Long: `Issues a certificate that is bound to the region and the node, from the authority
of the region that runs with the state folder, and writes it with its key and a
bootstrap into a folder, readable by its owner only. The configuration must list
the node under regions.NAME.nodes. Bring the folder to the node's machine, by a
way that keeps the key secret, and start Envoy there with

  envoy --config-path FOLDER/bootstrap.json

A certificate lives for 30 days. Run the command again after 20, with the same
folder, and rename the new files into the place of the old ones: the running
Envoy notices, its connections live on, and new ones use the new certificate.`,
		Example: `  polder node bootstrap --region fr --out fr-2 --home /etc/polder-node fr-2
  polder node bootstrap --region fr --out fr-2 --control edge.example.net:7444 fr-2`,
		Args: cobra.ExactArgs(1),
	}
	output := outputFlag(c)
	f := c.Flags()
	f.StringVar(&region, "region", "", "the region that the node belongs to, as `name`d in the configuration (required)")
	f.StringVar(&b.Config, "config", defaultConfig, "`path` of the configuration: a file, or a folder of .yaml files")
	f.StringVar(&b.State, "state", defaultState, "state `folder` of the region's Polder on this machine")
	f.StringVar(&b.Control, "control", "", "`address` by which the node reaches listen.xds (default: as it is written there)")
	f.StringVar(&b.Out, "out", "", "`folder` to write to; it is made when it is not there (required)")
	f.StringVar(&b.Home, "home", "", "where that `folder` will lie on the node's machine (default: the same place)")
	must(c.MarkFlagRequired("region"))
	must(c.MarkFlagRequired("out"))
	folder(c, "state", "out")
	complete(c, "region", completeConfigured(&b.Config))
	c.RunE = func(c *cobra.Command, args []string) error {
		b.Region, b.Node = polder.RegionName(region), args[0]
		pair, err := gateway.WriteNode(b)
		if err != nil {
			return err
		}
		if *output == formatJSON {
			return printJSON(c.OutOrStdout(), map[string]any{"folder": b.Out, "not-after": pair.NotAfter, "renew-at": pair.RenewAt()})
		}
		_, err = fmt.Fprintf(c.OutOrStdout(), "%s: %s; renew it from %s on\n",
			filepath.Join(b.Out, gateway.BootstrapFile), pair, pair.RenewAt().Format("2006-01-02"))
		return err
	}
	return c
}
