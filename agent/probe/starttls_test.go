package probe_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/agent/probe"
)

// exchange is what a server says, and what it expects then.
type exchange struct {
	say    string
	expect string
}

// Greetings of real servers, byte by byte where the protocol is binary.
var mysqlGreeting = mysqlPacket("\x0a10.11.6-MariaDB\x00\x08\x00\x00\x00abcdefgh\x00\xfe\xff\x2d\x02\x00\xff\x81\x15" +
	"\x00\x00\x00\x00\x00\x00\x1d\x00\x00\x00ijklmnopqrst\x00mysql_native_password\x00")

// mysqlPacket is the first packet of a conversation.
func mysqlPacket(payload string) string { return string([]byte{byte(len(payload)), 0, 0, 0}) + payload }

const mysqlRequest = "\x20\x00\x00\x01\x01\x8a\x00\x00\x00\x00\x00\x01\x2d" +
	"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

const ldapRequest = "\x30\x1d\x02\x01\x01\x77\x18\x80\x161.3.6.1.4.1.1466.20037"

// scripts are of servers that begin TLS after them.
var scripts = map[string][]exchange{
	"smtp": {
		{"220-mail.example.com\r\n220 ready\r\n", "EHLO certctl.invalid\r\n"},
		{"250-mail.example.com\r\n250-PIPELINING\r\n250-STARTTLS\r\n250 8BITMIME\r\n", "STARTTLS\r\n"},
		{"220 2.0.0 Ready to start TLS\r\n", ""},
	},
	"imap": {
		{"* OK [CAPABILITY IMAP4rev1 STARTTLS] Dovecot ready.\r\n", "a STARTTLS\r\n"},
		{"* CAPABILITY IMAP4rev1\r\na OK Begin TLS negotiation now.\r\n", ""},
	},
	"pop3":     {{"+OK ready\r\n", "STLS\r\n"}, {"+OK Begin TLS\r\n", ""}},
	"ldap":     {{"", ldapRequest}, {"\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x00\x04\x00\x04\x00", ""}},
	"postgres": {{"", "\x00\x00\x00\x08\x04\xd2\x16\x2f"}, {"S", ""}},
	"mysql":    {{mysqlGreeting, mysqlRequest}},
	"nats":     {{`INFO {"server_id":"N","version":"2.15.2","headers":true,"max_payload":1048576,"tls_required":true} ` + "\r\n", ""}},
	"ftp":      {{"220-Welcome to\r\n 530 files\r\n220 (vsFTPd 3.0.3)\r\n", "AUTH TLS\r\n"}, {"234 Proceed with negotiation.\r\n", ""}},
}

// serve plays a script to each connection, and then TLS with a certificate of its
// own, whose digest it returns.
func serve(t *testing.T, script []exchange) (address string, digest certctl.Digest) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	config := &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS12}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go play(conn, script, config)
		}
	}()
	return listener.Addr().String(), certctl.DigestOf(der)
}

func play(conn net.Conn, script []exchange, config *tls.Config) {
	defer conn.Close()
	for _, e := range script {
		if _, err := io.WriteString(conn, e.say); err != nil {
			return
		}
		got := make([]byte, len(e.expect))
		if _, err := io.ReadFull(conn, got); err != nil || string(got) != e.expect {
			return
		}
	}
	_ = tls.Server(conn, config).HandshakeContext(context.Background()) // the client looks at its outcome
}

func TestTLSBeginsAsTheProtocolHasIt(t *testing.T) {
	t.Parallel()
	for _, protocol := range append([]string{""}, probe.Protocols...) {
		address, want := serve(t, scripts[protocol])
		if protocol != "" {
			address = protocol + "://" + address
		}
		served, err := probe.TLS(t.Context(), address, "shop.example.com")
		if err != nil || served.Fingerprint != want || served.Address != address {
			t.Errorf("%s: %+v, %v", protocol, served, err)
		}
	}
}

func TestServersThatDoNotBeginTLS(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ protocol, say string }{
		"busy":               {"smtp", "421 too busy\r\n"},
		"nothing offered":    {"smtp", "220 hello\r\n250-mail\r\n250 PIPELINING\r\n"},
		"refused":            {"smtp", "220 hello\r\n250 STARTTLS\r\n454 not available\r\n"},
		"a line without end": {"smtp", "220 " + strings.Repeat("x", 5000)},
		"lines without end":  {"smtp", strings.Repeat("220-x\r\n", 200)},
		"bye":                {"imap", "* BYE\r\n"},
		"bad":                {"imap", "* OK\r\na BAD unknown command\r\n"},
		"chatter":            {"imap", "* OK\r\n" + strings.Repeat("* x\r\n", 200)},
		"err":                {"pop3", "+OK\r\n-ERR no\r\n"},
		"no TLS":             {"ftp", "220 hello\r\n530 Please login with USER and PASS.\r\n"},
		"closed":             {"ftp", "421 too many users\r\n"},
		"a reply for ever":   {"ftp", "220-x\r\n" + strings.Repeat("y\r\n", 200)},
		"unavailable":        {"ldap", "\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x34\x04\x00\x04\x00"},
		"another message":    {"ldap", "\x30\x0c\x02\x01\x01\x61\x07\x0a\x01\x00\x04\x00\x04\x00"},
		"a huge message":     {"ldap", "\x30\x84\x7f\xff\xff\xff"},
		"in the clear":       {"nats", "INFO {\"server_id\":\"N\",\"max_payload\":1048576}\r\n"},
		"no NATS":            {"nats", "220 hello\r\n"},
		"half an object":     {"nats", "INFO {\"tls_required\":true\r\n"},
		"much to say":        {"nats", "INFO " + strings.Repeat("x", 10000)},
		"no ssl":             {"postgres", "N"},
		"an error":           {"postgres", "E"},
		"an old server":      {"mysql", "\x05\x00\x00\x00\x095.0\x00"},
		"no capability":      {"mysql", strings.Replace(mysqlGreeting, "\xfe\xff\x2d", "\xfe\xf7\x2d", 1)},
		"a short greeting":   {"mysql", "\x03\x00\x00\x00\x0a5\x00"},
	} {
		address, _ := serve(t, []exchange{{c.say, strings.Repeat("x", 1000)}})
		if served, err := probe.TLS(t.Context(), c.protocol+"://"+address, ""); err == nil {
			t.Errorf("%s: %+v", name, served)
		}
	}
}

// Why a server refuses is for somebody to read.
func TestMySQLSaysWhy(t *testing.T) {
	t.Parallel()
	address, _ := serve(t, []exchange{{mysqlPacket("\xff\x6a\x04Host '127.0.0.1' is not allowed to connect"), "x"}})
	if _, err := probe.TLS(t.Context(), "mysql://"+address, ""); err == nil || !strings.Contains(err.Error(), "is not allowed to connect") {
		t.Error(err)
	}
}

func TestParseAddress(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]probe.Address{
		"127.0.0.1:443": {HostPort: "127.0.0.1:443"}, "smtp://[::1]:25": {Protocol: "smtp", HostPort: "[::1]:25"},
	} {
		if got, err := probe.ParseAddress(text); err != nil || got != want {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "127.0.0.1", ":25", "tftp://127.0.0.1:21", "smtp://127.0.0.1", "smtp:127.0.0.1:25"} {
		if a, err := probe.ParseAddress(text); certctl.ErrorCode(err) != certctl.Invalid {
			t.Errorf("%s: %+v, %v", text, a, err)
		}
	}
}

// recorded is a server that has said all that it will.
type recorded struct {
	io.Reader
	io.Writer
}

func FuzzStartTLS(f *testing.F) {
	for protocol, script := range scripts {
		var said bytes.Buffer
		for _, e := range script {
			said.WriteString(e.say)
		}
		f.Add(protocol, said.Bytes())
	}
	f.Fuzz(func(t *testing.T, protocol string, said []byte) {
		left := bytes.NewReader(said)
		err := probe.Start(protocol, recorded{left, io.Discard})
		if err == nil && protocol == "postgres" && said[0] != 'S' {
			t.Errorf("%q begins TLS", said)
		}
	})
}
