package agent

import (
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/certctl/certctl"
)

// Trust is whom the agent believes: the newest trust document it has seen. Its
// version only rises, also across restarts, and only the pinned fleet key's
// signature counts, whatever channel a document came through.
//
// It is safe for concurrent use.
type Trust struct {
	path         string
	installation certctl.ID
	fleet        ed25519.PublicKey

	mu       sync.RWMutex // guards the two below
	document certctl.TrustDocument
	roots    *x509.CertPool
}

// openTrust reads the document in the state directory of an enrolled node.
func openTrust(dir string, id Identity) (*Trust, error) {
	t := &Trust{path: filepath.Join(dir, "trust.json"), installation: id.Installation, fleet: id.FleetKey}
	var stored certctl.Statement
	if err := loadJSON(t.path, &stored); err != nil {
		return nil, err
	}
	document, roots, err := t.read(stored)
	if err != nil {
		return nil, err
	}
	t.document, t.roots = document, roots
	return t, nil
}

// read verifies a statement and returns what it says.
func (t *Trust) read(s certctl.Statement) (certctl.TrustDocument, *x509.CertPool, error) {
	var document certctl.TrustDocument
	if err := s.Verify(certctl.DomainTrust, t.fleet); err != nil {
		return document, nil, err
	}
	if err := s.Decode(&document); err != nil {
		return document, nil, err
	}
	if s.Installation != t.installation || document.Installation != t.installation {
		return document, nil, certctl.Errorf(certctl.Denied, "this trust document is of another installation")
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(document.CABundle)) {
		return document, nil, certctl.Errorf(certctl.Invalid, "this trust document names no CA")
	}
	return document, roots, nil
}

// Accept takes a newer document over and reports whether it did. One that is
// not newer is no error. The new one is on disk before it is believed.
func (t *Trust) Accept(s certctl.Statement) (bool, error) {
	document, roots, err := t.read(s)
	if err != nil {
		return false, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if document.Version <= t.document.Version {
		return false, nil
	}
	if err := saveJSON(t.path, s); err != nil {
		return false, err
	}
	t.document, t.roots = document, roots
	return true, nil
}

// Document returns the newest document.
func (t *Trust) Document() certctl.TrustDocument {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.document
}

// TLS returns the settings for connections to the API and the bus: TLS 1.3, the
// document's CAs.
func (t *Trust) TLS() *tls.Config {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: t.roots}
}

// VerifyCommand reports whether a command key signed s within the key's time.
func (t *Trust) VerifyCommand(s certctl.Statement) error {
	keys := t.Document().CommandKeys
	i := slices.IndexFunc(keys, func(k certctl.CommandKey) bool {
		return len(k.Public) == ed25519.PublicKeySize && certctl.KeyID(k.Public) == s.Key
	})
	if i < 0 {
		return certctl.Errorf(certctl.Denied, "this command is signed by key %s, which trust document %d does not name",
			certctl.Clip(s.Key, 16), t.Document().Version)
	}
	if err := s.Verify(certctl.DomainCommand, keys[i].Public); err != nil {
		return err
	}
	if outside(s.Time, keys[i].NotBefore, keys[i].NotAfter) {
		return certctl.Errorf(certctl.Denied, "this command was signed at %s, outside of its key's time", s.Time.Format(time.RFC3339))
	}
	return nil
}

// outside compares at the second precision of statements.
func outside(at, notBefore, notAfter time.Time) bool {
	return at.Before(notBefore.Truncate(time.Second)) || at.After(notAfter)
}
