package notifier_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"net/mail"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/handlers/notifier"
	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
)

// postbox is a mail server that keeps what it gets.
type postbox struct {
	t      testing.TB
	port   int
	bundle string

	mu     sync.Mutex
	mails  []string
	rcpts  []string
	logins []string
	refuse error
}

// newPostbox starts one; how says how connections are protected.
func newPostbox(t testing.TB, how string) *postbox {
	t.Helper()
	p := &postbox{t: t}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	p.bundle = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	server := smtp.NewServer(p)
	server.Domain = "localhost"
	if how != "none" {
		server.TLSConfig = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS12}
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p.port = listener.Addr().(*net.TCPAddr).Port
	if how == "implicit" {
		listener = tls.NewListener(listener, server.TLSConfig)
	}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
	return p
}

// NewSession implements smtp.Backend.
func (p *postbox) NewSession(*smtp.Conn) (smtp.Session, error) { return &letter{p: p}, nil }

type letter struct{ p *postbox }

func (l *letter) AuthMechanisms() []string { return []string{sasl.Plain} }

func (l *letter) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, username, password string) error {
		if username != "certctl" || password != "hunter2hunter2" {
			return errors.New("wrong password")
		}
		l.p.mu.Lock()
		defer l.p.mu.Unlock()
		l.p.logins = append(l.p.logins, username)
		return nil
	}), nil
}

func (l *letter) Mail(string, *smtp.MailOptions) error {
	l.p.mu.Lock()
	defer l.p.mu.Unlock()
	return l.p.refuse
}

func (l *letter) Rcpt(to string, _ *smtp.RcptOptions) error {
	l.p.mu.Lock()
	defer l.p.mu.Unlock()
	l.p.rcpts = append(l.p.rcpts, to)
	return nil
}

func (l *letter) Data(r io.Reader) error {
	body, err := io.ReadAll(r)
	l.p.mu.Lock()
	defer l.p.mu.Unlock()
	l.p.mails = append(l.p.mails, string(body))
	return err
}

func (*letter) Reset()        {}
func (*letter) Logout() error { return nil }

func (p *postbox) settings(how string) map[string]any {
	return map[string]any{
		"to": []string{"ops@example.com", "pki@example.com"}, "from": "certctl <certctl@example.com>", "host": "127.0.0.1", "port": p.port, "tls": how,
		"allow_private_networks": true, "ca_bundle": p.bundle, "username": "certctl",
	}
}

func TestMailsGoOverStartTLSAndImplicitTLS(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"starttls", "implicit"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			p := newPostbox(t, how)
			n := open(t, "email", p.settings(how), map[string]string{"password": "hunter2hunter2"})
			first := expiring("shop")
			ok(t, n.Notify(t.Context(), []certctl.Notification{first, about(certctl.EventIssuerDown, map[string]any{"name": "letsencrypt"})}))
			if len(p.mails) != 1 || len(p.logins) != 1 || strings.Join(p.rcpts, " ") != "ops@example.com pki@example.com" {
				t.Fatalf("%d mails, logins %v, to %v", len(p.mails), p.logins, p.rcpts)
			}
			got, err := mail.ReadMessage(strings.NewReader(p.mails[0]))
			if err != nil {
				t.Fatal(err)
			}
			if subject := got.Header.Get("Subject"); subject != "[certctl] critical: certificate expires soon: shop (and 1 more)" {
				t.Errorf("subject %q", subject)
			}
			if id := got.Header.Get("Message-ID"); id != "<"+first.ID.String()+"@example.com>" || got.Header.Get("Auto-Submitted") != "auto-generated" {
				t.Errorf("headers %v", got.Header)
			}
			body, err := io.ReadAll(got.Body)
			if err != nil || !strings.Contains(string(body), "ERROR issuer does not answer: letsencrypt") {
				t.Errorf("%s %v", body, err)
			}
		})
	}
}

// Nothing is said to a server that cannot prove who it is, or does not encrypt.
func TestMailsAreNotSentInTheOpen(t *testing.T) {
	t.Parallel()
	plain := newPostbox(t, "none")
	errs := open(t, "email", plain.settings("starttls"), map[string]string{"password": "hunter2hunter2"}).Notify(t.Context(), []certctl.Notification{expiring("shop")})
	if certctl.ErrorCode(errs[0]) != certctl.Unavailable || !strings.Contains(strings.ToLower(errs[0].Error()), "starttls") {
		t.Errorf("a server without STARTTLS: %v", errs[0])
	}
	stranger := newPostbox(t, "starttls")
	settings := stranger.settings("starttls")
	delete(settings, "ca_bundle")
	errs = open(t, "email", settings, map[string]string{"password": "hunter2hunter2"}).Notify(t.Context(), []certctl.Notification{expiring("shop")})
	if errs[0] == nil || !strings.Contains(errs[0].Error(), "certificate") {
		t.Errorf("a server whose certificate nobody knows: %v", errs[0])
	}
	if len(plain.mails)+len(stranger.mails)+len(plain.logins)+len(stranger.logins) != 0 {
		t.Error("something was sent")
	}
}

func TestAMailServersRefusalIsTold(t *testing.T) {
	t.Parallel()
	p := newPostbox(t, "starttls")
	errs := open(t, "email", p.settings("starttls"), map[string]string{"password": "wrong-password"}).Notify(t.Context(), []certctl.Notification{expiring("shop")})
	if errs[0] == nil || strings.Contains(errs[0].Error(), "wrong-password") {
		t.Errorf("a wrong password: %v", errs[0])
	}
	p.refuse = &smtp.SMTPError{Code: 550, Message: "not from there"}
	errs = open(t, "email", p.settings("starttls"), map[string]string{"password": "hunter2hunter2"}).Notify(t.Context(), []certctl.Notification{expiring("shop")})
	if certctl.ErrorCode(errs[0]) != certctl.Unavailable || !strings.Contains(errs[0].Error(), "not from there") {
		t.Errorf("a refusal: %v", errs[0])
	}
}

func TestTheRelayOfTheConfigurationIsUsed(t *testing.T) {
	t.Parallel()
	p := newPostbox(t, "none")
	settings, err := json.Marshal(map[string]any{"to": []string{"ops@example.com"}})
	if err != nil {
		t.Fatal(err)
	}
	channel := certctl.Channel{Name: "ops", Kind: "email", Settings: settings}
	if _, err := notifier.Open(notifier.Config{}, channel, nil); certctl.ErrorCode(err) != certctl.Unavailable {
		t.Errorf("without a server: %v", err)
	}
	relay := notifier.Relay{Host: "127.0.0.1", Port: p.port, TLS: "none", From: "certctl@example.com"}
	n, err := notifier.Open(notifier.Config{Relay: relay}, channel, nil)
	if err != nil {
		t.Fatal(err)
	}
	ok(t, n.Notify(t.Context(), []certctl.Notification{expiring("shop")}))
	if len(p.mails) != 1 {
		t.Errorf("%d mails", len(p.mails))
	}
}
