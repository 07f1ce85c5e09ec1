package probe

import (
	"net"
	"slices"
	"strings"

	"github.com/certctl/certctl"
)

// Address is a listener: host:port where TLS begins at once, or protocol://host:port
// where a client first asks for it.
type Address struct {
	Protocol string // "" for TLS at once
	HostPort string
}

// Protocols are those whose clients ask for TLS in the clear: SMTP (RFC 3207), IMAP
// and POP3 (RFC 2595), LDAP (RFC 4511 section 4.14), FTP (RFC 4217), PostgreSQL and
// MySQL; and NATS, whose server speaks first.
var Protocols = []string{"smtp", "imap", "pop3", "ldap", "ftp", "postgres", "mysql", "nats"}

// ParseAddress reads an address.
func ParseAddress(text string) (Address, error) {
	a := Address{HostPort: text}
	if protocol, rest, ok := strings.Cut(text, "://"); ok {
		a = Address{Protocol: protocol, HostPort: rest}
		if !slices.Contains(Protocols, protocol) {
			return a, certctl.Errorf(certctl.Invalid, "%s is none of %s", certctl.Clip(protocol, 20), strings.Join(Protocols, ", "))
		}
	}
	host, port, err := net.SplitHostPort(a.HostPort)
	if err != nil || host == "" || port == "" {
		return a, certctl.Errorf(certctl.Invalid, "must be host:port, or protocol://host:port")
	}
	return a, nil
}
