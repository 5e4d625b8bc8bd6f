package proof

import (
	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	hcm "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tls "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
)

// What is for clients without an Envoy: gRPC programs that resolve a host by the
// listener of its name, and follow routes and clusters by themselves. In their
// books the law holds as in every other. These constructs are understood there, and
// are violations elsewhere.

// readEntry reads where a client goes on that resolves a listener by its name.
func (r *reader) readEntry(l *listener.Listener) *httpFacts {
	if l.Address != nil || l.GetInternalListener() != nil || len(l.FilterChains) > 0 {
		r.fault(fault{path: []string{at("field", "api_listener")}, address: unknown, reason: "is resolved by its name and listens too"})
	}
	manager, ok := r.unpack(l.ApiListener.GetApiListener()).(*hcm.HttpConnectionManager)
	if !ok {
		r.fault(fault{path: []string{at("field", "api_listener")}, address: unknown, reason: "does nothing that the proof understands"})
		return &httpFacts{}
	}
	var aside chainFacts
	entry := r.readHTTP([]string{at("field", "api_listener")}, manager, &aside)
	if entry.bySNI || len(aside.sinks) > 0 {
		r.fault(fault{path: []string{at("field", "api_listener")}, address: unknown, reason: "does what only a gateway can"})
	}
	return entry
}

// readProvided reads the TLS of a client whose own bootstrap has its certificate
// and those whom it trusts. Of the names that the other side may have, gRPC reads
// the ones of any kind only.
func (r *reader) readProvided(c *tls.CommonTlsContext, t *tlsFacts) {
	own, context := c.GetTlsCertificateProviderInstance(), c.GetValidationContext()
	if own == nil && context == nil {
		return
	}
	if t.identity != "" || t.trust != "" || t.onDemand {
		r.fault(fault{path: []string{at("field", "tls_certificate_provider_instance")}, address: at("secret", t.identity), reason: "is one certificate too many"})
	}
	t.provided = true
	t.identity, t.trust, t.peerNames = own.GetInstanceName(), context.GetCaCertificateProviderInstance().GetInstanceName(), nil
	//lint:ignore SA1019 gRPC reads no other field for it
	for _, name := range context.GetMatchSubjectAltNames() {
		t.peerNames = append(t.peerNames, readName(name))
	}
}

// judgeEntry proves where a client goes that resolves a host.
func (v *view) judgeEntry(f *facts) {
	if v.site().Clients { // elsewhere the construct itself is a violation
		v.judgeLead(f.path(), f.key.Name, f.listener.entry.routes)
	}
}

// onlyActivator tells whether all discovered endpoints of a cluster are the
// activator, for clients. These have one transport for a cluster, so what is
// wrapped for the activator can hold no instance.
func (v *view) onlyActivator(c *clusterFacts) bool {
	if !v.site().Clients || c.socket.kind != tlsKind {
		return false
	}
	for _, p := range v.placesOf(c) {
		if !v.isRemoteActivator(p) {
			return false
		}
	}
	return true
}
