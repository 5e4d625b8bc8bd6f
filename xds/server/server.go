package server

import (
	"context"
	"fmt"
	"log/slog"
	"path"
	"sync"
	"time"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"

	"github.com/polder/polder/xds"
)

// Options of a Server.
type Options struct {
	Log *slog.Logger
	// Secret resolves the name of a secret when an Envoy asks for it. It must
	// not block. False means that there is none for this gateway.
	Secret func(name string) (xds.Resource, bool)
	// SecretOf does the same for one node, which may have secrets of its own. nil
	// means that Secret answers for all.
	SecretOf func(node, name string) (xds.Resource, bool)
	// Sees tells whether a resource is for the node of that name. For a node that
	// does not see it, it does not exist. nil means that all see everything.
	Sees func(node string, key xds.Key) bool
	// Asked is told, outside the lock, when an Envoy asks for a secret that it
	// does not have: a ClientHello with that name has arrived. May be nil.
	Asked func(name string)
	// Accept decides whether a node of this name may connect. nil accepts all.
	Accept func(node string) error
	// WarmWait bounds how long routes wait for endpoints that an Envoy does not
	// ask for. 0 means 2 s.
	WarmWait time.Duration
	// AnswerWait bounds the wait for an Envoy's answer. One that is late is cut
	// off: it may connect again and tell what it has. Nobody waits for it
	// meanwhile. 0 means 60 s; Envoy itself may wait 15 s for a cluster's endpoints.
	AnswerWait time.Duration
	// Archive keeps accepted versions across restarts. nil keeps them in memory only.
	Archive *Archive
	// Rejected is told of every rejected resource, outside the lock. May be nil.
	Rejected func(Rejection)
}

// Server is the control plane's side of all streams of one region.
type Server struct {
	discovery.UnimplementedAggregatedDiscoveryServiceServer
	options Options

	mu sync.Mutex // guards all below and every stream's state
	// current is what was last applied; good what some Envoy accepted last, while it
	// was current; refused what each Envoy rejected last.
	current    map[string]map[string]xds.Resource
	good       map[xds.Key]xds.Resource
	refused    map[nodeKey]refusal
	rejections map[nodeKey]Rejection
	streams    map[*stream]struct{}
	changed    chan struct{} // closed and replaced whenever an Envoy answered
	sequence   uint64        // counts calls of Apply; names state-of-the-world versions
	counters   map[string]*TypeCounters
}

// New makes a Server without resources. It starts nothing.
func New(options Options) *Server {
	if options.WarmWait == 0 {
		options.WarmWait = 2 * time.Second
	}
	if options.AnswerWait == 0 {
		options.AnswerWait = 60 * time.Second
	}
	good, refused := options.Archive.remembered()
	return &Server{
		options:    options,
		current:    map[string]map[string]xds.Resource{},
		good:       good,
		refused:    refused,
		rejections: map[nodeKey]Rejection{},
		streams:    map[*stream]struct{}{},
		changed:    make(chan struct{}),
		counters:   map[string]*TypeCounters{},
	}
}

// Register adds the discovery services to a gRPC server: the aggregated one, and
// one of each type.
func (s *Server) Register(to grpc.ServiceRegistrar) {
	discovery.RegisterAggregatedDiscoveryServiceServer(to, s)
	s.registerSeparate(to)
}

// Apply replaces the given resources and removes the given keys. Resources
// that are equal to what is there cost nothing. It reports how many changed.
func (s *Server) Apply(set []xds.Resource, remove []xds.Key) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	changes := 0
	for _, r := range set {
		named := s.current[r.Type]
		if named == nil {
			named = map[string]xds.Resource{}
			s.current[r.Type] = named
		}
		if named[r.Name].Version == r.Version {
			continue
		}
		named[r.Name] = r
		s.options.Archive.use(r.Key)
		s.mark(r.Key)
		changes++
	}
	for _, key := range remove {
		if _, ok := s.current[key.Type][key.Name]; !ok {
			continue
		}
		delete(s.current[key.Type], key.Name)
		delete(s.good, key)
		s.options.Archive.forget(key)
		s.forgetRejections(key)
		s.mark(key)
		changes++
	}
	if changes > 0 {
		s.sequence++
	}
	return changes
}

// Review looks again at everything that a node has or asks for: Sees answers
// otherwise for it than before.
func (s *Server) Review(node string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sequence++
	for st := range s.streams {
		if st.node != node {
			continue
		}
		for typeURL, sub := range st.types {
			for name := range sub.names {
				st.mark(xds.Key{Type: typeURL, Name: name})
			}
			for name := range sub.sent {
				st.mark(xds.Key{Type: typeURL, Name: name})
			}
		}
	}
}

// Touch says that the secrets of these names may have changed, so that Envoys
// which asked for them are answered again.
func (s *Server) Touch(names ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sequence++
	for _, name := range names {
		s.mark(xds.Key{Type: xds.TypeSecret, Name: name})
	}
}

// Withdraw takes secrets away from every Envoy. One that needs a secret again
// asks for it, and gets it.
func (s *Server) Withdraw(names ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for st := range s.streams {
		sub := st.subscription(xds.TypeSecret)
		for _, name := range names {
			if st.delta && sub.sent[name].Body != nil {
				sub.withheld[name] = true
				st.mark(xds.Key{Type: xds.TypeSecret, Name: name})
			}
		}
	}
}

// SecretNames lists the secrets that connected Envoys hold or ask for.
func (s *Server) SecretNames() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	seen := map[string]bool{}
	var names []string
	for st := range s.streams {
		for name := range st.subscription(xds.TypeSecret).names {
			if !seen[name] {
				seen[name], names = true, append(names, name)
			}
		}
	}
	return names
}

// mark tells every stream that a resource changed. Called with mu held.
func (s *Server) mark(key xds.Key) {
	for st := range s.streams {
		st.mark(key)
	}
}

// effective is the version of a resource that a node should have: the current one, or
// while it is the one that this node rejected, what the node accepted before. What
// other nodes say of it does not count. Called with mu held.
func (s *Server) effective(node string, key xds.Key) (xds.Resource, bool) {
	switch {
	case key.Type == xds.TypeSecret && s.options.SecretOf != nil:
		return s.options.SecretOf(node, key.Name)
	case key.Type == xds.TypeSecret && s.options.Secret != nil:
		return s.options.Secret(key.Name)
	case key.Type == xds.TypeSecret, s.options.Sees != nil && !s.options.Sees(node, key):
		return xds.Resource{}, false
	}
	r, ok := s.current[key.Type][key.Name]
	if no, said := s.refused[nodeKey{node, key}]; ok && said && no.version == r.Version {
		return no.instead, no.instead.Body != nil
	}
	return r, ok
}

// Wait blocks until every connected Envoy that takes part in these resources
// has acknowledged, or rejected, their present versions. An Envoy's
// acknowledgement precedes its workers by some tens of milliseconds. It
// returns the context's error, naming who is late.
func (s *Server) Wait(ctx context.Context, keys ...xds.Key) error {
	for {
		s.mu.Lock()
		late, key := s.late(keys)
		changed := s.changed
		s.mu.Unlock()
		if late == "" {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("waiting for node %q to acknowledge %s %s: %w", late, path.Base(key.Type), key.Name, ctx.Err())
		}
	}
}

// late finds a node, and what it has not answered to; "" when there is none.
func (s *Server) late(keys []xds.Key) (node string, key xds.Key) {
	for st := range s.streams {
		if st.givenUp {
			continue
		}
		for _, key := range keys {
			if !st.settled(key) {
				return st.node, key
			}
		}
	}
	return "", xds.Key{}
}

// GiveUp has nobody wait any longer for those who have not answered to the present
// versions of these resources: one wait for an Envoy that is silent is enough. It is
// waited for again once it answers anything.
func (s *Server) GiveUp(keys ...xds.Key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for st := range s.streams {
		if !st.settledAll(keys) {
			st.givenUp = true
		}
	}
	s.answered()
}

// answered wakes everyone in Wait. Called with mu held.
func (s *Server) answered() {
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *Server) join(st *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.streams[st] = struct{}{}
}

func (s *Server) leave(st *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.streams, st)
	s.answered()
}
