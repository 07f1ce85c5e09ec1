package handlers_test

import (
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/handlers/issuer/acme"
	"github.com/certctl/certctl/handlers/issuer/acme/acmetest"
)

// hostile is a server that refuses nonces and takes its time.
var hostile = acmetest.Options{NonceReject: 20, AuthzReuse: 50, Slow: true}

func TestACertificateComesFromAnACMEServer(t *testing.T) {
	t.Parallel()
	w := newACME(t, hostile)
	c, _ := w.orderFor("shop", "shop.example.com", "www.shop.example.com")
	r := w.worker("a", immortal)
	w.until("issued", always(r), w.issued(c))
	v := w.versions(c)
	if len(v) != 1 || len(v[0].Chain) != 1 || v[0].Issuer != w.ca.ID || v[0].RenewAt.IsZero() {
		t.Fatalf("versions %+v", v)
	}
	if n := w.pebble.Count(acmetest.NewOrder); n != 1 {
		t.Errorf("%d orders at the CA", n)
	}
	if a, err := w.ExternalAccount(w.ctx, w.ca.ID, w.pebble.Directory); err != nil || a.URL == "" || strings.Contains(string(a.SealedKey), "PRIVATE") {
		t.Errorf("account %+v, %v", a, err)
	}
	if _, err := w.RevokeVersions(w.ctx, w.admin, certctl.RevokeRequest{Version: v[0].ID, Reason: certctl.ReasonPrivilegeWithdrawn}); err != nil {
		t.Fatal(err)
	}
	w.until("revoked", always(r), func() bool { return w.count(`select count(*) from revocation where state = 'confirmed'`) == 1 })
	if n := w.pebble.Count(acmetest.Revoke); n != 1 {
		t.Errorf("%d revocations at the CA", n)
	}
	w.clean()
}

// Each worker dies right after it has recorded its first step. The last one
// finds everything done but the certificate.
func TestAnOrderSurvivesADeathBetweenEveryTwoSteps(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"shop.example.com", "*.shop.example.org"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newACME(t, acmetest.Options{})
			c, _ := w.orderFor("shop", name)
			deaths := 0
			w.until("issued", func() *replica {
				w.lapse()
				deaths++
				return w.worker(fmt.Sprint("worker", deaths), 1)
			}, w.issued(c))
			if n := w.pebble.Count(acmetest.NewOrder); n != 1 {
				t.Errorf("%d orders at the CA after %d deaths", n, deaths)
			}
			if n := w.pebble.Count(acmetest.NewAccount); n != 1 {
				t.Errorf("%d registrations", n)
			}
			if deaths < 7 {
				t.Errorf("only %d workers died", deaths)
			}
			w.clean()
		})
	}
}

func TestALostAnswerToFinalizeEndsInADownload(t *testing.T) {
	t.Parallel()
	w := newACME(t, acmetest.Options{})
	w.pebble.Fail(acmetest.Fault{Path: acmetest.Finalize, Times: 1, Lose: true})
	w.pebble.Fail(acmetest.Fault{Path: acmetest.Cert, Times: 1, Reset: true})
	c, _ := w.orderFor("shop", "shop.example.com")
	w.until("issued", always(w.worker("a", immortal)), w.issued(c))
	if orders, sent := w.pebble.Count(acmetest.NewOrder), w.pebble.Count(acmetest.Finalize); orders != 1 || sent != 1 {
		t.Errorf("%d orders, finalized %d times", orders, sent)
	}
	w.clean()
}

// What the server cannot do now is waited for, as long as it says, and seen.
func TestAServerThatIsBusyIsAskedLater(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		fault  acmetest.Fault
		code   string
		health certctl.Health
		atMost time.Duration
	}{
		{acmetest.Fault{Path: acmetest.NewOrder, Status: 429, Problem: "rateLimited", RetryAfter: "7200"}, "acme_rateLimited", certctl.HealthHealthy, 2 * time.Hour},
		{acmetest.Fault{Path: acmetest.NewOrder, Status: 503, RetryAfter: "7200"}, "acme_unreachable", certctl.HealthDegraded, 2 * time.Hour},
		{acmetest.Fault{Path: acmetest.Authz, Reset: true}, "acme_unreachable", certctl.HealthDegraded, time.Minute},
		{acmetest.Fault{Path: acmetest.Finalize, Status: 500, Problem: "serverInternal"}, "acme_serverInternal", certctl.HealthDegraded, time.Minute},
	} {
		t.Run(c.fault.Path+c.code, func(t *testing.T) {
			t.Parallel()
			w := newACME(t, acmetest.Options{})
			c.fault.Times = 1
			w.pebble.Fail(c.fault)
			shop, _ := w.orderFor("shop", "shop.example.com")
			r := w.worker("a", immortal)
			w.until("refused for now", always(r), func() bool { return w.order(shop).Wait == certctl.WaitBackoff })
			o := w.order(shop)
			if o.State != certctl.OrderProcessing || o.ErrorCode != c.code || !strings.Contains(o.Message, "CA") || o.Attempts != 1 {
				t.Errorf("order %+v", o)
			}
			if in := o.DueAt.Sub(w.now()); in < c.atMost*8/10 || in > c.atMost {
				t.Errorf("it is looked at again in %s", in)
			}
			issuer, err := w.GetIssuer(w.ctx, w.admin, "pebble")
			if err != nil || issuer.Health != c.health {
				t.Errorf("issuer %s, %v", issuer.Health, err)
			}
			w.until("issued", always(r), w.issued(shop))
			if n := w.pebble.Count(acmetest.NewOrder); n != 1 {
				t.Errorf("%d orders at the CA", n)
			}
			w.clean()
		})
	}
}

// A leaf for another key is nobody's: it is not stored, and what the CA had signed
// for this order is revoked.
func TestACertificateForAnotherKeyIsRefused(t *testing.T) {
	t.Parallel()
	w := newACME(t, acmetest.Options{})
	r := w.worker("a", immortal)
	var others []byte
	w.pebble.Fail(acmetest.Fault{Path: acmetest.Cert, Times: 1, Rewrite: func(body []byte) []byte { others = body; return body }})
	first, _ := w.orderFor("first", "shop.example.com")
	w.until("issued", always(r), w.issued(first))
	w.pebble.Fail(acmetest.Fault{Path: acmetest.Cert, Times: 1, Rewrite: func([]byte) []byte { return others }})
	second, _ := w.orderFor("second", "shop.example.com")
	w.until("refused", always(r), func() bool { return w.order(second).ErrorCode == "wrong_certificate" })
	// The next attempt begins before what the first has left at the CA is ended.
	_, err := w.Pool().Exec(w.ctx, `update due set due_at = case verb when 'issue' then now() else now() + interval '1 hour' end`)
	w.must(err)
	w.work(r)
	if n := w.count(`select count(*) from attempt where order_id = $1`, w.order(second).ID); n != 2 {
		t.Fatalf("%d attempts", n)
	}
	w.until("issued", always(r), w.issued(second))
	w.until("revoked", always(r), func() bool { return w.pebble.Count(acmetest.Revoke) == 1 })
	if n := w.count(`select count(*) from version where origin = 'orphan' and revoked_at is not null and certificate_id = $1`, second.ID); n != 1 {
		t.Errorf("%d orphans", n)
	}
	if a, b := w.versions(first)[0], w.versions(second); a.RevokedAt.IsZero() == false || len(b) != 2 {
		t.Errorf("versions %+v, %+v", a, b)
	}
	w.until("settled", always(r), func() bool { return w.count(`select count(*) from external_order`) == 0 })
	w.clean()
}

// Hints are doubled, workers are many, two certificates have the same names: the
// CA sees one order for them at a time.
func TestOfManyWorkersOneOrdersAtTheCA(t *testing.T) {
	t.Parallel()
	w := newACME(t, acmetest.Options{Slow: true})
	c, one := w.orderFor("one", "shop.example.com")
	d, two := w.orderFor("two", "shop.example.com")
	var wait sync.WaitGroup
	for i := range 4 {
		r := w.worker(fmt.Sprint("worker", i), immortal)
		wait.Go(func() {
			if err := r.handle(w.ctx, certctl.Hint{Verb: certctl.HintIssue, IDs: []certctl.ID{one, two}}); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	if n := w.pebble.Count(acmetest.NewOrder); n != 1 {
		t.Fatalf("%d orders at the CA for the same names", n)
	}
	if n := w.count(`select count(*) from cert_order where wait = 'same_names'`); n != 1 {
		t.Errorf("%d orders wait for the other", n)
	}
	w.until("issued", always(w.worker("last", immortal)), w.issued(c, d))
	if n := w.pebble.Count(acmetest.NewOrder); n != 2 {
		t.Errorf("%d orders at the CA", n)
	}
	if n := w.pebble.Count(acmetest.NewAccount); n != 1 {
		t.Errorf("%d registrations", n)
	}
	w.clean()
}

// What is cancelled here ends there: proofs are gone, and nothing can be signed.
func TestACancelledOrderEndsAtTheCA(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"shop.example.com", "shop.example.org"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newACME(t, acmetest.Options{})
			c, _ := w.orderFor("shop", name)
			w.until("presented", always(w.worker("a", 3)), func() bool {
				return w.count(`select count(*) from challenge_token`)+len(w.pebble.DNS.TXT()) > 0
			})
			if _, err := w.CancelOrder(w.ctx, w.admin, w.order(c).ID); err != nil {
				t.Fatal(err)
			}
			r := w.worker("b", immortal)
			w.until("ended", always(r), func() bool { return w.count(`select count(*) from external_order`) == 0 })
			w.clean()
		})
	}
}

// The CA has signed, and nobody here wants it any more.
func TestACertificateThatComesTooLateIsRevoked(t *testing.T) {
	t.Parallel()
	w := newACME(t, acmetest.Options{})
	w.pebble.Fail(acmetest.Fault{Path: acmetest.Cert, Times: 1, Reset: true})
	c, _ := w.orderFor("shop", "shop.example.com")
	r := w.worker("a", immortal)
	w.until("signed", always(r), func() bool { return w.order(c).Wait == certctl.WaitBackoff })
	if _, err := w.CancelOrder(w.ctx, w.admin, w.order(c).ID); err != nil {
		t.Fatal(err)
	}
	w.until("revoked", always(r), func() bool { return w.pebble.Count(acmetest.Revoke) == 1 })
	if v := w.versions(c); len(v) != 1 || v[0].Origin != certctl.VersionOrphan || v[0].RevokedAt.IsZero() {
		t.Errorf("versions %+v", v)
	}
	w.clean()
}

func TestWhatTheCANeverIssuesIsRefused(t *testing.T) {
	t.Parallel()
	w := newACME(t, acmetest.Options{Blocked: []string{"blocked.example.com"}})
	c, _ := w.orderFor("shop", "shop.example.com", "blocked.example.com")
	d, _ := w.orderFor("wild", "*.example.com")
	r := w.worker("a", immortal)
	w.until("refused", always(r), func() bool { return w.order(c).State == certctl.OrderRefused && w.order(d).ErrorCode != "" })
	if o := w.order(c); !strings.Contains(o.Message, "blocked.example.com") || !strings.Contains(o.Message, "remove it") {
		t.Errorf("message %q", o.Message)
	}
	if o := w.order(d); o.State != certctl.OrderReady || !strings.Contains(o.Message, "dns-01") {
		t.Errorf("a wildcard without DNS: %s, %q", o.State, o.Message)
	}
	w.until("ended", always(r), func() bool { return w.count(`select count(*) from external_order`) == 0 })
	w.clean()
}

func TestAnExternalAccountIsBound(t *testing.T) {
	t.Parallel()
	options := acmetest.Options{EAB: map[string]string{"kid-1": "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"}}
	w := newACME(t, options)
	c, _ := w.orderFor("shop", "shop.example.com")
	r := w.worker("a", immortal)
	w.until("refused for now", always(r), func() bool { return w.order(c).ErrorCode == "acme_externalAccountRequired" })
	if o := w.order(c); o.State != certctl.OrderReady || !strings.Contains(o.Message, "eab_key_id") {
		t.Errorf("order %s, %q", o.State, o.Message)
	}
	bound := newACME(t, options, func(s *acme.Settings) { s.EABKeyID = "kid-1" })
	c, _ = bound.orderFor("shop", "shop.example.com")
	bound.until("issued", always(bound.worker("a", immortal)), bound.issued(c))
	bound.clean()
}

func TestTheProfileOfTheCAIsAskedFor(t *testing.T) {
	t.Parallel()
	w := newACME(t, acmetest.Options{ShortLived: true}, func(s *acme.Settings) { s.Profile = "shortlived" })
	c, _ := w.orderFor("shop", "shop.example.com")
	w.until("issued", always(w.worker("a", immortal)), w.issued(c))
	if v := w.versions(c)[0]; v.NotAfter.Sub(v.NotBefore) > 6*certctl.Day || v.RenewAt.After(v.NotBefore.Add(4*certctl.Day)) {
		t.Errorf("from %s to %s, renewed at %s", v.NotBefore, v.NotAfter, v.RenewAt)
	}
	w.clean()
	without := newACME(t, acmetest.Options{}, func(s *acme.Settings) { s.Profile = "shortlived" })
	c, _ = without.orderFor("shop", "shop.example.com")
	without.until("refused", always(without.worker("a", immortal)), func() bool { return without.order(c).ErrorCode == "acme_invalidProfile" })
	if o := without.order(c); !strings.Contains(o.Message, "choose one of the profiles") {
		t.Errorf("order %s, %q", o.State, o.Message)
	}
}

// A record that is a CNAME is proven where it leads to: only that zone is written to.
func TestProofsFollowADelegation(t *testing.T) {
	t.Parallel()
	w := newACME(t, acmetest.Options{}, func(s *acme.Settings) {
		s.Rules[0].Names, s.Rules[0].Config["zone"] = nil, "proofs.example.net"
	})
	const target = "shop.proofs.example.net"
	w.pebble.DNS.Delegate("_acme-challenge.shop.example.com", target)
	c, _ := w.orderFor("shop", "shop.example.com", "*.shop.example.com")
	w.until("issued", always(w.worker("a", immortal)), w.issued(c))
	if n := w.pebble.DNS.Most(target); n != 2 {
		t.Errorf("%d values at once where the name leads to", n)
	}
	if n := w.pebble.DNS.Most("_acme-challenge.shop.example.com"); n != 0 {
		t.Errorf("%d values in the zone of the name", n)
	}
	w.clean()
}

// Addresses (RFC 8738) and internationalised names (RFC 5891) are names like others.
func TestAddressesAndInternationalisedNames(t *testing.T) {
	t.Parallel()
	w := newACME(t, acmetest.Options{})
	key, err := certctl.ECDSAP256.Generate()
	w.must(err)
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		DNSNames: []string{"xn--bcher-kva.example.com"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1).To4(), net.IPv6loopback},
	}, key)
	w.must(err)
	csr, err := certctl.ParseCSR(der)
	w.must(err)
	made, err := w.SubmitCertificate(w.ctx, w.admin, certctl.CertificateRequest{
		Name: "books", Issuers: []string{"pebble"}, CSR: csr,
		Names: certctl.Names{DNS: []string{"XN--bcher-kva.example.com"}, IP: []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("::1")}},
	}, certctl.Idempotency{})
	w.must(err)
	c := made.Certificate
	r := w.worker("a", immortal)
	// Nobody listens on the IPv6 address, so that the CA refuses it, and says so.
	w.until("refused", always(r), func() bool { return w.order(c).ErrorCode == "acme_connection" })
	if o := w.order(c); !strings.Contains(o.Message, "::1 could not be validated by http-01") {
		t.Errorf("%q", o.Message)
	}
	_, err = w.CancelOrder(w.ctx, w.admin, w.order(c).ID)
	w.must(err)

	der, err = x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		DNSNames: []string{"xn--bcher-kva.example.com"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1).To4()},
	}, key)
	w.must(err)
	csr, err = certctl.ParseCSR(der)
	w.must(err)
	made, err = w.SubmitCertificate(w.ctx, w.admin, certctl.CertificateRequest{
		Name: "more-books", Issuers: []string{"pebble"}, CSR: csr,
		Names: certctl.Names{DNS: []string{"xn--bcher-kva.example.com"}, IP: []netip.Addr{netip.MustParseAddr("127.0.0.1")}},
	}, certctl.Idempotency{})
	w.must(err)
	w.until("issued", always(r), w.issued(made.Certificate))
	leaf, err := x509.ParseCertificate(w.versions(made.Certificate)[0].Leaf)
	w.must(err)
	if leaf.VerifyHostname("127.0.0.1") != nil || leaf.VerifyHostname("xn--bcher-kva.example.com") != nil {
		t.Errorf("%v, %v", leaf.DNSNames, leaf.IPAddresses)
	}
	w.until("settled", always(r), func() bool { return w.count(`select count(*) from external_order`) == 0 })
	w.clean()
}
