package dump

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/polder/polder/xds"
)

// The shapes of envoy.admin.v3, as far as they are the same for several types.
type (
	// typed is what each section begins with.
	typed struct {
		Type string `json:"@type"`
	}
	// entry is one resource, under the key that its type has.
	entry struct {
		Name        string            `json:"name"`
		Version     string            `json:"version_info"`
		Updated     string            `json:"last_updated"`
		Listener    json.RawMessage   `json:"listener"`
		Cluster     json.RawMessage   `json:"cluster"`
		Routes      json.RawMessage   `json:"route_config"`
		Scopes      []json.RawMessage `json:"scoped_route_configs"`
		Endpoints   json.RawMessage   `json:"endpoint_config"`
		Secret      json.RawMessage   `json:"secret"`
		Filter      json.RawMessage   `json:"ecds_filter"`
		ErrorState  json.RawMessage   `json:"error_state"`
		ClientState string            `json:"client_status"`
	}
	listenerEntry struct {
		Name        string          `json:"name"`
		Active      *entry          `json:"active_state"`
		Warming     *entry          `json:"warming_state"`
		Draining    *entry          `json:"draining_state"`
		ErrorState  json.RawMessage `json:"error_state"`
		ClientState string          `json:"client_status"`
	}
)

// section takes one section of the dump apart.
func (r *Reader) section(d *Dump, text json.RawMessage) {
	var kind typed
	if err := json.Unmarshal(text, &kind); err != nil {
		d.fault("a section", err)
		return
	}
	read := map[string]func(*Dump, json.RawMessage) error{
		"BootstrapConfigDump":    r.bootstrap,
		"ListenersConfigDump":    r.listeners,
		"ClustersConfigDump":     r.clusters,
		"RoutesConfigDump":       r.routes,
		"ScopedRoutesConfigDump": r.scopes,
		"EndpointsConfigDump":    r.endpoints,
		"SecretsConfigDump":      r.secrets,
		"EcdsConfigDump":         r.filters,
	}
	for name, take := range read {
		if kind.Type == urlPrefix+"envoy.admin.v3."+name {
			if err := take(d, text); err != nil {
				d.fault(name, err)
			}
			return
		}
	}
	d.fault(kind.Type, errors.New("is a section that no Envoy of Polder has"))
}

func (r *Reader) bootstrap(d *Dump, text json.RawMessage) error {
	var section struct {
		typed
		Bootstrap json.RawMessage `json:"bootstrap"`
		Updated   string          `json:"last_updated"`
	}
	if err := strict(text, &section); err != nil {
		return err
	}
	digest, err := DigestBootstrap(section.Bootstrap)
	d.Bootstrap = digest
	return err
}

func (r *Reader) listeners(d *Dump, text json.RawMessage) error {
	var section struct {
		typed
		Version string          `json:"version_info"`
		Static  []entry         `json:"static_listeners"`
		Dynamic []listenerEntry `json:"dynamic_listeners"`
	}
	if err := strict(text, &section); err != nil {
		return err
	}
	for _, e := range section.Static {
		r.take(d, &d.Static, xds.TypeListener, e.Version, e.Listener)
	}
	for _, e := range section.Dynamic {
		if e.Active != nil {
			r.take(d, &d.Resources, xds.TypeListener, e.Active.Version, e.Active.Listener)
		}
		if e.Warming != nil {
			d.Warming = append(d.Warming, xds.Key{Type: xds.TypeListener, Name: e.Name})
		}
	}
	return nil
}

func (r *Reader) clusters(d *Dump, text json.RawMessage) error {
	var section struct {
		typed
		Version string  `json:"version_info"`
		Static  []entry `json:"static_clusters"`
		Active  []entry `json:"dynamic_active_clusters"`
		Warming []entry `json:"dynamic_warming_clusters"`
	}
	if err := strict(text, &section); err != nil {
		return err
	}
	for _, e := range section.Static {
		r.take(d, &d.Static, xds.TypeCluster, e.Version, e.Cluster)
	}
	for _, e := range section.Active {
		r.take(d, &d.Resources, xds.TypeCluster, e.Version, e.Cluster)
	}
	for _, e := range section.Warming {
		if c, ok := r.parse(d, xds.TypeCluster, e.Cluster); ok {
			d.Warming = append(d.Warming, c.Key)
		}
	}
	return nil
}

func (r *Reader) routes(d *Dump, text json.RawMessage) error {
	var section struct {
		typed
		Static  []entry `json:"static_route_configs"`
		Dynamic []entry `json:"dynamic_route_configs"`
	}
	if err := strict(text, &section); err != nil {
		return err
	}
	for _, e := range section.Static {
		r.take(d, &d.Static, xds.TypeRoute, e.Version, e.Routes)
	}
	for _, e := range section.Dynamic {
		r.take(d, &d.Resources, xds.TypeRoute, e.Version, e.Routes)
	}
	return nil
}

func (r *Reader) scopes(d *Dump, text json.RawMessage) error {
	var section struct {
		typed
		Inline  []entry `json:"inline_scoped_route_configs"`
		Dynamic []entry `json:"dynamic_scoped_route_configs"`
	}
	if err := strict(text, &section); err != nil {
		return err
	}
	for _, e := range section.Inline {
		for _, scope := range e.Scopes {
			r.take(d, &d.Static, xds.TypeScope, "", scope)
		}
	}
	for _, e := range section.Dynamic {
		for _, scope := range e.Scopes {
			r.take(d, &d.Resources, xds.TypeScope, "", scope)
		}
	}
	return nil
}

func (r *Reader) endpoints(d *Dump, text json.RawMessage) error {
	var section struct {
		typed
		Static  []entry `json:"static_endpoint_configs"` // follow from the static clusters
		Dynamic []entry `json:"dynamic_endpoint_configs"`
	}
	if err := strict(text, &section); err != nil {
		return err
	}
	for _, e := range section.Dynamic {
		r.take(d, &d.Resources, xds.TypeEndpoint, e.Version, e.Endpoints)
	}
	return nil
}

func (r *Reader) secrets(d *Dump, text json.RawMessage) error {
	var section struct {
		typed
		Static  []entry `json:"static_secrets"`
		Active  []entry `json:"dynamic_active_secrets"`
		Warming []entry `json:"dynamic_warming_secrets"`
	}
	if err := strict(text, &section); err != nil {
		return err
	}
	for _, e := range section.Static {
		d.Static = append(d.Static, Resource{Key: xds.Key{Type: xds.TypeSecret, Name: e.Name}, Version: e.Version})
	}
	for _, e := range section.Active {
		d.Secrets = append(d.Secrets, Secret{e.Name, e.Version})
	}
	return nil // one that is warming was asked for, by a caller's ClientHello perhaps, and may never come
}

func (r *Reader) filters(d *Dump, text json.RawMessage) error {
	var section struct {
		typed
		Dynamic []entry `json:"ecds_filters"`
	}
	if err := strict(text, &section); err != nil {
		return err
	}
	for _, e := range section.Dynamic {
		r.take(d, &d.Resources, xds.TypeExtension, e.Version, e.Filter)
	}
	return nil
}

// take adds a resource to a list, or a fault.
func (r *Reader) take(d *Dump, list *[]Resource, typeURL, version string, text json.RawMessage) {
	if resource, ok := r.parse(d, typeURL, text); ok {
		resource.Version = version
		*list = append(*list, resource)
	}
}

// parse takes one resource apart, unless the last dump had the same.
func (r *Reader) parse(d *Dump, typeURL string, text json.RawMessage) (Resource, bool) {
	sum := hash(text)
	resource, ok := r.seen[sum]
	if !ok {
		var err error
		if resource, err = parse(text); err == nil && resource.Type != typeURL {
			err = fmt.Errorf("is a %s", resource.Type)
		}
		if err != nil {
			d.fault(typeURL+" "+nameIn(text), err)
			return Resource{}, false
		}
	}
	r.next[sum] = resource
	return resource, true
}

// nameIn guesses the name of a resource that cannot be read.
func nameIn(text json.RawMessage) string {
	var named struct {
		Name    string `json:"name"`
		Cluster string `json:"cluster_name"`
	}
	if json.Unmarshal(text, &named) != nil || named.Name+named.Cluster == "" {
		return "without a name"
	}
	return named.Name + named.Cluster
}
