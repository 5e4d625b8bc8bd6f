package load

import (
	"context"
	"errors"
	"net"
	"slices"
	"testing"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpoint "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	loadstats "github.com/envoyproxy/go-control-plane/envoy/service/load_stats/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// rig is a server of load reports with what it received, over real gRPC.
type rig struct {
	t        *testing.T
	ctx      context.Context
	server   *Server
	received chan []Report
	conn     *grpc.ClientConn
}

func newRig(t *testing.T, construct func(time.Duration, func([]Report)) *Server) *rig {
	t.Helper()
	r := &rig{t: t, received: make(chan []Report, 100)}
	r.server = construct(time.Second, func(reports []Report) { r.received <- reports })
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer()
	r.server.Register(g)
	served := make(chan error, 1)
	go func() { served <- g.Serve(socket) }()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	r.ctx = ctx
	if r.conn, err = grpc.NewClient(socket.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials())); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		r.conn.Close()
		g.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return r
}

// reporter is one stream of somebody who calls itself node.
type reporter struct {
	*rig
	stream loadstats.LoadReportingService_StreamLoadStatsClient
	leave  context.CancelFunc
}

func (r *rig) join(node string) *reporter {
	r.t.Helper()
	ctx, leave := context.WithCancel(r.ctx)
	stream, err := loadstats.NewLoadReportingServiceClient(r.conn).StreamLoadStats(ctx)
	if err != nil {
		r.t.Fatal(err)
	}
	p := &reporter{r, stream, leave}
	if err := stream.Send(&loadstats.LoadStatsRequest{Node: &core.Node{Id: node}}); err != nil {
		r.t.Fatal(err)
	}
	if answer, err := stream.Recv(); err != nil || !answer.SendAllClusters {
		r.t.Fatalf("asked for %v, %v; want all clusters", answer, err)
	}
	return p
}

// report sends what clusters did, and gives what became of it.
func (p *reporter) report(stats ...*endpoint.ClusterStats) []Report {
	p.t.Helper()
	if err := p.stream.Send(&loadstats.LoadStatsRequest{ClusterStats: stats}); err != nil {
		p.t.Fatal(err)
	}
	select {
	case list := <-p.received:
		return list
	case <-p.ctx.Done():
		p.t.Fatal("the report is not received")
		return nil
	}
}

// counted waits until the only reporter's messages are counted: that follows their
// reception.
func (r *rig) counted(n uint64) {
	r.t.Helper()
	for {
		r.server.mu.Lock()
		changed, done := r.server.changed, false
		for w := range r.server.open {
			done = w.reports >= n
		}
		r.server.mu.Unlock()
		if done {
			return
		}
		select {
		case <-changed:
		case <-r.ctx.Done():
			r.t.Fatal("the report is not counted")
		}
	}
}

func did(cluster string, issued, failed, open uint64) *endpoint.ClusterStats {
	return &endpoint.ClusterStats{ClusterName: cluster, UpstreamLocalityStats: []*endpoint.UpstreamLocalityStats{
		{TotalIssuedRequests: issued, TotalErrorRequests: failed, TotalRequestsInProgress: open}}}
}

// TestClientsReport holds that what a client sent to instances and to the activator
// is told apart, that two copies of a program are too, and that clusters which are no
// client's are left out.
func TestClientsReport(t *testing.T) {
	r := newRig(t, NewClients)
	one, two := r.join("checkout"), r.join("checkout")
	first := one.report(did("client-instances/billing", 5, 1, 2), did("client-activator/billing", 3, 1, 1), did("service/billing", 7, 0, 7), did("client/billing", 7, 0, 7))
	if len(first) != 2 {
		t.Fatalf("received %+v, want a report for each of two clusters", first)
	}
	for i, want := range []Report{
		{Service: "billing", Direct: Count{5, 1}, InProgress: 2, AtWork: 2},
		{Service: "billing", Activated: Count{3, 1}, InProgress: 1},
	} {
		got := first[i]
		if got.Node = ""; got != want {
			t.Errorf("report %d is %+v, want %+v", i, got, want)
		}
	}
	nodes := []string{first[0].Node, first[1].Node, two.report(did("client-instances/billing", 1, 0, 0))[0].Node}
	if slices.Sort(nodes); len(slices.Compact(nodes)) != 3 {
		t.Errorf("the reports are of %q, of which two are alike: one would hide the other", nodes)
	}
}

// TestEnvoysReport holds that an Envoy's reports go by its name, so that a stream that
// was lost is followed by the next.
func TestEnvoysReport(t *testing.T) {
	r := newRig(t, New)
	for range 2 {
		p := r.join("fr-1")
		list := p.report(did("service/billing", 5, 1, 2), did("client-instances/billing", 1, 1, 1))
		if want := (Report{Node: "fr-1", Service: "billing", Direct: Count{5, 1}, InProgress: 2, AtWork: 2}); len(list) != 1 || list[0] != want {
			t.Errorf("received %+v, want %+v alone", list, want)
		}
		p.leave()
	}
}

// TestSettle holds that it takes two reports of each stream, because the first may have
// been on its way, or the stream's end.
func TestSettle(t *testing.T) {
	r := newRig(t, NewClients)
	if err := r.server.Settle(r.ctx); err != nil {
		t.Fatal("without anybody: ", err)
	}
	stays, leaves := r.join("checkout"), r.join("reports")
	stays.report(did("client-instances/billing", 1, 0, 0)) // both are known now, and this does not count
	leaves.report(did("client-instances/billing", 1, 0, 0))
	settled := make(chan error, 1)
	begun := make(chan struct{})
	go func() {
		close(begun)
		settled <- r.server.Settle(r.ctx)
	}()
	<-begun
	still := func(after string) {
		t.Helper()
		select {
		case err := <-settled:
			t.Fatalf("settled after %s: %v", after, err)
		default:
		}
	}
	still("no report")
	leaves.leave()
	still("an end")
	for n := 1; ; n++ {
		stays.report(did("client-instances/billing", 1, 0, 0))
		if n < 2 {
			still("one report")
			continue
		}
		select {
		case err := <-settled:
			if err != nil {
				t.Error(err)
			}
			return
		default: // it began after some of the reports
		}
	}
}

// TestSettleNamesWhoIsLate holds that it ends with its context, and says whom it waited for.
func TestSettleNamesWhoIsLate(t *testing.T) {
	r := newRig(t, NewClients)
	r.join("checkout").report(did("client-instances/billing", 1, 0, 0))
	ctx, cancel := context.WithCancel(r.ctx)
	cancel()
	if err := r.server.Settle(ctx); err == nil || err.Error() != `waiting for client "checkout" to report its load: context canceled` {
		t.Errorf("got %v", err)
	}
}

// TestSettleWaitsForTheSilentOnce holds that a client which reports nothing delays the
// first who waits, and the next ones only after it has spoken again.
func TestSettleWaitsForTheSilentOnce(t *testing.T) {
	r := newRig(t, NewClients)
	p := r.join("checkout")
	for n := range uint64(2) {
		p.report(did("client-instances/billing", 1, 0, 0))
		r.counted(n + 2) // with the first message, which only says who it is
		ctx, cancel := context.WithTimeout(r.ctx, time.Millisecond)
		err := r.server.Settle(ctx)
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("nobody waited for a client that had spoken: %v", err)
		}
		if err := r.server.Settle(r.ctx); err != nil {
			t.Fatalf("it was waited for again: %v", err)
		}
	}
}
