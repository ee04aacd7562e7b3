package dispatch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/peer"
)

// maxMessage bounds a message of either side, in bytes.
const maxMessage = 16 << 20

// codec is JSON: what is sent is made of nouns that have a JSON form already,
// and a message can be read by a person.
type codec struct{}

func (codec) Marshal(v any) ([]byte, error)      { return json.Marshal(v) }
func (codec) Unmarshal(data []byte, v any) error { return json.Unmarshal(data, v) }
func (codec) Name() string                       { return "dhow-json" }

const (
	serviceName = "dhow.cluster.v1.Dispatch"
	sessionName = "Session"
)

// sessionService is what a protocol file would have described: one call with a
// stream of messages each way.
var sessionService = grpc.ServiceDesc{
	ServiceName: serviceName,
	HandlerType: (*any)(nil),
	Streams: []grpc.StreamDesc{{
		StreamName: sessionName, ServerStreams: true, ClientStreams: true,
		Handler: func(srv any, stream grpc.ServerStream) error { return srv.(*Server).handle(stream) },
	}},
}

// vouched are credentials of a connection that was authenticated before grpc
// got it: they only carry the node's ID to the handler.
type vouched struct {
	credentials.TransportCredentials
	peer func(net.Conn) (string, bool)
}

type vouchedFor struct {
	credentials.CommonAuthInfo
	node string
}

func (vouchedFor) AuthType() string { return "dhow-node" }

func (v vouched) ServerHandshake(c net.Conn) (net.Conn, credentials.AuthInfo, error) {
	node, ok := v.peer(c)
	if !ok || node == "" {
		return nil, nil, errors.New("the connection does not say which node it comes from")
	}
	return c, vouchedFor{credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity}, node}, nil
}

func (v vouched) Clone() credentials.TransportCredentials { return v }

// caller is the node at the other end of a handler's stream.
func caller(ctx context.Context) (string, error) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return "", errors.New("no peer")
	}
	v, ok := p.AuthInfo.(vouchedFor)
	if !ok {
		return "", errors.New("the peer is not known")
	}
	return v.node, nil
}

// newGRPC makes the server for connections of which peer knows the node.
func newGRPC(s *Server, peer func(net.Conn) (string, bool)) *grpc.Server {
	g := grpc.NewServer(
		grpc.Creds(vouched{insecure.NewCredentials(), peer}),
		grpc.ForceServerCodec(codec{}),
		grpc.MaxRecvMsgSize(maxMessage), grpc.MaxSendMsgSize(maxMessage),
		grpc.MaxConcurrentStreams(4),
		grpc.ConnectionTimeout(10*time.Second),
		grpc.ReadBufferSize(8<<10), grpc.WriteBufferSize(8<<10),
		grpc.InitialWindowSize(1<<20), grpc.InitialConnWindowSize(1<<20),
	)
	g.RegisterService(&sessionService, s)
	return g
}

// wire is an open stream to a manager.
type wire struct {
	conn   *grpc.ClientConn
	stream grpc.ClientStream
	cancel context.CancelFunc
}

// open calls a manager. The stream lives until close or until ctx ends.
func open(ctx context.Context, node string, dial func(ctx context.Context, node string) (net.Conn, error)) (*wire, error) {
	conn, err := grpc.NewClient("passthrough:///"+node,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return dial(ctx, node) }),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(codec{}), grpc.MaxCallRecvMsgSize(maxMessage), grpc.MaxCallSendMsgSize(maxMessage)),
		grpc.WithAuthority(node), grpc.WithDisableServiceConfig(), grpc.WithDisableRetry(),
		grpc.WithReadBufferSize(8<<10), grpc.WithWriteBufferSize(8<<10),
		grpc.WithInitialWindowSize(1<<20), grpc.WithInitialConnWindowSize(1<<20),
	)
	if err != nil {
		return nil, fmt.Errorf("call manager %s: %w", node, err)
	}
	ctx, cancel := context.WithCancel(ctx)
	stream, err := conn.NewStream(ctx, &sessionService.Streams[0], "/"+serviceName+"/"+sessionName)
	if err != nil {
		cancel()
		return nil, errors.Join(fmt.Errorf("call manager %s: %w", node, err), conn.Close())
	}
	return &wire{conn, stream, cancel}, nil
}

func (w *wire) send(m *fromClient) error { return w.stream.SendMsg(m) }

func (w *wire) receive() (*fromServer, error) {
	m := &fromServer{}
	if err := w.stream.RecvMsg(m); err != nil {
		return nil, err
	}
	return m, nil
}

func (w *wire) close() {
	w.cancel()
	w.conn.Close() // an error says that it is closed
}
