package remote_test

import (
	"crypto/tls"
	"sync/atomic"
	"testing"
)

// serveStored is a load balancer that serves what its vendor has stored, unless it is
// stuck: then what that was.
func serveStored(t *testing.T, stuck *atomic.Bool, stored func() *tls.Certificate) (address string) {
	t.Helper()
	var last atomic.Pointer[tls.Certificate]
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		if !stuck.Load() {
			last.Store(stored())
		}
		return last.Load(), nil
	}})
	must(t, err)
	t.Cleanup(func() { _ = listener.Close() }) // it ends what accepts
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				if secure, ok := conn.(*tls.Conn); ok {
					_ = secure.HandshakeContext(t.Context()) // the client sees how it ends
				}
			}()
		}
	}()
	return listener.Addr().String()
}

// handshake has the load balancer serve once.
func handshake(t *testing.T, address string) {
	t.Helper()
	conn, err := (&tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}}).DialContext(t.Context(), "tcp", address)
	must(t, err)
	must(t, conn.Close())
}
