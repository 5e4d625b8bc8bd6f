package load

import (
	"errors"
	"io"
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
	interval time.Duration
	receive  func([]Report)
}

// New makes a server that asks for a report every interval and hands each
// Envoy's reports to receive, which must return soon and may be called from
// several goroutines at once.
func New(interval time.Duration, receive func([]Report)) *Server {
	return &Server{interval: interval, receive: receive}
}

// Register adds the load reporting service to a gRPC server.
func (s *Server) Register(to grpc.ServiceRegistrar) {
	loadstats.RegisterLoadReportingServiceServer(to, s)
}

// StreamLoadStats serves one Envoy.
func (s *Server) StreamLoadStats(stream loadstats.LoadReportingService_StreamLoadStatsServer) error {
	node := ""
	for {
		request, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if node == "" {
			node = request.GetNode().GetId()
			if err := stream.Send(&loadstats.LoadStatsResponse{
				SendAllClusters:       true,
				LoadReportingInterval: durationpb.New(s.interval),
			}); err != nil {
				return err
			}
		}
		if reports := reports(node, request.ClusterStats); len(reports) > 0 {
			s.receive(reports)
		}
	}
}

func reports(node string, clusters []*endpoint.ClusterStats) []Report {
	var list []Report
	for _, c := range clusters {
		service, ok := xds.ClusterService(c.ClusterName)
		if !ok {
			continue
		}
		r := Report{Node: node, Service: service, Interval: c.GetLoadReportInterval().AsDuration()}
		for _, l := range c.UpstreamLocalityStats {
			count := Count{Issued: l.TotalIssuedRequests, Failed: l.TotalErrorRequests}
			if l.Priority == xds.PriorityActivator {
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
