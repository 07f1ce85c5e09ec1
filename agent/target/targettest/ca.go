package targettest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/agent/target"
)

// authority signs the leaves of one test.
type authority struct {
	certificate *x509.Certificate
	key         crypto.Signer
	now         time.Time
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{key: newKey(t), now: time.Now()}
	template := &x509.Certificate{
		SerialNumber: serial(t), Subject: pkix.Name{CommonName: "test CA"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: a.now.Add(-time.Hour), NotAfter: a.now.Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	a.certificate = a.sign(t, template, template, a.key.Public())
	return a
}

func newKey(t *testing.T) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newRSAKey(t *testing.T) crypto.Signer {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func serial(t *testing.T) *big.Int {
	t.Helper()
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 100))
	if err != nil {
		t.Fatal(err)
	}
	return n.Add(n, big.NewInt(1))
}

func (a *authority) sign(t *testing.T, template, parent *x509.Certificate, public crypto.PublicKey) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, a.key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// install is a command to install a new leaf with a new key at a place.
func (a *authority) install(t *testing.T, binding certctl.ID, place string, names ...string) target.Install {
	t.Helper()
	return a.installKey(t, newKey(t), binding, place, names...)
}

// installKey is install with a key of the caller's.
func (a *authority) installKey(t *testing.T, key crypto.Signer, binding certctl.ID, place string, names ...string) target.Install {
	t.Helper()
	leaf := a.sign(t, &x509.Certificate{
		SerialNumber: serial(t), DNSNames: names, NotBefore: a.now.Add(-time.Hour), NotAfter: a.now.Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, a.certificate, key.Public())
	facts, err := certctl.ParseLeaf(leaf.Raw)
	if err != nil {
		t.Fatal(err)
	}
	return target.Install{Key: key, Command: certctl.InstallCommand{
		Deployment: certctl.NewID(a.now), Binding: binding, Certificate: certctl.NewID(a.now), CertificateName: place,
		Place: place, Slot: certctl.SlotDefault, Version: certctl.NewID(a.now), Fingerprint: facts.Fingerprint, SPKI: facts.SPKI,
		Names: facts.Names, Leaf: leaf.Raw, NotAfter: a.now.Add(time.Hour),
	}}
}

// WritePair writes a certificate of another CA, and its key, as PEM.
func WritePair(t *testing.T, certificate, key string, names ...string) {
	t.Helper()
	install := newAuthority(t).install(t, certctl.NoID, "other", names...)
	if err := errors.Join(writeLeaf(certificate, install.Command.Leaf), writeKey(key, install.Key)); err != nil {
		t.Fatal(err)
	}
}

// WriteRSAPair is WritePair with a key of the other algorithm.
func WriteRSAPair(t *testing.T, certificate, key string, names ...string) {
	t.Helper()
	install := newAuthority(t).installKey(t, newRSAKey(t), certctl.NoID, "other", names...)
	if err := errors.Join(writeLeaf(certificate, install.Command.Leaf), writeKey(key, install.Key)); err != nil {
		t.Fatal(err)
	}
}

// writePair puts another leaf with its key in the place of a generation's.
func writePair(dir string, install target.Install) error {
	return errors.Join(writeLeaf(filepath.Join(dir, "cert.pem"), install.Command.Leaf),
		writeLeaf(filepath.Join(dir, "fullchain.pem"), install.Command.Leaf), writeKey(filepath.Join(dir, "privkey.pem"), install.Key))
}

func writeLeaf(path string, der []byte) error {
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600)
}

func writeKey(path string, key crypto.Signer) error {
	encoded, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded}), 0o600)
}
