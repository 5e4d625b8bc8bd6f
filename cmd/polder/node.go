package main

import (
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway"
	"github.com/polder/polder/gateway/authority"
)

func nodeCommand() *cobra.Command {
	c := &cobra.Command{Use: "node", Short: "Prepare Envoys of a region on other machines"}
	c.AddCommand(nodeBootstrapCommand())
	return c
}

func nodeBootstrapCommand() *cobra.Command {
	var b gateway.NodeBootstrap
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
	return bootstrapFlags(c, &b.Machine, "node", func(name string) (authority.Pair, error) {
		b.Node = name
		return gateway.WriteNode(b)
	})
}

// bootstrapFlags completes a command that writes what somebody on another machine
// starts with: its flags, and what it does with the name in its argument.
func bootstrapFlags(c *cobra.Command, m *gateway.Machine, who string, write func(name string) (authority.Pair, error)) *cobra.Command {
	var region string
	output := outputFlag(c)
	f := c.Flags()
	f.StringVar(&region, "region", "", "the region that the "+who+" belongs to, as `name`d in the configuration (required)")
	f.StringVar(&m.Config, "config", defaultConfig, "`path` of the configuration: a file, or a folder of .yaml files")
	f.StringVar(&m.State, "state", defaultState, "state `folder` of the region's Polder on this machine")
	f.StringVar(&m.Control, "control", "", "`address` by which the "+who+" reaches listen.xds (default: as it is written there)")
	f.StringVar(&m.Out, "out", "", "`folder` to write to; it is made when it is not there (required)")
	f.StringVar(&m.Home, "home", "", "where that `folder` will lie on the "+who+"'s machine (default: the same place)")
	must(c.MarkFlagRequired("region"))
	must(c.MarkFlagRequired("out"))
	folder(c, "state", "out")
	complete(c, "region", completeConfigured(&m.Config))
	c.RunE = func(c *cobra.Command, args []string) error {
		m.Region = polder.RegionName(region)
		pair, err := write(args[0])
		if err != nil {
			return err
		}
		if *output == formatJSON {
			return printJSON(c.OutOrStdout(), map[string]any{"folder": m.Out, "not-after": pair.NotAfter, "renew-at": pair.RenewAt()})
		}
		_, err = fmt.Fprintf(c.OutOrStdout(), "%s: %s; renew it from %s on\n",
			filepath.Join(m.Out, gateway.BootstrapFile), pair, pair.RenewAt().Format("2006-01-02"))
		return err
	}
	return c
}
