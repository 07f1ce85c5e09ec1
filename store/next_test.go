package store_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"testing"
	"time"

	"github.com/certctl/certctl"
)

// receipt ends an install command on a node.
func (w *world) receipt(i certctl.InstallWork, outcome certctl.ReceiptOutcome, code string, next *certctl.CSR) certctl.ReportAnswer {
	w.t.Helper()
	d := i.Deployment
	answers, err := w.RecordReports(w.ctx, []certctl.AgentReport{{
		Statement: certctl.Statement{Agent: d.Agent, Kind: certctl.ReportReceipt, Object: d.ID, Number: i.Number},
		Receipt:   &certctl.Receipt{Deployment: d.ID, Binding: d.Binding, Version: d.Version, Fingerprint: i.Version.Fingerprint, Outcome: outcome, Code: code},
		Next:      next,
	}})
	if err != nil {
		w.t.Fatal(err)
	}
	return answers[0]
}

// leafOf ends an order with a leaf, which waits for its agent.
func (w *world) leafOf(o certctl.Order) {
	w.t.Helper()
	w.exec(`update cert_order set state = 'ready', wait = '' where id = $1`, o.ID)
	w.finish(w.success(w.begin("w", o.ID)[0], o.Names.DNS...))
}

// handedOver is a certificate on a new target, whose agent has installed its
// first leaf and handed over the request for the next key.
func (w *world) handedOver(name string) (certctl.Certificate, certctl.ID, *certctl.CSR) {
	w.t.Helper()
	target := w.target(name)
	c := w.submit(request(name, name))
	w.leafOf(w.orders(c, "")[0])
	box := w.asks(target.Agent.ID)
	if len(box.Installs) != 1 || box.Installs[0].Next == nil {
		w.t.Fatalf("no key is asked for: %+v", box.Installs)
	}
	if n := box.Installs[0].Next; n.Algorithm != certctl.ECDSAP256 || !n.Names.Equal(c.Names) || n.Holder != w.holders(c)[0].Holder.ID {
		w.t.Fatalf("asked for %+v", n)
	}
	next := csrFor(w.t, name+".example.com")
	if a := w.receipt(box.Installs[0], certctl.OutcomeVerified, "", next); !a.Recorded {
		w.t.Fatalf("answer %+v", a)
	}
	return c, target.Agent.ID, next
}

// sweep makes a certificate's holder due and lets the sweep look at them. The
// newest leaf counts as half spent.
func (w *world) sweep(c certctl.Certificate) certctl.Order {
	w.t.Helper()
	w.exec(`update version set renew_at = now() - interval '1 minute', created_at = created_at - interval '70 days' where certificate_id = $1`, c.ID)
	n, err := w.RenewHolders(w.ctx, []certctl.ID{w.holders(c)[0].Holder.ID})
	if err != nil || n != 1 {
		w.t.Fatalf("%d orders, %v", n, err)
	}
	orders := w.orders(c, "")
	return orders[len(orders)-1]
}

// A renewal whose key was handed over with the last receipt is ready at once.
func TestARenewalNeedsNoRoundTrip(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c, agent, next := w.handedOver("one")
	w.hinted("")
	o := w.sweep(c)
	if o.State != certctl.OrderReady || o.Wait != certctl.WaitNone || string(o.CSR) != string(next.DER) {
		t.Fatalf("order %+v", o)
	}
	if ids := w.hinted(certctl.HintIssue); len(ids) != 1 || ids[0] != o.ID {
		t.Errorf("hinted %v", ids)
	}
	if n := w.count(`select count(*) from event where name = 'order_ready' and object_id = $1`, c.ID); n != 1 {
		t.Errorf("%d events say that it is ready", n)
	}
	if box := w.asks(agent); len(box.Keys) != 0 {
		t.Errorf("asked for a key: %+v", box.Keys)
	}
	w.consistent()
}

// While its agent is away the key that was handed over is certified again at
// each renewal: it has not been in service. What comes back gets the newest
// leaf only, and its receipt brings the key that follows.
func TestAnAgentThatIsAwayIsRenewedWithOneKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c, agent, next := w.handedOver("one")
	for range 3 {
		o := w.sweep(c)
		if o.State != certctl.OrderReady || string(o.CSR) != string(next.DER) {
			t.Fatalf("order %+v", o)
		}
		w.finish(w.keyed(w.begin("w", o.ID)[0], next, "one.example.com"))
	}
	box := w.asks(agent)
	newest := w.holders(c)[0].Version
	if len(box.Installs) != 1 || box.Installs[0].Version.ID != newest.ID || box.Installs[0].Next == nil {
		t.Fatalf("installs %+v, newest %s", box.Installs, newest.ID)
	}
	following := csrFor(t, "one.example.com")
	w.receipt(box.Installs[0], certctl.OutcomeVerified, "", following)
	if o := w.sweep(c); string(o.CSR) != string(following.DER) {
		t.Errorf("order %+v", o)
	}
	w.consistent()
}

// keyed is a success with a leaf for the request's key.
func (w *world) keyed(a certctl.Attempt, csr *certctl.CSR, names ...string) certctl.AttemptEnd {
	w.t.Helper()
	request, err := x509.ParseCertificateRequest(csr.DER)
	if err != nil {
		w.t.Fatal(err)
	}
	_, signer, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		w.t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: names[0]}, DNSNames: names,
		NotBefore: time.Now().Add(-30 * certctl.Day), NotAfter: time.Now().Add(60 * certctl.Day)}
	end := w.success(a, names...)
	if end.Leaf, err = x509.CreateCertificate(rand.Reader, template, template, request.PublicKey, signer); err != nil {
		w.t.Fatal(err)
	}
	return end
}

// What was handed over is used only where an order would ask for the same; else
// it is forgotten, and the agent is asked for a key.
func TestAKeyThatDoesNotFitIsNotUsed(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*world, certctl.Certificate, *certctl.CSR)
		reason string
	}{
		"names": {func(w *world, c certctl.Certificate, _ *certctl.CSR) {
			w.exec(`update certificate set dns = '{one.example.com,two.example.com}' where id = $1`, c.ID)
		}, certctl.UnfitNames},
		"algorithm": {func(w *world, _ certctl.Certificate, _ *certctl.CSR) {
			w.exec(`update profile set body = jsonb_set(body, '{key_algorithms}', '["rsa-2048", "ecdsa-p256"]')`)
		}, certctl.UnfitAlgorithm},
		"reuse": {func(w *world, _ certctl.Certificate, _ *certctl.CSR) {
			w.exec(`update profile set body = body || '{"reuse_key": true}'`)
		}, certctl.UnfitReuse},
		"blocked": {func(w *world, _ certctl.Certificate, next *certctl.CSR) {
			w.exec(`insert into blocked_key (spki, reason) values ($1, 'keyCompromise')`, next.SPKI)
		}, certctl.UnfitBlocked},
		"agent": {func(w *world, c certctl.Certificate, _ *certctl.CSR) {
			w.exec(`update holder set next_agent_id = $2 where certificate_id = $1`, c.ID, w.agent("another"))
		}, certctl.UnfitAgent},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			certificate, agent, next := w.handedOver("one")
			c.change(w, certificate, next)
			o := w.sweep(certificate)
			if o.State != certctl.OrderAwaitingCSR || o.Wait != certctl.WaitHolder || o.CSR != nil {
				t.Errorf("order %+v", o)
			}
			if box := w.asks(agent); len(box.Keys) != 1 {
				t.Errorf("the agent is not asked: %+v", box.Keys)
			}
			if n := w.count(`select count(*) from holder where next_csr is not null`); n != 0 {
				t.Error("it is not forgotten")
			}
			if got := w.text(`select convert_from(body, 'UTF8')::jsonb->'data'->>'next_key_discarded' from event
				where name = 'order_created' order by id desc limit 1`); got != c.reason {
				t.Errorf("the event says %q", got)
			}
			w.consistent()
		})
	}
}

// A request that came with a receipt is stored only where it is for the holder's
// names, for an allowed key, and for one that has never been in service. The
// receipt counts all the same.
func TestARequestThatIsNotWantedIsIgnored(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for name, next := range map[string]func(i certctl.InstallWork) *certctl.CSR{
		"none":  func(certctl.InstallWork) *certctl.CSR { return nil },
		"names": func(certctl.InstallWork) *certctl.CSR { return csrFor(t, "evil.example.com") },
		"blocked": func(certctl.InstallWork) *certctl.CSR {
			csr := csrFor(t, "blocked.example.com")
			w.exec(`insert into blocked_key (spki, reason) values ($1, 'keyCompromise')`, csr.SPKI)
			return csr
		},
		"served": func(i certctl.InstallWork) *certctl.CSR {
			csr := csrFor(t, "served.example.com")
			w.exec(`update version set spki = $2 where id = $1`, i.Version.ID, csr.SPKI)
			return csr
		},
	} {
		target := w.target(name)
		c := w.submit(request(name, name))
		w.leafOf(w.orders(c, "")[0])
		box := w.asks(target.Agent.ID)
		if a := w.receipt(box.Installs[0], certctl.OutcomeVerified, "", next(box.Installs[0])); !a.Recorded {
			t.Errorf("%s: answer %+v", name, a)
		}
		if got := w.get(c.ID); got.Status != certctl.StatusActive {
			t.Errorf("%s: %+v", name, got)
		}
		if o := w.sweep(c); o.State != certctl.OrderAwaitingCSR {
			t.Errorf("%s: order %+v", name, o)
		}
	}
	w.consistent()
}

// A key in common with other nodes, and one that came with an import, is not
// handed over; neither is one for a profile that uses keys again.
func TestNoKeyIsAskedForWhereNoneIsWanted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.target("imported")
	imported := w.imports(importing(t, "imported", nil, "imported"))
	box := w.asks(w.deployments(imported)[0].Agent)
	if len(box.Installs) != 1 || box.Installs[0].Next != nil {
		t.Errorf("of an import: %+v", box.Installs)
	}
	w.exec(`update profile set body = body || '{"reuse_key": true}'`)
	target := w.target("reuse")
	c := w.submit(request("reuse", "reuse"))
	w.leafOf(w.orders(c, "")[0])
	if box := w.asks(target.Agent.ID); len(box.Installs) != 1 || box.Installs[0].Next != nil {
		t.Errorf("with reuse_key: %+v", box.Installs)
	}
	w.exec(`update profile set body = body - 'reuse_key'`)
	shared, _ := w.shared("shared", 2)
	maker, _, _ := w.cycle(shared)
	if box := w.asks(maker); len(box.Installs) != 1 || box.Installs[0].Next != nil {
		t.Errorf("of a shared holder: %+v", box.Installs)
	}
}

// A node that has lost the key that it had handed over is asked for another one
// at once, and once.
func TestALostKeyIsOrderedAnew(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c, agent, next := w.handedOver("one")
	o := w.sweep(c)
	w.finish(w.keyed(w.begin("w", o.ID)[0], next, "one.example.com"))
	open := w.sweep(c) // with the same key, and ready
	box := w.asks(agent)
	w.receipt(box.Installs[0], certctl.OutcomeFailed, "key_missing", nil)
	orders := w.orders(c, certctl.OrderAwaitingCSR)
	if len(orders) != 1 || orders[0].ID != open.ID || orders[0].CSR != nil || orders[0].Wait != certctl.WaitHolder {
		t.Fatalf("orders %+v", w.orders(c, ""))
	}
	box = w.asks(agent)
	if len(box.Keys) != 1 || box.Keys[0].Order.ID != open.ID {
		t.Fatalf("keys %+v", box.Keys)
	}
	another := csrFor(t, "one.example.com")
	if _, err := w.RecordReports(w.ctx, []certctl.AgentReport{{
		Statement: certctl.Statement{Agent: agent, Kind: certctl.ReportCSR, Object: open.ID}, CSR: another,
	}}); err != nil {
		t.Fatal(err)
	}
	w.finish(w.keyed(w.begin("w", open.ID)[0], another, "one.example.com"))
	box = w.asks(agent)
	w.receipt(box.Installs[0], certctl.OutcomeFailed, "key_missing", nil)
	if live := w.orders(c, certctl.OrderAwaitingCSR); len(live) != 0 {
		t.Errorf("a node that loses every key consumes a leaf each time: %+v", live)
	}
	w.consistent()
}

// The end of a holder, and a key compromise on its node, end what it handed over.
func TestWhatEndsAHandedOverKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	left := func(c certctl.Certificate) int {
		return w.count(`select count(*) from holder where certificate_id = $1 and next_csr is not null`, c.ID)
	}
	unbound, _, _ := w.handedOver("unbound")
	if left(unbound) != 1 {
		t.Fatal("nothing was handed over")
	}
	if _, err := w.UnbindTarget(w.ctx, w.admin, unbound.ID.String(), "unbound", false); err != nil {
		t.Fatal(err)
	}
	compromised, agent, _ := w.handedOver("compromised")
	if _, err := w.RevokeVersions(w.ctx, w.admin, certctl.RevokeRequest{Certificate: compromised.ID.String(), Reason: certctl.ReasonKeyCompromise}); err != nil {
		t.Fatal(err)
	}
	if left(unbound)+left(compromised) != 0 {
		t.Error("it is kept")
	}
	if box := w.asks(agent); len(box.Keys) != 1 {
		t.Errorf("the replacement does not ask for a key: %+v", box.Keys)
	}
	w.consistent()
}
