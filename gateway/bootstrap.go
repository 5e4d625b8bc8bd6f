package gateway

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway/authority"
	"github.com/polder/polder/gateway/source"
	"github.com/polder/polder/xds"
)

// Machine says for whom on another machine something is written, and where.
type Machine struct {
	Region  polder.RegionName
	Config  string // file or folder of the configuration
	State   string // of the region's Polder, where its authority is
	Control string // host:port by which listen.xds is reached from there; "" means as it is written there
	Out     string // folder to write to; made with mode 0700
	Home    string // where that folder will lie on the other machine; "" means Out
}

// NodeBootstrap says what an Envoy on another machine shall be started with.
type NodeBootstrap struct {
	Machine
	Node string
}

// BootstrapFile is the name of the bootstrap in Machine.Out.
const BootstrapFile = "bootstrap.json"

// WriteNode issues the node's identity, or takes the present one while it is
// not due, and writes it with the bootstrap: files that their owner alone can
// read, each put into place as a whole. Done again into the same folder, it
// renews what a running Envoy has: Envoy watches the files. It returns the
// identity's certificate, without the key.
func WriteNode(b NodeBootstrap) (authority.Pair, error) {
	region, err := b.region()
	if err != nil {
		return authority.Pair{}, err
	}
	if !slices.ContainsFunc(region.Nodes, func(n polder.Node) bool { return n.Name == b.Node }) {
		return authority.Pair{}, fmt.Errorf("the configuration has no node %q in region %s: write regions.%s.nodes.%s, or it gets nothing", b.Node, b.Region, b.Region, b.Node)
	}
	if err := b.complete(region); err != nil {
		return authority.Pair{}, err
	}
	ca, issuer, err := b.open()
	if err != nil {
		return authority.Pair{}, err
	}
	identity, err := issuer.Node(b.Node)
	if err != nil {
		return authority.Pair{}, err
	}
	return identity.Pair, b.write(identity, ca.TrustDomain().Name())
}

// region reads the region from the configuration.
func (m *Machine) region() (polder.Region, error) {
	reading := source.Source{Path: m.Config}.Load()
	if reading.Model == nil {
		return polder.Region{}, fmt.Errorf("%s cannot be used: see polder check %s", m.Config, m.Config)
	}
	region, ok := reading.Model.Region(m.Region)
	if !ok {
		return polder.Region{}, fmt.Errorf("region %q %w %s; it has %s", m.Region, ErrNoRegion, m.Config, regionNames(reading.Model))
	}
	return region, nil
}

// complete fills in what follows from the region, and tells what is missing there.
func (m *Machine) complete(region polder.Region) error {
	if m.Control == "" {
		m.Control = region.Listen.XDS
	}
	if _, _, err := net.SplitHostPort(m.Control); err != nil {
		return fmt.Errorf("address of the control plane is %q: %w; write it like 10.0.0.1:7444", m.Control, err)
	}
	var err error
	if m.Out, err = filepath.Abs(m.Out); err != nil {
		return err
	}
	if m.Home == "" {
		m.Home = m.Out
	}
	if !filepath.IsAbs(m.Home) {
		return fmt.Errorf("the folder on the other machine is %q: write an absolute path", m.Home)
	}
	return nil
}

// open opens the authority of the region's Polder on this machine.
func (m *Machine) open() (*authority.Authority, *authority.Issuer, error) {
	layout, err := NewLayout(m.State, m.Region)
	if err != nil {
		return nil, nil, err
	}
	if _, err := os.Stat(layout.Authority()); errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("there is no authority in %s: run this where region %s runs, with its --state", layout.Authority(), m.Region)
	}
	ca, err := authority.Open(layout.Authority())
	if err != nil {
		return nil, nil, err
	}
	issuer, err := ca.Issuer(m.Region, layout.Certificates())
	return ca, issuer, err
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
