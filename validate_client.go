package polder

// clientsOf checks the programs that call without an Envoy, and where they find
// their Polder: the control plane at listen.xds, the activator at listen.clients.
func (c *checker) clientsOf(path string, shape regionShape, r *Region) {
	at, control := path+".listen.clients", path+".listen.xds"
	if message, fix := checkReachable(r.Listen.Clients, `"10.0.0.1:7445"`); c.present(at) && message != "" {
		c.wrong(at, message, fix)
	}
	switch {
	case c.present(at) && !c.present(control):
		c.wrong(at, "the region listens for clients without an Envoy and has no control plane for them", "write "+exampleOf[listenShape]("xds")+" beside it")
	case c.present(at) && r.Listen.Clients == r.Listen.XDS:
		c.wrong(at, quote(r.Listen.Clients)+" is also listen.xds, which speaks of services and takes no calls", "write another port")
	}
	clients := path + ".clients"
	if len(shape.Clients) > 0 && !c.present(at) {
		c.wrong(clients, "the region has clients without an Envoy and does not listen for them",
			"write listen: { "+exampleOf[listenShape]("xds")+", "+exampleOf[listenShape]("clients")+" } beside it")
	}
	c.unique(clients, shape.Clients)
	for i, name := range shape.Clients {
		if p := index(clients, i); c.present(p) {
			c.checkName(p, "client", name)
		}
		r.Clients = append(r.Clients, name)
	}
}
