package gateway

import (
	"context"
	"errors"

	"github.com/polder/polder/xds"
	"github.com/polder/polder/xds/server"
)

// planes are the region's control planes: of the local Envoy, of those on other
// machines, and of clients without an Envoy. What is published goes to the first, and
// from there through the gate to the others; whoever waits, waits for all.
type planes struct {
	local           *server.Server
	remote, clients *server.Server // nil for none
}

func (p planes) Apply(set []xds.Resource, remove []xds.Key) int { return p.local.Apply(set, remove) }

func (p planes) Touch(names ...string) {
	p.local.Touch(names...)
	if p.remote != nil {
		p.remote.Touch(names...)
	}
}

// Wait waits until everybody who is connected has answered to the present versions of
// some resources of the local Envoy, or to what became of them elsewhere.
func (p planes) Wait(ctx context.Context, keys ...xds.Key) error {
	err := p.local.Wait(ctx, keys...)
	if p.remote != nil {
		err = errors.Join(err, p.remote.Wait(ctx, keys...))
	}
	if theirs := toldClients(keys); p.clients != nil && len(theirs) > 0 {
		err = errors.Join(err, p.clients.Wait(ctx, theirs...))
	}
	return err
}

// GiveUp has nobody wait for those any more who have not answered to what Wait waits
// for, until they answer.
func (p planes) GiveUp(keys ...xds.Key) {
	p.local.GiveUp(keys...)
	if p.remote != nil {
		p.remote.GiveUp(keys...)
	}
	if p.clients != nil {
		p.clients.GiveUp(toldClients(keys)...)
	}
}

// toldClients is what became of resources of the local Envoy for clients without one.
func toldClients(keys []xds.Key) (theirs []xds.Key) {
	for _, key := range keys {
		if k, ok := xds.ClientEndpoints(key); ok {
			theirs = append(theirs, k)
		}
	}
	return theirs
}

// planes are those that the region has.
func (r *Region) planes() planes {
	p := planes{local: r.server}
	if r.nodes != nil {
		p.remote = r.nodes.server
	}
	if r.clients != nil {
		p.clients = r.clients.server
	}
	return p
}
