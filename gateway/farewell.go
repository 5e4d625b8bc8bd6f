package gateway

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/polder/polder"
)

// farewellTick is how often it is looked whether clients have left the instances.
const farewellTick = 100 * time.Millisecond

// partFromClients gives the programs that call without an Envoy to the region's other
// peers, before this one's instances end. They keep what they have until another peer
// tells them of its own; then they let go of the instances here, once their calls
// there are done. It returns when nobody is connected to these any more, after
// drainTime, or when there is nobody to give the programs to: then they lose nothing
// by staying.
func (r *Region) partFromClients(ctx context.Context) {
	if r.clients == nil || len(r.clients.server.Nodes()) == 0 || !r.hasFellow() {
		return
	}
	if view := r.nodes.view.Load(); view == nil || len(view.Nodes) == 0 {
		if d := r.nodes.door.Load(); d != nil {
			d.shut() // a load balancer sees it; Envoys on other machines would need it still
		}
	}
	if d := r.clients.door.Load(); d != nil {
		d.dismiss()
	}
	r.options.Log.Info("clients are given to the region's other peers", "most", drainTime)
	ctx, cancel := context.WithTimeout(ctx, drainTime)
	defer cancel()
	for r.hasFellow() {
		connected, err := connectedTo(r.instanceAddresses())
		if err != nil {
			r.options.Log.Warn("instances end, and it is not known whether clients have left them", "reason", err)
			return
		}
		if connected == 0 || !pause(ctx, farewellTick) {
			return
		}
	}
}

// hasFellow tells whether the region has another peer that can have callers.
func (r *Region) hasFellow() bool {
	for _, p := range r.gossip.Snapshot().Peers {
		if p.Usable && p.Row.Region == r.options.Region && p.Row.Peer != r.options.Peer {
			return true
		}
	}
	return false
}

// instanceAddresses are where the instances on this machine listen.
func (r *Region) instanceAddresses() (list []netip.AddrPort) {
	for _, i := range r.manager.Instances() {
		if i.State != polder.Stopped && i.Address.IsValid() {
			list = append(list, i.Address)
		}
	}
	slices.SortFunc(list, netip.AddrPort.Compare)
	return slices.Compact(list)
}
