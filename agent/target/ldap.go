package target

import (
	"encoding/asn1"
	"io"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/agent/probe"
)

// Operations of LDAP (RFC 4511), by the tag of their request or response.
const (
	ldapBindRequest    = "application,tag:0"
	ldapBindResponse   = "application,tag:1"
	ldapSearchRequest  = "application,tag:3"
	ldapSearchEntry    = "application,tag:4"
	ldapSearchDone     = "application,tag:5"
	ldapModifyRequest  = "application,tag:6"
	ldapModifyResponse = "application,tag:7"

	ldapReplace = asn1.Enumerated(2)
)

type ldapMessage struct {
	ID int
	Op asn1.RawValue
}

type ldapBind struct {
	Version int
	Name    []byte
	SASL    struct{ Mechanism, Credentials []byte } `asn1:"tag:3"`
}

type ldapSearch struct {
	Base       []byte
	Scope      asn1.Enumerated
	Aliases    asn1.Enumerated
	SizeLimit  int
	TimeLimit  int
	TypesOnly  bool
	Filter     asn1.RawValue
	Attributes [][]byte
}

type ldapAttribute struct {
	Type   []byte
	Values [][]byte `asn1:"set"`
}

type ldapEntry struct {
	Name       []byte
	Attributes []ldapAttribute
}

type ldapChange struct {
	Operation asn1.Enumerated
	Attribute ldapAttribute
}

type ldapModify struct {
	Object  []byte
	Changes []ldapChange
}

type ldapResult struct {
	Code                asn1.Enumerated
	MatchedDN, Describe []byte
}

// ldap is a session on a socket, whose other end knows who is there.
type ldap struct {
	conn io.ReadWriter
	id   int
}

// bind logs in as the user that the agent runs as.
func (l *ldap) bind() error {
	request := ldapBind{Version: 3}
	request.SASL.Mechanism = []byte("EXTERNAL")
	if err := l.send(request, ldapBindRequest); err != nil {
		return err
	}
	op, err := l.receive()
	if err != nil {
		return err
	}
	return ldapOutcome(op, ldapBindResponse, "the log-in")
}

// attributes reads an entry's, of those that are asked for.
func (l *ldap) attributes(name string, wanted ...string) (map[string]string, error) {
	// The filter is (objectClass=*), which every entry meets; the scope is the entry.
	request := ldapSearch{Base: []byte(name), Filter: asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 7, Bytes: []byte("objectClass")}}
	for _, attribute := range wanted {
		request.Attributes = append(request.Attributes, []byte(attribute))
	}
	if err := l.send(request, ldapSearchRequest); err != nil {
		return nil, err
	}
	found := map[string]string{}
	op, err := l.receive()
	if err != nil {
		return nil, err
	}
	var entry ldapEntry
	if _, err := asn1.UnmarshalWithParams(op, &entry, ldapSearchEntry); err == nil {
		for _, attribute := range entry.Attributes {
			for _, value := range attribute.Values {
				found[string(attribute.Type)] = string(value)
			}
		}
		if op, err = l.receive(); err != nil {
			return nil, err
		}
	}
	return found, ldapOutcome(op, ldapSearchDone, "the search")
}

// replace sets attributes of an entry together.
func (l *ldap) replace(name string, attributes ...ldapAttribute) error {
	request := ldapModify{Object: []byte(name)}
	for _, attribute := range attributes {
		request.Changes = append(request.Changes, ldapChange{Operation: ldapReplace, Attribute: attribute})
	}
	if err := l.send(request, ldapModifyRequest); err != nil {
		return err
	}
	op, err := l.receive()
	if err != nil {
		return err
	}
	return ldapOutcome(op, ldapModifyResponse, "the change of "+name)
}

func (l *ldap) send(operation any, tag string) error {
	op, err := asn1.MarshalWithParams(operation, tag)
	if err != nil {
		return err
	}
	l.id++
	message, err := asn1.Marshal(ldapMessage{ID: l.id, Op: asn1.RawValue{FullBytes: op}})
	if err != nil {
		return err
	}
	_, err = l.conn.Write(message)
	return err
}

// receive reads the answer to what was sent last.
func (l *ldap) receive() ([]byte, error) {
	raw, err := probe.ReadLDAP(l.conn)
	if err != nil {
		return nil, err
	}
	var message ldapMessage
	if _, err := asn1.Unmarshal(raw, &message); err != nil || message.ID != l.id {
		return nil, certctl.Errorf(certctl.Conflict, "slapd answers something else than LDAP")
	}
	return message.Op.FullBytes, nil
}

func ldapOutcome(op []byte, tag, what string) error {
	var result ldapResult
	if _, err := asn1.UnmarshalWithParams(op, &result, tag); err != nil {
		return certctl.Wrap(certctl.Conflict, err, "slapd does not answer %s", what)
	}
	if result.Code != 0 {
		return certctl.Errorf(certctl.Conflict, "slapd refuses %s: result %d %s", what, result.Code, certctl.Clip(string(result.Describe), maxMessage))
	}
	return nil
}
