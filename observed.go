package polder

import (
	"net/netip"
	"time"
)

// InstanceID names one running copy of a service, unique within its region.
type InstanceID string

// InstanceState is a step in an instance's life.
type InstanceState string

// The steps of an instance's life, in order. An instance never goes back, but
// from Draining to Paused, and from Paused to Ready.
const (
	Starting InstanceState = "starting" // the provider was asked
	Ready    InstanceState = "ready"    // answers; may be published
	Draining InstanceState = "draining" // unpublished, finishes what it has
	Paused   InstanceState = "paused"   // frozen: uses no processor until it is needed
	Stopped  InstanceState = "stopped"  // gone
)

// Instance is one running copy of a service, owned by a provider.
type Instance struct {
	ID      InstanceID
	Service ServiceName
	Region  RegionName
	State   InstanceState
	Address netip.AddrPort // where it listens; valid from Starting on
	Started time.Time      // when the provider was asked
	Ready   time.Time      // when it first answered; zero before
	Reason  string         // why it was started, or why it stopped
}

// Endpoint is an address that Envoy may send a service's requests to.
type Endpoint struct {
	Service ServiceName
	Region  RegionName
	Address netip.AddrPort
}

// PeerRow is what one peer says of itself to all others. Only the peer itself
// writes its row; of two rows of one peer the one with the higher Epoch, then
// the higher Sequence, holds.
type PeerRow struct {
	Peer     string // unique, "fr-1"
	Region   RegionName
	Epoch    uint64 // grows with every start of the peer
	Sequence uint64 // grows with every change within an Epoch
	Address  string // host:port of the peer's mTLS listener
	Healthy  bool   // its Envoy is connected and serving
	Draining bool
	Warm     []ServiceName // sorted; services with a ready instance there
	Busy     []ServiceName // sorted; those of Warm that are called too often to have one home
	Load     uint8         // percent of what the peer can take, in tens; from 90 on it is saturated
	Digest   string        // of its configuration
	Claims   string        // what its policies are, packed; only while some peer has another Policy
	Policy   string        // digest of what its configuration says about where services may be; equal while only other words differ
}

// RegionHealth says which regions can serve now, as one peer sees it.
type RegionHealth map[RegionName]bool
