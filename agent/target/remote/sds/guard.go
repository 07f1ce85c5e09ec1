package sds

import (
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/agent/target/unixsock"
)

// peerCredentials know a connection by who the kernel says is at its other end.
type peerCredentials struct{}

var _ credentials.TransportCredentials = peerCredentials{}

// peerInfo is what they know.
type peerInfo struct {
	credentials.CommonAuthInfo
	conn *unixsock.Conn
}

var _ credentials.AuthInfo = peerInfo{}

// AuthType names the way.
func (peerInfo) AuthType() string { return "peer" }

// ServerHandshake asks the client nothing. One that is refused is told so with its
// first request.
func (peerCredentials) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	known, ok := conn.(*unixsock.Conn)
	if !ok {
		return nil, nil, errors.New("it is not known who is at the other end")
	}
	return conn, peerInfo{credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity}, known}, nil
}

// ClientHandshake is refused: these are a server's.
func (peerCredentials) ClientHandshake(context.Context, string, net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.ErrUnsupported
}

// Info names the way.
func (peerCredentials) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "peer"}
}

// Clone returns the same, which has no state.
func (p peerCredentials) Clone() credentials.TransportCredentials { return p }

// OverrideServerName is for clients.
func (peerCredentials) OverrideServerName(string) error { return errors.ErrUnsupported }

// guard lets pass who is not refused, for as long as he takes part.
type guard struct{ answer time.Duration }

func admitted(ctx context.Context) (*unixsock.Conn, error) {
	from, ok := peer.FromContext(ctx)
	if !ok {
		return nil, status.Error(codes.PermissionDenied, "it is not known who asks")
	}
	info, ok := from.AuthInfo.(peerInfo)
	if !ok {
		return nil, status.Error(codes.PermissionDenied, "it is not known who asks")
	}
	switch err := info.conn.Refusal; {
	case err == nil:
		return info.conn, nil
	case certctl.ErrorCode(err) == certctl.RateLimited:
		return nil, status.Error(codes.ResourceExhausted, certctl.ErrorMessage(err))
	default:
		return nil, status.Error(codes.PermissionDenied, certctl.ErrorMessage(err))
	}
}

func (g guard) stream(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	conn, err := admitted(stream.Context())
	if err != nil {
		return err
	}
	t := &timed{ServerStream: stream, timer: time.AfterFunc(g.answer, func() { _ = conn.Close() }), answer: g.answer}
	defer t.timer.Stop()
	return next(srv, t)
}

func (g guard) unary(ctx context.Context, request any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	if _, err := admitted(ctx); err != nil {
		return nil, err
	}
	return next(ctx, request)
}

// timed is a stream whose client owes a word: first what he wants, then whether he takes
// what he was sent. One that does not say it in time loses his connection, whether he
// reads nothing or answers nothing.
type timed struct {
	grpc.ServerStream
	answer time.Duration

	mu    sync.Mutex  // guards all below
	timer *time.Timer // runs while he owes one
	owed  []string    // nonces of what he has not answered, oldest first
}

// RecvMsg is a word of his. That he wants something else is no answer to what he was
// sent: only one with its nonce is, and answers what came before it, too.
func (t *timed) RecvMsg(m any) error {
	err := t.ServerStream.RecvMsg(m)
	t.mu.Lock()
	defer t.mu.Unlock()
	if answer, ok := m.(interface{ GetResponseNonce() string }); ok && err == nil && len(t.owed) > 0 {
		i := slices.Index(t.owed, answer.GetResponseNonce())
		if i < 0 {
			return nil
		}
		if t.owed = t.owed[i+1:]; len(t.owed) > 0 {
			t.timer.Reset(t.answer)
			return nil
		}
	}
	t.timer.Stop()
	return err
}

// SendMsg is what he owes one for. What is sent beside that gives him no more time.
func (t *timed) SendMsg(m any) error {
	t.mu.Lock()
	if len(t.owed) == 0 {
		t.timer.Reset(t.answer)
	}
	if response, ok := m.(interface{ GetNonce() string }); ok {
		t.owed = append(t.owed, response.GetNonce())
	}
	t.mu.Unlock()
	return t.ServerStream.SendMsg(m)
}
