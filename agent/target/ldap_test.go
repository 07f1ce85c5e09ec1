package target

import (
	"bytes"
	"strings"
	"testing"
)

// What slapd says to the log-in, the search and the change of a session.
const (
	ldapBound    = "\x30\x0c\x02\x01\x01\x61\x07\x0a\x01\x00\x04\x00\x04\x00"
	ldapFound    = "\x30\x25\x02\x01\x02\x64\x20\x04\x09cn=config\x30\x13\x30\x11\x04\x07olcFile\x31\x06\x04\x04/a/b"
	ldapSearched = "\x30\x0c\x02\x01\x02\x65\x07\x0a\x01\x00\x04\x00\x04\x00"
	ldapRefused  = "\x30\x0e\x02\x01\x03\x67\x09\x0a\x01\x50\x04\x00\x04\x02no"
)

func TestASessionWithSlapd(t *testing.T) {
	t.Parallel()
	said := &conversation{Reader: strings.NewReader(ldapBound + ldapFound + ldapSearched + ldapRefused)}
	session := &ldap{conn: said}
	if err := session.bind(); err != nil {
		t.Fatal(err)
	}
	if want := "\x30\x18\x02\x01\x01\x60\x13\x02\x01\x03\x04\x00\xa3\x0c\x04\x08EXTERNAL\x04\x00"; said.String() != want {
		t.Errorf("it was told %q", said.String())
	}
	found, err := session.attributes("cn=config", "olcFile")
	if err != nil || found["olcFile"] != "/a/b" || len(found) != 1 {
		t.Errorf("found %v, %v", found, err)
	}
	said.Buffer.Reset()
	err = session.replace("cn=config", ldapAttribute{Type: []byte("a"), Values: [][]byte{[]byte("b")}})
	if err == nil || !strings.Contains(err.Error(), "result 80 no") {
		t.Errorf("it was refused: %v", err)
	}
	if want := "\x30\x21\x02\x01\x03\x66\x1c\x04\x09cn=config\x30\x0f\x30\x0d\x0a\x01\x02\x30\x08\x04\x01a\x31\x03\x04\x01b"; said.String() != want {
		t.Errorf("it was told %q", said.String())
	}
	if err := session.bind(); err == nil {
		t.Error("silence")
	}
}

// An answer to another question, an endless one and none at all.
func TestAnswersThatAreNoLDAP(t *testing.T) {
	t.Parallel()
	for name, say := range map[string]string{
		"another message": "\x30\x0c\x02\x01\x09\x61\x07\x0a\x01\x00\x04\x00\x04\x00",
		"another kind":    "\x30\x0c\x02\x01\x01\x67\x07\x0a\x01\x00\x04\x00\x04\x00",
		"a long one":      "\x30\x84\x7f\xff\xff\xff",
		"text":            "HTTP/1.1 400 Bad Request\r\n\r\n" + strings.Repeat("x", 200),
		"an end":          "",
	} {
		session := &ldap{conn: &conversation{Reader: strings.NewReader(say)}}
		if err := session.bind(); err == nil {
			t.Errorf("%s is taken for success", name)
		}
	}
}

func FuzzSlapdAnswers(f *testing.F) {
	f.Add([]byte(ldapFound + ldapSearched))
	f.Add([]byte(ldapSearched))
	f.Fuzz(func(t *testing.T, say []byte) {
		session := &ldap{conn: &conversation{Reader: bytes.NewReader(say)}, id: 1}
		if _, err := session.attributes("cn=config", "olcFile"); err == nil && len(say) == 0 {
			t.Error("silence is taken for an answer")
		}
	})
}
