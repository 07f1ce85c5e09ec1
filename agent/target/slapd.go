package target

import (
	"context"
	"encoding/json"

	"github.com/certctl/certctl"
)

var slapdKind = Descriptor{
	Kind: "slapd", Title: "OpenLDAP", Rollback: true, Probe: true, open: openSlapd,
}

// slapdSettings are the settings of a target of kind slapd.
type slapdSettings struct {
	// Directory holds the places.
	Directory string `json:"directory"`
	ownership
	// Control is the path of the socket ldapi, at which the agent's user may change cn=config.
	Control string `json:"control,omitempty"`
	// Reload is an argument vector to run instead, for a slapd without cn=config: a restart.
	Reload []string `json:"reload,omitempty"`
	// Listen are the addresses to probe: ldap://host:port for StartTLS, host:port for ldaps.
	Listen []string `json:"listen"`
}

// slapd is told its files by a change of cn=config, also when they are the same,
// and takes them with the connections that come then. All else waits for a change of
// cn=config, so that the kind is not hitless.
type slapd struct {
	*owned
	settings slapdSettings
}

func openSlapd(raw json.RawMessage) (driver, error) {
	s := slapdSettings{ownership: ownership{Owner: "openldap"}, Control: "/run/slapd/ldapi"}
	if err := decode(raw, &s); err != nil {
		return nil, err
	}
	var bad certctl.FieldErrors
	l := &slapd{settings: s, owned: newOwned(ownedSettings{
		Directory: s.Directory, ownership: s.ownership, Reload: s.Reload, Listen: s.Listen,
	}, daemon{}, &bad)}
	checkAddresses(&bad, "listen", s.Listen)
	if len(s.Reload) > 0 {
		absolute(&bad, "reload/0", s.Reload[0])
	}
	absolute(&bad, "control", s.Control)
	return l, bad.Err()
}

func (l *slapd) allowed(p Policy) error {
	if len(l.settings.Reload) == 0 {
		if err := p.AllowConfig(l.settings.Control); err != nil {
			return err
		}
	}
	return l.owned.allowed(p)
}

func (l *slapd) reload(ctx context.Context) error {
	if len(l.settings.Reload) > 0 {
		return l.owned.reload(ctx)
	}
	conn, err := dialControl(ctx, "unix", l.settings.Control)
	if err != nil {
		return err
	}
	defer conn.Close()
	session := &ldap{conn: conn}
	if err := session.bind(); err != nil {
		return err
	}
	return tellAgain(ctx, slapdTeller{session, l.settings.ownership}, l.settings.Directory)
}

const (
	slapdConfig         = "cn=config"
	slapdCertificateKey = "olcTLSCertificateKeyFile"
	slapdCertificate    = "olcTLSCertificateFile"
)

// slapdTeller changes cn=config. A change that slapd refuses leaves it without TLS
// until the next that it takes, so that it is not told of files it cannot read.
type slapdTeller struct {
	session *ldap
	owner   ownership
}

func (t slapdTeller) names(context.Context) (certificate, key string, err error) {
	found, err := t.session.attributes(slapdConfig, slapdCertificate, slapdCertificateKey)
	return found[slapdCertificate], found[slapdCertificateKey], err
}

func (t slapdTeller) tell(_ context.Context, certificate, key string) error {
	for _, path := range []string{certificate, key} {
		if err := t.owner.readable(path); err != nil {
			return err
		}
	}
	return t.session.replace(slapdConfig,
		ldapAttribute{Type: []byte(slapdCertificate), Values: [][]byte{[]byte(certificate)}},
		ldapAttribute{Type: []byte(slapdCertificateKey), Values: [][]byte{[]byte(key)}})
}
