package xds

import (
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"time"

	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tls "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/polder/polder"
)

// The files that a remote Envoy takes its identity from, in one folder. Envoy
// watches them: whoever renames a new one into place renews the identity, and
// connections that exist live on.
const (
	IdentityFile = "identity.json"
	TrustFile    = "trust.json"
)

const (
	// remoteConnect bounds connecting to Polder on another machine once.
	remoteConnect = 5 * time.Second
	// reconnectBase and reconnectMax bound the pauses between attempts to connect,
	// which Envoy doubles and jitters: each is drawn from zero to its bound.
	reconnectBase = 500 * time.Millisecond
	reconnectMax  = 15 * time.Second
)

// RemoteControl is how an Envoy finds and recognises the Polder of its region on another
// machine, and proves itself.
type RemoteControl struct {
	Address     string // host:port of regions.NAME.listen.xds, as the Envoy's machine reaches it
	TrustDomain string
	Region      polder.RegionName
	Files       string // absolute folder with IdentityFile and TrustFile
}

// entrypoint is the name of the public listener.
func (b Bootstrap) entrypoint() string {
	if b.Remote == nil {
		return listenerHTTPS
	}
	return listenerHTTPS + ofNode + b.Node
}

// patient spreads the attempts to connect again over time: of many Envoys that
// lose their Polder at one moment, few come back at one moment.
func (c *RemoteControl) patient(to *core.GrpcService) *core.GrpcService {
	if c != nil {
		to.GetEnvoyGrpc().RetryPolicy = &core.RetryPolicy{RetryBackOff: &core.BackoffStrategy{
			BaseInterval: durationpb.New(reconnectBase), MaxInterval: durationpb.New(reconnectMax)}}
	}
	return to
}

// cluster is the bootstrap's cluster for Polder, inside mTLS.
func (c *RemoteControl) cluster() *cluster.Cluster {
	made := controlPlaneCluster("")
	made.ConnectTimeout = durationpb.New(remoteConnect)
	host, port, _ := net.SplitHostPort(c.Address) // the caller has checked it
	number, _ := strconv.ParseUint(port, 10, 16)
	if _, err := netip.ParseAddr(host); err != nil {
		made.ClusterDiscoveryType = &cluster.Cluster_Type{Type: cluster.Cluster_STRICT_DNS}
	}
	made.LoadAssignment.Endpoints[0].LbEndpoints[0] = lbEndpoint(hostAddress(host, uint16(number)))
	context := peerTLS(regionIdentity(c.TrustDomain, c.Region) + "peer/")
	context.AlpnProtocols = []string{"h2"}
	context.TlsCertificateSdsSecretConfigs[0].SdsConfig = file(filepath.Join(c.Files, IdentityFile))
	context.GetCombinedValidationContext().ValidationContextSdsSecretConfig.SdsConfig = file(filepath.Join(c.Files, TrustFile))
	made.TransportSocket = transportSocket("envoy.transport_sockets.tls", &tls.UpstreamTlsContext{CommonTlsContext: context})
	return made
}

func file(path string) *core.ConfigSource {
	return &core.ConfigSource{
		ResourceApiVersion:    core.ApiVersion_V3,
		ConfigSourceSpecifier: &core.ConfigSource_PathConfigSource{PathConfigSource: &core.PathConfigSource{Path: path}},
	}
}

// SecretFile is the content of IdentityFile or TrustFile: a secret in the form
// that Envoy reads from files.
func SecretFile(secret Resource) ([]byte, error) {
	return protojson.Marshal(&discovery.DiscoveryResponse{
		VersionInfo: secret.Version, TypeUrl: secret.Type, Resources: []*anypb.Any{secret.Body}})
}
