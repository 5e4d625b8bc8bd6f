package main

import (
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/polder/polder/xds/server"
)

// node is what the suite's client calls itself.
const node = "test-id"

// site is what the suite calls: the server under test, another one for each scenario,
// because state-of-the-world versions count from a server's beginning; and the adapter.
type site struct {
	current         atomic.Pointer[served]
	target, adapter *grpc.Server
	ports           [2]net.Listener // of target and adapter
	ended           chan error
}

// served is a server with what it registered, by the full names of the methods.
type served struct {
	*server.Server
	streams map[string]func(grpc.ServerStream) error
}

// RegisterService implements grpc.ServiceRegistrar.
func (s *served) RegisterService(d *grpc.ServiceDesc, service any) {
	for _, stream := range d.Streams {
		s.streams["/"+d.ServiceName+"/"+stream.StreamName] = func(wire grpc.ServerStream) error { return stream.Handler(service, wire) }
	}
}

// labelled says the version of the resources in the field of delta responses that tells
// of the system as a whole. The protocol has it for people who read along, and the suite
// takes it for the version that its adapter was given.
type labelled struct{ grpc.ServerStream }

// SendMsg implements grpc.ServerStream.
func (l labelled) SendMsg(message any) error {
	if r, ok := message.(*discovery.DeltaDiscoveryResponse); ok && len(r.Resources) > 0 {
		r.SystemVersionInfo = r.Resources[0].Version
	}
	return l.ServerStream.SendMsg(message)
}

// serve starts both on free ports of the loopback.
func serve() (*site, error) {
	s := &site{ended: make(chan error, 2)}
	s.renew()
	s.target = grpc.NewServer(grpc.UnknownServiceHandler(func(_ any, wire grpc.ServerStream) error {
		method, _ := grpc.MethodFromServerStream(wire)
		stream, ok := s.current.Load().streams[method]
		if !ok {
			return status.Errorf(codes.Unimplemented, "no method %s", method)
		}
		return stream(labelled{wire})
	}))
	s.adapter = grpc.NewServer(grpc.ForceServerCodec(raw{}))
	s.register(s.adapter)
	for i := range s.ports {
		port, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, errors.Join(err, s.close())
		}
		s.ports[i] = port
	}
	go func() { s.ended <- s.target.Serve(s.ports[0]) }()
	go func() { s.ended <- s.adapter.Serve(s.ports[1]) }()
	return s, nil
}

func (s *site) close() (err error) {
	for _, port := range s.ports {
		if port != nil {
			err = errors.Join(err, port.Close())
		}
	}
	return err
}

// stop ends both, and all streams.
func (s *site) stop() {
	s.target.Stop()
	s.adapter.Stop()
	<-s.ended
	<-s.ended
}

// renew puts a server without resources in the place of the present one, whose streams
// go on with it.
func (s *site) renew() *server.Server {
	next := &served{Server: server.New(server.Options{Log: slog.New(slog.DiscardHandler)}), streams: map[string]func(grpc.ServerStream) error{}}
	next.Register(next)
	s.current.Store(next)
	return next.Server
}

func (s *site) server() *server.Server { return s.current.Load().Server }

// The suite takes a port for an address.
func (s *site) targetPort() string  { return portOf(s.ports[0]) }
func (s *site) adapterPort() string { return portOf(s.ports[1]) }

func portOf(l net.Listener) string {
	address := l.Addr().String()
	return address[strings.LastIndexByte(address, ':'):]
}
