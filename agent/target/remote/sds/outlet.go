package sds

import (
	"context"
	"net"
	"strconv"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	secretv3 "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/agent/target"
	"github.com/certctl/certctl/agent/target/unixsock"
)

// Bounds of one connection.
const (
	maxStreams = 100 // an Envoy opens one for each secret
	maxMessage = 256 << 10
	maxHeaders = 8 << 10
)

// limits bound who is slow.
type limits struct {
	shake  time.Duration // of a handshake, and of a ping
	answer time.Duration // of what a client owes: see timed
	idle   time.Duration // without a stream
}

// Start serves at a listener until it is closed.
func Start(listener *unixsock.Listener) target.Outlet {
	return start(listener, limits{shake: 10 * time.Second, answer: 30 * time.Second, idle: time.Minute})
}

// outlet is one socket with its secrets.
type outlet struct {
	secrets *cache.LinearCache
	book    *book
	ended   chan struct{}
}

var _ target.Outlet = (*outlet)(nil)

// start makes an outlet. The version of what it hands out differs from that of one
// before it, so that clients that come back are sent what is current.
func start(listener net.Listener, limits limits) *outlet {
	o := &outlet{
		book: newBook(), ended: make(chan struct{}),
		secrets: cache.NewLinearCache(resource.SecretType, cache.WithVersionPrefix(strconv.FormatInt(time.Now().UnixNano(), 36)+".")),
	}
	guard := guard{answer: limits.answer}
	grpcServer := grpc.NewServer(
		grpc.Creds(peerCredentials{}), grpc.StreamInterceptor(guard.stream), grpc.UnaryInterceptor(guard.unary),
		grpc.ConnectionTimeout(limits.shake), grpc.MaxConcurrentStreams(maxStreams), grpc.MaxRecvMsgSize(maxMessage), grpc.MaxHeaderListSize(maxHeaders),
		grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionIdle: limits.idle, Time: limits.idle, Timeout: limits.shake}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: time.Second, PermitWithoutStream: true}),
	)
	ctx, stop := context.WithCancel(context.Background())
	secretv3.RegisterSecretDiscoveryServiceServer(grpcServer, server.NewServer(ctx, o.secrets, o.book.callbacks()))
	go func() {
		_ = grpcServer.Serve(listener) // it ends with the listener
		stop()
		close(o.ended)
		grpcServer.Stop() // its connections are closed
	}()
	return o
}

// Offer is Outlet's.
func (o *outlet) Offer(changed []target.Current, gone []string) error {
	secrets := map[string]types.Resource{}
	for _, c := range changed {
		secrets[c.Name] = secret(c)
	}
	o.book.offer(changed, gone)
	if err := o.secrets.UpdateResources(secrets, gone); err != nil {
		return certctl.Wrap(certctl.Internal, err, "the secrets cannot be handed out")
	}
	return nil
}

// Await is Outlet's.
func (o *outlet) Await(ctx context.Context, name string) error {
	return o.book.await(ctx, o.ended, name)
}

// Loaded is Outlet's.
func (o *outlet) Loaded(name string) bool { return o.book.loaded(name) }

// Ended is Outlet's.
func (o *outlet) Ended() <-chan struct{} { return o.ended }

// secret is what a client gets of a place.
func secret(c target.Current) *tlsv3.Secret {
	return &tlsv3.Secret{Name: c.Name, Type: &tlsv3.Secret_TlsCertificate{TlsCertificate: &tlsv3.TlsCertificate{
		CertificateChain: inline(c.Fullchain), PrivateKey: inline(c.Key),
	}}}
}

// inline is bytes in a message.
func inline(content []byte) *corev3.DataSource {
	return &corev3.DataSource{Specifier: &corev3.DataSource_InlineBytes{InlineBytes: content}}
}

// contentOf tells secrets apart.
func contentOf(s *tlsv3.Secret) certctl.Digest {
	c := s.GetTlsCertificate()
	return certctl.DigestOf([]byte(string(c.GetCertificateChain().GetInlineBytes()) + "\x00" + string(c.GetPrivateKey().GetInlineBytes())))
}
