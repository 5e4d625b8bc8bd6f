package envoy

import "context"

// serverInfo is what an Envoy says of itself.
type serverInfo struct {
	Version string `json:"version"` // COMMIT/VERSION/Clean/RELEASE/BoringSSL
	State   string `json:"state"`   // LIVE, DRAINING, PRE_INITIALIZING or INITIALIZING
	Node    struct {
		ID string `json:"id"`
	} `json:"node"`
}

// serverInfo asks for version and state.
func (a *Admin) serverInfo(ctx context.Context) (serverInfo, error) {
	var info serverInfo
	err := a.object(ctx, "/server_info", nil, &info)
	return info, err
}
