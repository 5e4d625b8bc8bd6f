package polder

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// nodesOf checks the Envoys on other machines, and where they find their Polder.
func (c *checker) nodesOf(path string, shape regionShape, r *Region) {
	at := path + ".listen.xds"
	if message, fix := checkReachable(r.Listen.XDS, `"10.0.0.1:7444"`); c.present(at) && message != "" {
		c.wrong(at, message, fix)
	}
	nodes := path + ".nodes"
	if len(shape.Nodes) > 0 && !c.present(at) {
		c.wrong(nodes, "the region has Envoys on other machines and does not listen for them", "write listen: { "+exampleOf[listenShape]("xds")+" } beside it")
	}
	for _, name := range slices.Sorted(maps.Keys(shape.Nodes)) {
		p := key(nodes, name)
		c.checkName(p, "node", name)
		node := Node{Name: name, HTTPS: shape.Nodes[name].HTTPS, HTTP: shape.Nodes[name].HTTP}
		for _, l := range []struct{ name, address string }{{"https", node.HTTPS}, {"http", node.HTTP}} {
			if message, fix := checkListen(l.address); c.present(p+"."+l.name) && message != "" {
				c.wrong(p+"."+l.name, message, fix)
			}
		}
		r.Nodes = append(r.Nodes, node)
	}
}

// checkReachable checks where to listen for other machines, which must know the
// address: it is among the endpoints that they get.
func checkReachable(s, example string) (message, fix string) {
	if message, fix := checkListen(s); message != "" {
		return message, fix
	}
	host, _, _ := splitPort(s, example)
	ip, err := netip.ParseAddr(strings.Trim(host, "[]"))
	if err != nil || ip.IsUnspecified() {
		return quote(s) + " does not say which address other machines connect to", "write one of this machine's, such as " + example
	}
	return "", ""
}
