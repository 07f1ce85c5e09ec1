package sds_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	secretv3 "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/certctl/certctl/agent/target/targettest"
)

// complaint is what the client says of a secret that it does not like.
const complaint = "this client likes no secrets today"

// client stands for Envoy: it serves TLS with the secrets that it is sent.
type client struct {
	listener net.Listener

	mu      sync.Mutex // guards all below
	secrets map[string]*tls.Certificate
	refuses bool
}

// names are those of the places of the suite.
var names = []string{"shop", "a", "b", "c", "d", "e"}

// startClient serves TLS at a port, and asks for secrets when there is a socket.
func startClient(t *testing.T, socket string, delta bool) *client {
	t.Helper()
	dir := t.TempDir()
	targettest.WritePair(t, filepath.Join(dir, "cert"), filepath.Join(dir, "key"), "client.example.com")
	own, err := tls.LoadX509KeyPair(filepath.Join(dir, "cert"), filepath.Join(dir, "key"))
	must(t, err)
	c := &client{secrets: map[string]*tls.Certificate{"": &own}}
	c.listener, err = tls.Listen("tcp", "127.0.0.1:0", &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: c.choose}) //nolint:noctx // for the whole test
	must(t, err)
	t.Cleanup(func() { _ = c.listener.Close() })
	go c.shakeHands()
	connection := dial(t, socket)
	ctx, stop := context.WithCancel(context.Background())
	var group sync.WaitGroup
	t.Cleanup(func() { stop(); group.Wait() })
	group.Go(func() {
		for ctx.Err() == nil { // as Envoy does, until there is a server, and again when there is another
			if delta {
				_ = c.followDelta(ctx, secretv3.NewSecretDiscoveryServiceClient(connection))
			} else {
				_ = c.follow(ctx, secretv3.NewSecretDiscoveryServiceClient(connection))
			}
		}
	})
	return c
}

func dial(t *testing.T, socket string) *grpc.ClientConn {
	t.Helper()
	connection, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.Config{BaseDelay: 5 * time.Millisecond, Multiplier: 1, MaxDelay: 5 * time.Millisecond}, MinConnectTimeout: time.Second}))
	must(t, err)
	t.Cleanup(func() { _ = connection.Close() })
	return connection
}

func (c *client) shakeHands() {
	for {
		conn, err := c.listener.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			if secured, ok := conn.(*tls.Conn); ok {
				_ = secured.HandshakeContext(context.Background()) // the other side looks at its outcome
			}
		}()
	}
}

// choose is by name, as a listener with one filter chain for each would.
func (c *client) choose(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, name := range names {
		if have := c.secrets[name]; have != nil && have.Leaf.VerifyHostname(hello.ServerName) == nil {
			return have, nil
		}
	}
	return c.secrets[""], nil
}

// take uses a secret, or says why not.
func (c *client) take(resource *anypb.Any) error {
	var secret tlsv3.Secret
	if err := resource.UnmarshalTo(&secret); err != nil {
		return err
	}
	pair, err := tls.X509KeyPair(secret.GetTlsCertificate().GetCertificateChain().GetInlineBytes(),
		secret.GetTlsCertificate().GetPrivateKey().GetInlineBytes())
	if err != nil {
		return err
	}
	if pair.Leaf, err = x509.ParseCertificate(pair.Certificate[0]); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.refuses {
		return errors.New(complaint)
	}
	c.secrets[secret.GetName()] = &pair
	return nil
}

func (c *client) drop(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.secrets, name)
}

func (c *client) refuse(is bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refuses = is
}

// answerOf is NACK or ACK.
func answerOf(err error) *rpcstatus.Status {
	if err == nil {
		return nil
	}
	return &rpcstatus.Status{Code: int32(codes.InvalidArgument), Message: err.Error()}
}

// follow speaks the state of the world.
func (c *client) follow(ctx context.Context, service secretv3.SecretDiscoveryServiceClient) error {
	stream, err := service.StreamSecrets(ctx, grpc.WaitForReady(true))
	if err != nil {
		return err
	}
	request := &discoveryv3.DiscoveryRequest{TypeUrl: resource.SecretType, ResourceNames: names}
	for {
		if err := stream.Send(request); err != nil {
			return err
		}
		response, err := stream.Recv()
		if err != nil {
			return err
		}
		var refusal error
		for _, r := range response.GetResources() {
			refusal = errors.Join(refusal, c.take(r))
		}
		version := response.GetVersionInfo()
		if refusal != nil {
			version = request.GetVersionInfo() // that of the last which was taken
		}
		request = &discoveryv3.DiscoveryRequest{
			TypeUrl: resource.SecretType, ResourceNames: names, VersionInfo: version, ResponseNonce: response.GetNonce(), ErrorDetail: answerOf(refusal),
		}
	}
}

// followDelta speaks the incremental protocol.
func (c *client) followDelta(ctx context.Context, service secretv3.SecretDiscoveryServiceClient) error {
	stream, err := service.DeltaSecrets(ctx, grpc.WaitForReady(true))
	if err != nil {
		return err
	}
	request := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: resource.SecretType, ResourceNamesSubscribe: names}
	for {
		if err := stream.Send(request); err != nil {
			return err
		}
		response, err := stream.Recv()
		if err != nil {
			return err
		}
		var refusal error
		for _, r := range response.GetResources() {
			refusal = errors.Join(refusal, c.take(r.GetResource()))
		}
		for _, name := range response.GetRemovedResources() {
			c.drop(name)
		}
		request = &discoveryv3.DeltaDiscoveryRequest{TypeUrl: resource.SecretType, ResponseNonce: response.GetNonce(), ErrorDetail: answerOf(refusal)}
	}
}
