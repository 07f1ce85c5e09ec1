package certctl_test

import (
	"crypto/ed25519"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/certctl/certctl"
)

func TestIDsSortByTimeAndOrder(t *testing.T) {
	t.Parallel()
	var ids []string
	for i := range 50 {
		ids = append(ids, certctl.NewID(epoch).WithOrder(i).String())
	}
	ids = append(ids, certctl.NewID(epoch.Add(time.Millisecond)).String())
	if !slices.IsSorted(ids) {
		t.Error("ids made one after the other do not sort so")
	}
	if first := certctl.FirstIDAt(epoch); first.String() > ids[0] || !first.Time().Equal(epoch) {
		t.Errorf("the first id of %s is %s", epoch, first)
	}
}

func FuzzParseID(f *testing.F) {
	f.Add(certctl.NewID(epoch).String())
	f.Add("01890A5D-AC96-774B-BCCE-B302099A8057")
	f.Add("01890a5d-ac96-774b-bcce-b302099a805g")
	f.Fuzz(func(t *testing.T, s string) {
		id, err := certctl.ParseID(s)
		if err == nil && id.String() != strings.ToLower(s) {
			t.Errorf("%q became %s", s, id)
		}
	})
}

func FuzzNormalizeNames(f *testing.F) {
	for _, name := range []string{"example.com", "*.example.com", "a..b", "xn--bcher-kva.example", "EXAMPLE.com.", "10.0.0.1", "a b", "*.*.b", "-a.b", "_acme.b"} {
		f.Add(name, "user@example.com", "spiffe://example.org/x")
	}
	f.Fuzz(func(t *testing.T, dns, email, uri string) {
		names := certctl.Names{DNS: []string{dns, dns}, Email: []string{email}, URI: []string{uri}}
		clean, err := names.Normalize()
		if err != nil {
			return
		}
		again, err := clean.Normalize()
		if err != nil || !again.Equal(clean) {
			t.Errorf("normalising %+v again gives %+v, %v", clean, again, err)
		}
		if len(clean.DNS) != 1 || strings.ContainsAny(clean.DNS[0], " /\\\x00") || strings.Contains(clean.DNS[0], "..") {
			t.Errorf("%q was let through as %q", dns, clean.DNS)
		}
	})
}

func TestNamesAreTypedAndNamedInErrors(t *testing.T) {
	t.Parallel()
	_, err := certctl.Names{
		DNS: []string{"ok.example.com", "10.0.0.1", "a.*.b", "büro.example"}, IP: []netip.Addr{netip.IPv4Unspecified()},
		Email: []string{"nobody"}, URI: []string{"not a uri"},
	}.Normalize()
	var fields []string
	var e *certctl.Error
	if ok := asError(err, &e); ok {
		for _, field := range e.Fields {
			fields = append(fields, field.Field)
		}
	}
	want := []string{"/dns_names/1", "/dns_names/2", "/dns_names/3", "/ip_addresses/0", "/uris/0", "/email_addresses/0"}
	if !slices.Equal(fields, want) {
		t.Errorf("wrong fields %v, want %v", fields, want)
	}
}

func FuzzParseSerial(f *testing.F) {
	for _, serial := range []string{"00:AB:cd", "0x0abc", "7", "", "zz"} {
		f.Add(serial)
	}
	f.Fuzz(func(t *testing.T, s string) {
		serial, err := certctl.ParseSerial(s)
		if err != nil {
			return
		}
		if again := certctl.SerialOf(serial.Int()); again != serial {
			t.Errorf("%q is %s, and then %s", s, serial, again)
		}
	})
}

func FuzzParseDuration(f *testing.F) {
	for _, text := range []string{"90d", "36h", "1d12h", "0d", "d", "-1h", "1h1d"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, err := certctl.ParseDuration(s)
		if err != nil {
			return
		}
		if again, err := certctl.ParseDuration(d.String()); err != nil || again != d {
			t.Errorf("%q is %s, and then %s, %v", s, d, again, err)
		}
	})
}

func TestObjectNames(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"shop", "shop.example.com", "a-b_c", "x@y"} {
		if err := certctl.CheckObjectName(name); err != nil {
			t.Errorf("%q is refused: %v", name, err)
		}
	}
	for _, name := range []string{"", "-a", "a/b", "a b", "..", ".hidden", strings.Repeat("a", 101), certctl.NewID(epoch).String(), "ä"} {
		if certctl.CheckObjectName(name) == nil {
			t.Errorf("%q is accepted", name)
		}
	}
	for _, place := range []string{"..", ".", "a/b", "/etc", "a\x00b"} {
		if certctl.CheckPlace(place) == nil {
			t.Errorf("place %q is accepted", place)
		}
	}
}

// Whoever changes any field of a statement loses its signature, and a signature
// for one purpose is worth nothing for another.
func TestStatementCoversEveryField(t *testing.T) {
	t.Parallel()
	public, private, _ := ed25519.GenerateKey(nil)
	other, _, _ := ed25519.GenerateKey(nil)
	made, err := certctl.NewStatement(private, certctl.Statement{
		Domain: certctl.DomainCommand, Installation: certctl.NewID(epoch), Agent: certctl.NewID(epoch),
		Kind: "install", Object: certctl.NewID(epoch), Number: 7, Time: epoch,
	}, map[string]string{"version": "1"})
	if err != nil {
		t.Fatal(err)
	}
	if err := made.Verify(certctl.DomainCommand, public); err != nil {
		t.Fatalf("as made: %v", err)
	}
	if made.Verify(certctl.DomainCommand, other) == nil || made.Verify(certctl.DomainAgent, public) == nil {
		t.Error("verified with another key or in another domain")
	}
	changes := map[string]func(*certctl.Statement){
		"Domain":       func(s *certctl.Statement) { s.Domain = certctl.DomainAgent },
		"Installation": func(s *certctl.Statement) { s.Installation[3]++ },
		"Agent":        func(s *certctl.Statement) { s.Agent[3]++ },
		"Kind":         func(s *certctl.Statement) { s.Kind = "forget" },
		"Object":       func(s *certctl.Statement) { s.Object[15]++ },
		"Number":       func(s *certctl.Statement) { s.Number++ },
		"Time":         func(s *certctl.Statement) { s.Time = s.Time.Add(time.Second) },
		"Key":          func(s *certctl.Statement) { s.Key = "00" + s.Key[2:] },
		"Body":         func(s *certctl.Statement) { s.Body = append([]byte(" "), s.Body...) },
		"Signature":    func(s *certctl.Statement) { s.Signature = append(slices.Clone(s.Signature[:63]), s.Signature[63]^1) },
	}
	for i := range reflect.TypeFor[certctl.Statement]().NumField() {
		field := reflect.TypeFor[certctl.Statement]().Field(i).Name
		change, known := changes[field]
		if !known {
			t.Errorf("no case changes the field %s", field)
			continue
		}
		altered := made
		change(&altered)
		if altered.Verify(certctl.DomainCommand, public) == nil {
			t.Errorf("%s can be changed", field)
		}
	}
}
