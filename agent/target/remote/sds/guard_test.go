package sds

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	secretv3 "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/certctl/certctl/agent/target"
	"github.com/certctl/certctl/agent/target/unixsock"
)

// limited hands out one secret, and gives nobody much time.
func limited(t *testing.T, limits limits, size int) (path string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "certctl-sds-") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path = filepath.Join(dir, "socket")
	l, err := unixsock.Listen(t.Context(), unixsock.Config{Path: path, Group: -1})
	if err != nil {
		t.Fatal(err)
	}
	o := start(l, limits)
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		<-o.Ended()
	})
	if err := o.Offer([]target.Current{{Name: "shop", Fullchain: make([]byte, size), Key: []byte("key")}}, nil); err != nil {
		t.Fatal(err)
	}
	return path
}

func clientOf(t *testing.T, dial func(ctx context.Context) (net.Conn, error)) secretv3.SecretDiscoveryServiceClient {
	t.Helper()
	connection, err := grpc.NewClient("passthrough:///agent", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return dial(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = connection.Close() })
	return secretv3.NewSecretDiscoveryServiceClient(connection)
}

func dialing(path string) func(ctx context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) { return new(net.Dialer).DialContext(ctx, "unix", path) }
}

// first returns what a stream says to its first request.
func first(t *testing.T, client secretv3.SecretDiscoveryServiceClient) (*discoveryv3.DiscoveryResponse, error) {
	t.Helper()
	stream, err := client.StreamSecrets(t.Context())
	if err != nil {
		return nil, err
	}
	if err := stream.Send(&discoveryv3.DiscoveryRequest{TypeUrl: resource.SecretType, ResourceNames: []string{"shop"}}); err != nil && !errors.Is(err, io.EOF) {
		return nil, err // io.EOF: Recv says why
	}
	return stream.Recv()
}

// Who has too many connections is told so on the next one.
func TestTooManyConnections(t *testing.T) {
	t.Parallel()
	path := limited(t, limits{shake: time.Minute, answer: time.Minute, idle: time.Minute}, 10)
	for range unixsock.MaxConnsPerUser {
		conn, err := dialing(path)(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	client := clientOf(t, dialing(path))
	got, err := first(t, client)
	if status.Code(err) != codes.ResourceExhausted || !strings.Contains(err.Error(), "may have no more") {
		t.Errorf("got %v, %v", got, err)
	}
	if _, err := client.FetchSecrets(t.Context(), &discoveryv3.DiscoveryRequest{}); status.Code(err) != codes.ResourceExhausted && status.Code(err) != codes.Unavailable {
		t.Errorf("a single request: %v", err)
	}
}

// Who says nothing is not waited for: not on a connection, and not on a stream.
func TestTheSilentAreCutOff(t *testing.T) {
	t.Parallel()
	path := limited(t, limits{shake: 100 * time.Millisecond, answer: 100 * time.Millisecond, idle: time.Minute}, 10)
	conn, err := dialing(path)(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("a silent connection is waited for")
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	stream, err := clientOf(t, dialing(path)).StreamSecrets(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); status.Code(err) != codes.Unavailable {
		t.Errorf("a silent stream: %v", err)
	}
}

// never asks at a socket, and never takes what it is sent.
func never(t *testing.T, path string) net.Conn {
	t.Helper()
	conn, err := dialing(path)(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := errors.Join(askAndNeverTake(conn), conn.SetDeadline(time.Now().Add(time.Minute))); err != nil {
		t.Fatal(err)
	}
	return conn
}

// Who asks and never takes leaves the others theirs.
func TestWhoNeverReadsDisturbsNobody(t *testing.T) {
	t.Parallel()
	path := limited(t, limits{shake: time.Minute, answer: time.Minute, idle: time.Minute}, 1<<20)
	never(t, path)
	if got, err := first(t, clientOf(t, dialing(path))); err != nil || len(got.GetResources()) != 1 {
		t.Errorf("another: %v", err)
	}
}

// Who asks and never takes is cut off, and so is who takes and does not answer.
func TestWhoNeverAnswersIsCutOff(t *testing.T) {
	t.Parallel()
	path := limited(t, limits{shake: time.Minute, answer: 200 * time.Millisecond, idle: time.Minute}, 1<<20)
	if _, err := io.Copy(io.Discard, never(t, path)); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("who never takes is waited for")
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	stream, err := clientOf(t, dialing(path)).StreamSecrets(ctx)
	if err == nil {
		err = stream.Send(&discoveryv3.DiscoveryRequest{TypeUrl: resource.SecretType, ResourceNames: []string{"shop"}})
	}
	for err == nil || errors.Is(err, io.EOF) {
		_, err = stream.Recv()
	}
	if status.Code(err) != codes.Unavailable {
		t.Errorf("who never answers: %v", err)
	}
}

// Who asks for one thing after another and never says whether he takes what he has been
// sent is cut off, too.
func TestWhoOnlyAsksIsCutOff(t *testing.T) {
	t.Parallel()
	path := limited(t, limits{shake: time.Minute, answer: 200 * time.Millisecond, idle: time.Minute}, 10)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	stream, err := clientOf(t, dialing(path)).DeltaSecrets(ctx)
	if err == nil {
		err = stream.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: resource.SecretType, ResourceNamesSubscribe: []string{"shop"}})
	}
	if err == nil {
		_, err = stream.Recv()
	}
	if err == nil {
		err = stream.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: resource.SecretType, ResourceNamesSubscribe: []string{"other"}})
	}
	for err == nil || errors.Is(err, io.EOF) {
		_, err = stream.Recv()
	}
	if status.Code(err) != codes.Unavailable {
		t.Errorf("who only asks: %v", err)
	}
}

// What one stream may want has an end.
func TestWhoWantsTooMuchIsToldSo(t *testing.T) {
	t.Parallel()
	path := limited(t, limits{shake: time.Minute, answer: time.Minute, idle: time.Minute}, 10)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	stream, err := clientOf(t, dialing(path)).DeltaSecrets(ctx)
	for i := 0; err == nil && i <= maxNames; i += 1000 {
		names := make([]string, 1000)
		for n := range names {
			names[n] = strconv.Itoa(i + n)
		}
		err = stream.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: resource.SecretType, ResourceNamesSubscribe: names})
	}
	for err == nil || errors.Is(err, io.EOF) {
		_, err = stream.Recv()
	}
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("who wants too much: %v", err)
	}
}
