package authority

import (
	"fmt"
	"strings"

	"github.com/polder/polder"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// PeerID is the SPIFFE ID of a peer:
// spiffe://TRUST-DOMAIN/region/REGION/peer/PEER. Both names become path
// segments as they are, so they may hold letters, digits, "-", "." and "_".
func PeerID(domain spiffeid.TrustDomain, region polder.RegionName, peer string) (spiffeid.ID, error) {
	id, err := spiffeid.FromSegments(domain, "region", string(region), "peer", peer)
	if err != nil {
		return spiffeid.ID{}, fmt.Errorf("identity of peer %q in region %q: %w", peer, region, err)
	}
	return id, nil
}

// ParsePeerID is the inverse of PeerID.
func ParsePeerID(id spiffeid.ID) (region polder.RegionName, peer string, err error) {
	parts := strings.Split(id.Path(), "/")
	if len(parts) != 5 || parts[1] != "region" || parts[3] != "peer" {
		return "", "", fmt.Errorf("%q is no peer's identity: want spiffe://TRUST-DOMAIN/region/REGION/peer/PEER", id)
	}
	return polder.RegionName(parts[2]), parts[4], nil
}

// NodeID is the SPIFFE ID of a remote Envoy, which is no peer:
// spiffe://TRUST-DOMAIN/region/REGION/node/NODE. Names are as for PeerID.
func NodeID(domain spiffeid.TrustDomain, region polder.RegionName, node string) (spiffeid.ID, error) {
	id, err := spiffeid.FromSegments(domain, "region", string(region), "node", node)
	if err != nil {
		return spiffeid.ID{}, fmt.Errorf("identity of node %q in region %q: %w", node, region, err)
	}
	return id, nil
}

// ParseNodeID is the inverse of NodeID.
func ParseNodeID(id spiffeid.ID) (region polder.RegionName, node string, err error) {
	parts := strings.Split(id.Path(), "/")
	if len(parts) != 5 || parts[1] != "region" || parts[3] != "node" {
		return "", "", fmt.Errorf("%q is no node's identity: want spiffe://TRUST-DOMAIN/region/REGION/node/NODE", id)
	}
	return polder.RegionName(parts[2]), parts[4], nil
}

// ClientID is the SPIFFE ID of a program that calls without an Envoy:
// spiffe://TRUST-DOMAIN/client/REGION/NAME. It does not begin like those of a
// region's peers and nodes: whoever accepts these by their beginning, as peers'
// listeners do, takes a client for nobody. Names are as for PeerID.
func ClientID(domain spiffeid.TrustDomain, region polder.RegionName, name string) (spiffeid.ID, error) {
	id, err := spiffeid.FromSegments(domain, "client", string(region), name)
	if err != nil {
		return spiffeid.ID{}, fmt.Errorf("identity of client %q in region %q: %w", name, region, err)
	}
	return id, nil
}

// ParseClientID is the inverse of ClientID.
func ParseClientID(id spiffeid.ID) (region polder.RegionName, name string, err error) {
	parts := strings.Split(id.Path(), "/")
	if len(parts) != 4 || parts[1] != "client" {
		return "", "", fmt.Errorf("%q is no client's identity: want spiffe://TRUST-DOMAIN/client/REGION/NAME", id)
	}
	return polder.RegionName(parts[2]), parts[3], nil
}
