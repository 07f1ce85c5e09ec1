package agent

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"github.com/certctl/certctl"
)

// EnrolOptions say how a machine becomes an agent.
type EnrolOptions struct {
	Server        string // https://host[:port]
	Token         string
	CAFingerprint string // SHA-256 of the root's DER, hex; colons and "sha256:" are fine
	Name          string
	Dir           string // the state directory
	MachineID     string // "" = the machine's own
	Labels        map[string]string
	Version       string // of this program

	// NewBusKey makes an nkey user key pair.
	NewBusKey func() (seed []byte, public string, err error)
}

// Enrol makes this machine an agent: it makes three key pairs, sends the public
// halves with the join token to the server whose root has the fingerprint, and
// keeps the answer. The token is sent to nobody else. Enrolling again at the
// same server is no error and changes nothing; when it was cut off, the same
// token and directory continue where it ended.
func Enrol(ctx context.Context, o EnrolOptions) (Identity, error) {
	base, err := serverURL(o.Server)
	if err != nil {
		return Identity{}, err
	}
	pin, err := ParseFingerprint(o.CAFingerprint)
	if err != nil {
		return Identity{}, err
	}
	if err := makeStateDirectory(o.Dir); err != nil {
		return Identity{}, err
	}
	switch existing, err := LoadIdentity(o.Dir); {
	case err == nil && existing.CAFingerprint == pin:
		return existing, nil
	case err == nil:
		return Identity{}, certctl.Errorf(certctl.Conflict, "this node is enrolled already, as %s at %s", existing.Name, existing.Server).
			WithRemedy("give another state directory, or retire that agent and remove %s", o.Dir)
	case certctl.ErrorCode(err) != certctl.NotFound:
		return Identity{}, err
	}
	request, err := enrolment(o)
	if err != nil {
		return Identity{}, err
	}
	client := apiClient{tls: pinned(pin, base.Hostname()), version: o.Version}
	var answer certctl.Enrolled
	if err := join(ctx, client, base.JoinPath("/api/v1/agents/enroll").String(), request, &answer); err != nil {
		return Identity{}, err
	}
	id := Identity{
		Installation: answer.Installation, Agent: answer.Agent, Name: answer.Name, Server: base.String(),
		MachineID: request.MachineID, CAFingerprint: pin, FleetKey: answer.FleetKey,
	}
	return id, keep(o.Dir, id, answer)
}

// A platform that answers without being ready, because its signer is starting, is
// asked again for a while: the same token and keys get the same answer.
const (
	joinPatience = 20 * time.Second
	joinPause    = 500 * time.Millisecond
)

func join(ctx context.Context, client apiClient, url string, request certctl.Enrolment, answer *certctl.Enrolled) error {
	ctx, cancel := context.WithTimeout(ctx, joinPatience)
	defer cancel()
	for {
		err := client.call(ctx, url, request, answer)
		said := certctl.ErrorCode(err) == certctl.Unavailable && errors.Unwrap(err) == nil // by the platform itself
		if !said || !sleep(ctx, max(joinPause, retryAfter(err))) {
			return err
		}
	}
}

// enrolment makes the keys and the request.
func enrolment(o EnrolOptions) (certctl.Enrolment, error) {
	if err := certctl.CheckObjectName(o.Name); err != nil {
		return certctl.Enrolment{}, err
	}
	if err := certctl.CheckLabels(o.Labels); err != nil {
		return certctl.Enrolment{}, err
	}
	keys, err := ensureNodeKeys(o.Dir, o.NewBusKey)
	if err != nil {
		return certctl.Enrolment{}, err
	}
	public, err := keys.public()
	if err != nil {
		return certctl.Enrolment{}, err
	}
	machine := o.MachineID
	if machine == "" {
		if machine, err = machineID(o.Dir, machineIDFile); err != nil {
			return certctl.Enrolment{}, err
		}
	}
	return certctl.Enrolment{
		Token: o.Token, Name: o.Name, MachineID: machine, Keys: public, Version: o.Version, Labels: o.Labels,
	}, nil
}

// keep verifies the answer and makes it durable, the identity last: it is what
// says that the node is enrolled.
func keep(dir string, id Identity, answer certctl.Enrolled) error {
	if id.Agent.IsZero() || id.Installation.IsZero() || len(id.FleetKey) != 32 {
		return certctl.Errorf(certctl.Unavailable, "the server's answer is not what this agent understands")
	}
	trust := &Trust{path: filepath.Join(dir, "trust.json"), installation: id.Installation, fleet: id.FleetKey}
	document, _, err := trust.read(answer.Trust)
	if err != nil {
		return err
	}
	if !holdsFingerprint(document.CABundle, id.CAFingerprint) {
		return certctl.Errorf(certctl.Denied, "the server's trust document does not name the CA with the given fingerprint")
	}
	if err := saveJSON(trust.path, answer.Trust); err != nil {
		return err
	}
	return saveJSON(filepath.Join(dir, "identity.json"), id)
}

func holdsFingerprint(bundle string, pin certctl.Digest) bool {
	for block, rest := pem.Decode([]byte(bundle)); block != nil; block, rest = pem.Decode(rest) {
		if certctl.DigestOf(block.Bytes) == pin {
			return true
		}
	}
	return false
}

func serverURL(text string) (*url.URL, error) {
	parsed, err := url.Parse(strings.TrimSuffix(text, "/"))
	if err != nil || parsed.Scheme != "https" || parsed.Hostname() == "" || parsed.User != nil || parsed.RawQuery != "" {
		return nil, certctl.Errorf(certctl.Invalid, "the server's URL must have the form https://host:port, not %q", certctl.Clip(text, 100))
	}
	return parsed, nil
}

// ParseFingerprint reads a SHA-256 fingerprint as the usual tools print it.
func ParseFingerprint(text string) (certctl.Digest, error) {
	clean := strings.ToLower(strings.ReplaceAll(strings.TrimSpace(text), ":", ""))
	decoded, err := hex.DecodeString(strings.TrimPrefix(clean, "sha256"))
	if err != nil || len(decoded) != sha256.Size {
		return certctl.Digest{}, certctl.Errorf(certctl.Invalid, "a CA fingerprint is the SHA-256 of its DER: 64 hex digits").
			WithRemedy("the server's operator gets it with: openssl x509 -in ca.crt -noout -fingerprint -sha256")
	}
	return certctl.Digest(decoded), nil
}

// pinned returns TLS settings under which a server is believed if and only if it
// presents a certificate with the fingerprint and its own one verifies up to
// that. Servers of this platform send their root along for this purpose.
func pinned(pin certctl.Digest, host string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		// The library's check would ask the system's roots; VerifyConnection
		// replaces it, and runs for resumed sessions, too.
		InsecureSkipVerify: true,
		VerifyConnection: func(state tls.ConnectionState) error {
			return verifyPinned(state.PeerCertificates, pin, host)
		},
	}
}

func verifyPinned(presented []*x509.Certificate, pin certctl.Digest, host string) error {
	roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
	found := false
	for _, certificate := range presented {
		if certctl.DigestOf(certificate.Raw) == pin {
			roots.AddCert(certificate)
			found = true
		} else {
			intermediates.AddCert(certificate)
		}
	}
	if !found {
		return certctl.Errorf(certctl.Denied, "the server does not present the CA with the fingerprint %s", pin).
			WithRemedy("compare the fingerprint with the server's operator; somebody may be in between")
	}
	_, err := presented[0].Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: intermediates, DNSName: host,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	if err != nil {
		return certctl.Wrap(certctl.Denied, err, "the server's certificate is not signed by the CA with the given fingerprint")
	}
	return nil
}
