package xds

import (
	"encoding/json"
	"path/filepath"

	"github.com/polder/polder"
)

// The files that a client without an Envoy takes its identity from, in one folder.
// gRPC looks at them every ten minutes. Certificate and key are in one file,
// because gRPC reads them one after the other: were they two, a renewal could come
// between, and gRPC writes a pair that does not match into its log, key included.
const (
	ClientIdentityFile = "identity.pem"
	ClientTrustFile    = "trust.pem"
)

// clientRefresh is how often gRPC looks at the files: its own default, said so
// that it does not change.
const clientRefresh = "600s"

// ClientBootstrap is what a gRPC program that calls without an Envoy starts with:
// how it finds and recognises the Polder of its region, and proves itself.
type ClientBootstrap struct {
	Name    string // as in regions.NAME.clients
	Region  polder.RegionName
	Control string // host:port of listen.xds, as the program reaches it
	Files   string // absolute folder with ClientIdentityFile and ClientTrustFile
}

// JSON is the bootstrap in the form of gRPC (proposals A27, A29 and A65).
func (b ClientBootstrap) JSON() ([]byte, error) {
	type object = map[string]any
	files := object{
		"certificate_file":    filepath.Join(b.Files, ClientIdentityFile),
		"private_key_file":    filepath.Join(b.Files, ClientIdentityFile),
		"ca_certificate_file": filepath.Join(b.Files, ClientTrustFile),
		"refresh_interval":    clientRefresh,
	}
	return json.MarshalIndent(object{
		"xds_servers": []object{{
			"server_uri":      b.Control,
			"channel_creds":   []object{{"type": "tls", "config": files}},
			"server_features": []string{"xds_v3"},
		}},
		"node": object{"id": b.Name, "locality": object{"region": string(b.Region)}},
		"certificate_providers": object{
			ClientCredentials: object{"plugin_name": "file_watcher", "config": files},
		},
	}, "", "  ")
}
