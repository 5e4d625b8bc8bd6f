package xds

import (
	"crypto/sha256"
	"encoding/base64"
	"slices"
	"strings"

	"github.com/polder/polder"
	"github.com/polder/polder/regions/law"
)

// Names of resources live here and nowhere else.
const (
	listenerHTTPS  = "entrypoint-https"
	listenerHTTP   = "entrypoint-http"
	listenerHTTP3  = "entrypoint-http3" // the HTTPS port, for QUIC
	listenerPeers  = "peers"
	listenerInward = "inward" // internal: what peers passed on, TLS still closed
	// Internal: connections for hosts that are refused, and led here by their names.
	listenerForbidden   = chainForbidden
	listenerUnavailable = chainUnavailable

	clusterInward  = "inward"
	scopesName     = "hosts"
	routesHTTP     = "entrypoint-http"
	routesWildcard = "wildcards"

	// ControlPlane is the bootstrap's cluster for the region's own Polder.
	ControlPlane = "polder"
	// SecretIdentity is the peer's certificate and key for mTLS between gateways.
	SecretIdentity = "peer/identity"
	// ClientCredentials names, in the bootstrap of a client without an Envoy, the
	// files with its identity and with the authority that it trusts.
	ClientCredentials = "polder"
	// SecretTrust is the authority that peers' certificates must come from.
	SecretTrust = "peer/trust"
)

// Headers between Envoy, the activator and the caller.
const (
	// HeaderService names the service to the activator. Envoy overwrites it.
	HeaderService = "x-polder-service"
	// HeaderReason labels an error reply with its cause.
	HeaderReason = "x-polder-reason"
	// HeaderRegion tells the caller which region answered.
	HeaderRegion = "x-polder-region"

	headerHost = "x-polder-host" // scope key: the SNI; set by Envoy, never sent upstream
)

const servicePrefix = "service/"

// ServiceCluster is the name of a service's cluster and load assignment.
func ServiceCluster(s polder.ServiceName) string { return servicePrefix + string(s) }

// ClusterService is the inverse of ServiceCluster.
func ClusterService(cluster string) (polder.ServiceName, bool) {
	name, ok := strings.CutPrefix(cluster, servicePrefix)
	return polder.ServiceName(name), ok
}

// Names for clients without an Envoy. The listener that such a client looks for is
// named like the host; no host has a slash, and no service is called like a prefix.
const (
	clientPrefix          = "client/"
	clientInstancesPrefix = "client-instances/"
	clientActivatorPrefix = "client-activator/"
	// endpointsClientActivator is the load assignment with the activator for clients.
	endpointsClientActivator = "client-activator"
)

func clientRoutes(host string) string             { return clientPrefix + host }
func clientCluster(s polder.ServiceName) string   { return clientPrefix + string(s) }
func clientInstances(s polder.ServiceName) string { return clientInstancesPrefix + string(s) }
func clientActivator(s polder.ServiceName) string { return clientActivatorPrefix + string(s) }

// ClientEndpoints is the key of the load assignment with a service's instances, for
// clients, that belongs to the one for Envoys.
func ClientEndpoints(of Key) (Key, bool) {
	service, ok := ClusterService(of.Name)
	return Key{TypeEndpoint, clientInstances(service)}, ok && of.Type == TypeEndpoint
}

// ClientService tells to whose instances, or for whom to the activator, a cluster of
// clients leads.
func ClientService(cluster string) (s polder.ServiceName, activator, ok bool) {
	if name, ok := strings.CutPrefix(cluster, clientInstancesPrefix); ok {
		return polder.ServiceName(name), false, true
	}
	name, ok := strings.CutPrefix(cluster, clientActivatorPrefix)
	return polder.ServiceName(name), true, ok
}

// ServiceOfResource is the service that a cluster or load assignment belongs to, of an
// Envoy or of clients without one.
func ServiceOfResource(key Key) (polder.ServiceName, bool) {
	if key.Type != TypeCluster && key.Type != TypeEndpoint {
		return "", false
	}
	if s, ok := ClusterService(key.Name); ok {
		return s, true
	}
	if s, _, ok := ClientService(key.Name); ok {
		return s, true
	}
	name, ok := strings.CutPrefix(key.Name, clientPrefix)
	return polder.ServiceName(name), ok
}

const coldPrefix = "cold/"

// coldCluster is the name of the cluster that leads to the activator whether
// the service sleeps or not: for callers who ask how its start goes.
func coldCluster(s polder.ServiceName) string { return coldPrefix + string(s) }

const hostPrefix = "host/"

// hostRoutes is the name of an exact host's route configuration.
func hostRoutes(host string) string { return hostPrefix + host }

// IsHostRoutes tells whether a route configuration of this name is one host's.
func IsHostRoutes(name string) bool { return strings.HasPrefix(name, hostPrefix) }

const (
	scopePrefix = "scope/"
	// scopeDigest is how much of a digest tells one host's scope from another's, in
	// bytes: 16 characters.
	scopeDigest = 12
)

// scopeOf is the name of an exact host's scope. It is 22 characters long, whatever the
// host, because Envoy 1.40 copies the names of all scopes whenever one comes or goes:
// a string of that length needs no memory of its own, and with 10,000 hosts the copy
// takes a tenth of the time.
func scopeOf(host string) string {
	sum := sha256.Sum256([]byte(host))
	return scopePrefix + base64.RawURLEncoding.EncodeToString(sum[:scopeDigest])
}

// ByNamePrefix begins the names of the clusters that a connection is led to by the
// name in its ClientHello.
const ByNamePrefix = "to/"

// byName is the name of the cluster for connections to one host.
func byName(host string) string { return ByNamePrefix + host }

// IsAboutHost tells whether a resource is an exact host's: its scope, its route
// configuration, or the cluster that leads to it by its name.
func IsAboutHost(key Key, host string) bool {
	switch key.Type {
	case TypeScope:
		return key.Name == scopeOf(host)
	case TypeRoute:
		return key.Name == hostRoutes(host) || key.Name == clientRoutes(host)
	case TypeListener:
		return key.Name == host // of a client without an Envoy
	case TypeCluster:
		return key.Name == byName(host)
	}
	return false
}

// IsByName tells whether a cluster of this name leads the connections for one
// host, which the table of the public listener does not have.
func IsByName(cluster string) bool { return strings.HasPrefix(cluster, ByNamePrefix) }

// IsInside tells whether a listener of this name takes what clusters of this Envoy lead
// to it, and nobody's connections.
func IsInside(listener string) bool {
	return listener == listenerInward || listener == listenerForbidden || listener == listenerUnavailable ||
		strings.HasPrefix(listener, passPrefix) || strings.HasPrefix(listener, EndingChains)
}

const passPrefix = "pass/"

// passName names the chain, internal listener and clusters that lead to the
// target regions, in order of preference.
func passName(home string, targets []polder.RegionName) string {
	names := make([]string, len(targets))
	for i, t := range targets {
		names[i] = string(t)
	}
	if home != "" {
		home += "/"
	}
	return passPrefix + home + strings.Join(names, ",")
}

// passOf is the way of a service's callers who are passed on. From a gateway
// that serves too, they come back to it when the home takes no connection.
func passOf(a law.Approved) pass {
	targets := a.Targets()
	if a.Verdict() == law.Serve {
		targets = slices.Compact([]polder.RegionName{a.Home().Region, a.Here()})
	}
	return pass{name: ending(a.Until(), passName(a.Home().Peer, targets)), home: a.Home().Peer, targets: targets}
}
