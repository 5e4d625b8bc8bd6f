package gateway

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/polder/polder/gateway/authority"
	"github.com/polder/polder/xds"
)

// ClientBootstrap says what a program that calls without an Envoy shall start with.
type ClientBootstrap struct {
	Machine
	Client string
}

// WriteClient issues the client's identity, or takes the present one while it is
// not due, and writes it with the bootstrap for gRPC: files that their owner alone
// can read, each put into place as a whole. Done again into the same folder, it
// renews what a running program has: gRPC watches the files. It returns the
// identity's certificate, without the key.
func WriteClient(b ClientBootstrap) (authority.Pair, error) {
	region, err := b.region()
	if err != nil {
		return authority.Pair{}, err
	}
	if !slices.Contains(region.Clients, b.Client) {
		return authority.Pair{}, fmt.Errorf("the configuration has no client %q in region %s: write it into regions.%s.clients, or it gets nothing", b.Client, b.Region, b.Region)
	}
	if err := b.complete(region); err != nil {
		return authority.Pair{}, err
	}
	_, issuer, err := b.open()
	if err != nil {
		return authority.Pair{}, err
	}
	identity, err := issuer.Client(b.Client)
	if err != nil {
		return authority.Pair{}, err
	}
	return identity.Pair, b.write(identity)
}

func (b ClientBootstrap) write(identity authority.Identity) error {
	if err := os.MkdirAll(b.Out, 0o700); err != nil {
		return fmt.Errorf("bootstrap of client %s: %w", b.Client, err)
	}
	bootstrap, err := xds.ClientBootstrap{Name: b.Client, Region: b.Region, Control: b.Control, Files: b.Home}.JSON()
	if err != nil {
		return err
	}
	put := func(name string, text []byte) error {
		return authority.WriteFile(filepath.Join(b.Out, name), text)
	}
	if err := errors.Join(
		put(BootstrapFile, bootstrap),
		put(xds.ClientTrustFile, identity.TrustPEM),
		put(xds.ClientIdentityFile, slices.Concat(identity.CertPEM, identity.KeyPEM)),
	); err != nil {
		return fmt.Errorf("bootstrap of client %s: %w", b.Client, err)
	}
	return nil
}
