package sds_test

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"testing"

	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/agent/target"
	"github.com/certctl/certctl/agent/target/targettest"
)

// readSecret reads a file as Envoy does: a response of its discovery services.
func readSecret(path string) (*tlsv3.Secret, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var response discoveryv3.DiscoveryResponse
	if err := protojson.Unmarshal(content, &response); err != nil {
		return nil, err
	}
	var secret tlsv3.Secret
	if err := response.GetResources()[0].UnmarshalTo(&secret); err != nil {
		return nil, err
	}
	return &secret, secret.ValidateAll()
}

// reader stands for an Envoy that watches a directory: what it cannot read leaves
// the secret before in force.
type reader struct {
	client
	directory string
}

func (r *reader) choose(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	for _, name := range names {
		secret, err := readSecret(filepath.Join(r.directory, name, "current", "sds.json"))
		if err != nil || secret.GetName() != name {
			continue
		}
		pair, err := tls.X509KeyPair([]byte(secret.GetTlsCertificate().GetCertificateChain().GetInlineString()),
			[]byte(secret.GetTlsCertificate().GetPrivateKey().GetInlineString()))
		if err != nil {
			continue
		}
		if pair.Leaf, err = x509.ParseCertificate(pair.Certificate[0]); err != nil {
			continue
		}
		r.mu.Lock()
		if !r.refuses {
			r.secrets[name] = &pair
		}
		r.mu.Unlock()
	}
	return r.client.choose(hello)
}

func startFileSDS(t *testing.T) *targettest.Daemon {
	t.Helper()
	dir := t.TempDir()
	targettest.WritePair(t, filepath.Join(dir, "cert"), filepath.Join(dir, "key"), "envoy.example.com")
	own, err := tls.LoadX509KeyPair(filepath.Join(dir, "cert"), filepath.Join(dir, "key"))
	must(t, err)
	r := &reader{directory: filepath.Join(dir, "tls")}
	r.secrets = map[string]*tls.Certificate{"": &own}
	r.listener, err = tls.Listen("tcp", "127.0.0.1:0", &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: r.choose}) //nolint:noctx // for the whole test
	must(t, err)
	t.Cleanup(func() { _ = r.listener.Close() })
	go r.shakeHands()
	address := r.listener.Addr().String()
	spec := specOf(t, map[string]any{"directory": r.directory, "listen": []string{address}})
	spec.Kind = "envoy"
	return &targettest.Daemon{
		Spec: spec, Directory: r.directory, Policy: anything{}, Address: address,
		// What it does not take it does not serve, and there is no complaint of its own.
		Break: func() { r.refuse(true) }, Repair: func() { r.refuse(false) },
	}
}

func TestFiles(t *testing.T) {
	t.Parallel()
	targettest.Run(t, startFileSDS)
}

func TestFileSettings(t *testing.T) {
	t.Parallel()
	for name, settings := range map[string]string{
		"a relative directory": `{"directory": "tls", "listen": []}`,
		"no address":           `{"directory": "/srv/tls", "listen": ["443"]}`,
		"a reload":             `{"directory": "/srv/tls", "listen": [], "reload": ["/bin/true"]}`,
	} {
		if err := target.Validate("envoy", []byte(settings)); certctl.ErrorCode(err) != certctl.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	must(t, target.Validate("envoy", []byte(`{"directory": "/srv/tls", "owner": "envoy", "listen": ["127.0.0.1:443"]}`)))
	for kind, is := range map[string]bool{"envoy": true, "nginx": false, "of none": false} {
		if target.Kinds().Experimental(kind) != is {
			t.Errorf("%s: experimental is %t", kind, !is)
		}
	}
}
