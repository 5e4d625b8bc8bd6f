package gateway

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway/authority"
	"github.com/polder/polder/gateway/source"
	"github.com/polder/polder/xds"
)

// NodeBootstrap says what an Envoy on another machine shall be started with.
type NodeBootstrap struct {
	Region  polder.RegionName
	Node    string
	Config  string // file or folder of the configuration
	State   string // of the region's Polder, where its authority is
	Control string // host:port by which the node reaches listen.xds; "" means as it is written there
	Out     string // folder to write to; made with mode 0700
	Home    string // where that folder will lie on the node's machine; "" means Out
}

// BootstrapFile is the name of the bootstrap in NodeBootstrap.Out.
const BootstrapFile = "bootstrap.json"

// WriteNode issues the node's identity, or takes the present one while it is
// not due, and writes it with the bootstrap: files that their owner alone can
// read, each put into place as a whole. Done again into the same folder, it
// renews what a running Envoy has: Envoy watches the files. It returns the
// identity's certificate, without the key.
func WriteNode(b NodeBootstrap) (authority.Pair, error) {
	reading := source.Source{Path: b.Config}.Load()
	if reading.Model == nil {
		return authority.Pair{}, fmt.Errorf("%s cannot be used: see polder check %s", b.Config, b.Config)
	}
	region, ok := reading.Model.Region(b.Region)
	if !ok {
		return authority.Pair{}, fmt.Errorf("region %q %w %s; it has %s", b.Region, ErrNoRegion, b.Config, regionNames(reading.Model))
	}
	if err := b.check(region); err != nil {
		return authority.Pair{}, err
	}
	layout, err := NewLayout(b.State, b.Region)
	if err != nil {
		return authority.Pair{}, err
	}
	if _, err := os.Stat(layout.Authority()); errors.Is(err, fs.ErrNotExist) {
		return authority.Pair{}, fmt.Errorf("there is no authority in %s: run this where region %s runs, with its --state", layout.Authority(), b.Region)
	}
	ca, err := authority.Open(layout.Authority())
	if err != nil {
		return authority.Pair{}, err
	}
	issuer, err := ca.Issuer(b.Region, layout.Certificates())
	if err != nil {
		return authority.Pair{}, err
	}
	identity, err := issuer.Node(b.Node)
	if err != nil {
		return authority.Pair{}, err
	}
	return identity.Pair, b.write(identity, ca.TrustDomain().Name())
}

// check fills in what follows from the region, and tells what is missing there.
func (b *NodeBootstrap) check(region polder.Region) error {
	listed := false
	for _, n := range region.Nodes {
		listed = listed || n.Name == b.Node
	}
	if !listed {
		return fmt.Errorf("the configuration has no node %q in region %s: write regions.%s.nodes.%s, or it gets nothing", b.Node, b.Region, b.Region, b.Node)
	}
	if b.Control == "" {
		b.Control = region.Listen.XDS
	}
	if _, _, err := net.SplitHostPort(b.Control); err != nil {
		return fmt.Errorf("address of the control plane is %q: %w; write it like 10.0.0.1:7444", b.Control, err)
	}
	var err error
	if b.Out, err = filepath.Abs(b.Out); err != nil {
		return err
	}
	if b.Home == "" {
		b.Home = b.Out
	}
	if !filepath.IsAbs(b.Home) {
		return fmt.Errorf("the folder on the node's machine is %q: write an absolute path", b.Home)
	}
	return nil
}

func (b NodeBootstrap) write(identity authority.Identity, domain string) error {
	if err := os.MkdirAll(b.Out, 0o700); err != nil {
		return fmt.Errorf("bootstrap of node %s: %w", b.Node, err)
	}
	bootstrap, errBootstrap := xds.Bootstrap{Node: b.Node, Region: b.Region, Admin: filepath.Join(b.Home, "admin.sock"),
		Remote: &xds.RemoteControl{Address: b.Control, TrustDomain: domain, Region: b.Region, Files: b.Home}}.JSON()
	own, errOwn := xds.SecretFile(xds.Certificate(xds.SecretIdentity, identity.CertPEM, identity.KeyPEM))
	trust, errTrust := xds.SecretFile(xds.Trust(xds.SecretTrust, identity.TrustPEM))
	if err := errors.Join(errBootstrap, errOwn, errTrust); err != nil {
		return err
	}
	for _, file := range []struct {
		name string
		text []byte
	}{{BootstrapFile, bootstrap}, {xds.TrustFile, trust}, {xds.IdentityFile, own}} {
		if err := authority.WriteFile(filepath.Join(b.Out, file.name), file.text); err != nil {
			return fmt.Errorf("bootstrap of node %s: %w", b.Node, err)
		}
	}
	return nil
}
