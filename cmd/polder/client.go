package main

import (
	"github.com/spf13/cobra"

	"github.com/polder/polder/gateway"
	"github.com/polder/polder/gateway/authority"
)

func clientCommand() *cobra.Command {
	c := &cobra.Command{Use: "client", Short: "Prepare programs that call a region's services without an Envoy"}
	c.AddCommand(clientBootstrapCommand())
	return c
}

func clientBootstrapCommand() *cobra.Command {
	var b gateway.ClientBootstrap
	c := &cobra.Command{
		Use:   "bootstrap --region NAME --out FOLDER CLIENT",
		Short: "Issue the identity of a gRPC program without an Envoy, and write what it starts with",
		Long: `Issues a certificate that is bound to the region and the client, from the
authority of the region that runs with the state folder, and writes it with its
key and a bootstrap for gRPC into a folder, readable by its owner only. The
configuration must list the client under regions.NAME.clients. Bring the folder
to the program's machine, by a way that keeps the key secret, and start it with

  GRPC_XDS_BOOTSTRAP=FOLDER/bootstrap.json

It then calls a service at xds:///HOST, with the credentials of gRPC's xDS. All
copies of one program may share one folder.

A certificate lives for 30 days. Run the command again after 20, with the same
folder, and rename the new files into the place of the old ones: the running
program takes them within ten minutes.`,
		Example: `  polder client bootstrap --region fr --out checkout --home /etc/checkout/polder checkout
  polder client bootstrap --region fr --out checkout --control edge.example.net:7444 checkout`,
		Args: cobra.ExactArgs(1),
	}
	return bootstrapFlags(c, &b.Machine, "client", func(name string) (authority.Pair, error) {
		b.Client = name
		return gateway.WriteClient(b)
	})
}
