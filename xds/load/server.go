package load

import (
	"errors"
	"io"
	"sync"
	"time"

	endpoint "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	loadstats "github.com/envoyproxy/go-control-plane/envoy/service/load_stats/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/polder/polder"
	"github.com/polder/polder/xds"
)

// Report is what one Envoy did for one service during one interval.
type Report struct {
	Node       string
	Service    polder.ServiceName
	Interval   time.Duration
	Direct     Count // sent straight to instances
	Activated  Count // sent to the activator: cold, or saturated
	InProgress int   // open at the end of the interval, wherever sent
	AtWork     int   // of these, at instances
}

// Count counts requests of one interval.
type Count struct {
	Issued uint64
	Failed uint64 // answered with 5xx, or not at all
}

// Issued counts all requests of the interval.
func (r Report) Issued() uint64 { return r.Direct.Issued + r.Activated.Issued }

// Server receives load reports.
type Server struct {
	loadstats.UnimplementedLoadReportingServiceServer
	// Fixed after construction.
	interval time.Duration
	receive  func([]Report)
	clients  bool // it is for programs that call without an Envoy

	mu      sync.Mutex
	number  uint64 // of the last stream
	open    map[*watched]struct{}
	changed chan struct{} // closed and replaced whenever somebody reported, or left
}

// watched is one stream. Its number and node are its own goroutine's until it is
// among the open ones; the rest is guarded by Server.mu.
type watched struct {
	node    string
	number  uint64
	reports uint64
	silent  bool // since somebody waited for it until a deadline
}

// New makes a server that asks for a report every interval and hands each
// Envoy's reports to receive, which must return soon and may be called from
// several goroutines at once.
func New(interval time.Duration, receive func([]Report)) *Server {
	return &Server{interval: interval, receive: receive, open: map[*watched]struct{}{}, changed: make(chan struct{})}
}

// Register adds the load reporting service to a gRPC server.
func (s *Server) Register(to grpc.ServiceRegistrar) {
	loadstats.RegisterLoadReportingServiceServer(to, s)
}

// StreamLoadStats serves one Envoy, or one client.
func (s *Server) StreamLoadStats(stream loadstats.LoadReportingService_StreamLoadStatsServer) error {
	w := new(watched)
	defer s.leave(w)
	for {
		request, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if w.node == "" {
			s.enter(w, request.GetNode().GetId())
			if err := stream.Send(&loadstats.LoadStatsResponse{
				SendAllClusters:       true,
				LoadReportingInterval: durationpb.New(s.interval),
			}); err != nil {
				return err
			}
		}
		if reports := s.reports(w, request.ClusterStats); len(reports) > 0 {
			s.receive(reports)
		}
		s.reported(w)
	}
}

func (s *Server) enter(w *watched, node string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.number++
	w.node, w.number = node, s.number
	s.open[w] = struct{}{}
}

func (s *Server) leave(w *watched) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, w)
	s.changes()
}

func (s *Server) reported(w *watched) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w.reports++
	w.silent = false
	s.changes()
}

// changes wakes everyone in Settle. Called with mu held.
func (s *Server) changes() {
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *Server) reports(w *watched, clusters []*endpoint.ClusterStats) []Report {
	var list []Report
	for _, c := range clusters {
		r, activator, ok := s.identify(c.ClusterName, w)
		if !ok {
			continue
		}
		r.Interval = c.GetLoadReportInterval().AsDuration()
		for _, l := range c.UpstreamLocalityStats {
			count := Count{Issued: l.TotalIssuedRequests, Failed: l.TotalErrorRequests}
			if activator || l.Priority == xds.PriorityActivator {
				r.Activated.Issued += count.Issued
				r.Activated.Failed += count.Failed
			} else {
				r.Direct.Issued += count.Issued
				r.Direct.Failed += count.Failed
				r.AtWork += int(l.TotalRequestsInProgress)
			}
			r.InProgress += int(l.TotalRequestsInProgress)
		}
		list = append(list, r)
	}
	return list
}
