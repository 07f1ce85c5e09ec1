package agent

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/json"
	"testing"

	"github.com/certctl/certctl"
)

// member is another node as the fleet key vouches for it.
type member struct {
	id      certctl.ID
	sealing []byte
	word    certctl.Statement
}

func (n *node) member(id byte) member {
	n.t.Helper()
	return n.vouched(id, n.fleet)
}

// vouched is a node whose keys some key vouches for.
func (n *node) vouched(id byte, by ed25519.PrivateKey) member {
	n.t.Helper()
	private, public, err := certctl.NewSealingKey()
	if err != nil {
		n.t.Fatal(err)
	}
	_, bus, _ := newTestBusKey()
	signing, _ := newEd25519(n.t)
	m := member{id: certctl.ID{0xee, id}, sealing: private}
	m.word = n.sign(by, certctl.Statement{Domain: certctl.DomainEnrolment, Agent: m.id, Kind: "agent"},
		certctl.AgentKeys{Bus: bus, Signing: signing, Sealing: public})
	return m
}

// opens opens what was sealed for a member and proves that it is the key.
func (m member) opens(t *testing.T, sealed []certctl.SealedKey, holder certctl.ID, spki certctl.Digest, number int64) {
	t.Helper()
	for _, s := range sealed {
		if s.Agent != m.id {
			continue
		}
		der, err := certctl.OpenSealed(m.sealing, sharedInfo(holder, m.id, spki, number), s.Ciphertext)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parseKey(der, spki); err != nil {
			t.Error(err)
		}
		for name, info := range map[string]certctl.SealInfo{
			"holder": sharedInfo(certctl.ID{9}, m.id, spki, number), "recipient": sharedInfo(holder, certctl.ID{9}, spki, number),
			"key": sharedInfo(holder, m.id, certctl.Digest{9}, number), "number": sharedInfo(holder, m.id, spki, number+1),
			"purpose": {Purpose: certctl.SealPrivateKey, Object: holder, Agent: m.id, SPKI: spki},
		} {
			if _, err := certctl.OpenSealed(m.sealing, info, s.Ciphertext); certctl.ErrorCode(err) != certctl.Denied {
				t.Errorf("opened with another %s: %v", name, err)
			}
		}
		return
	}
	t.Errorf("nothing was sealed for %s", m.id)
}

// sharedCommand asks for a key that members share.
func (n *node) sharedCommand(order certctl.ID, recipients ...certctl.Statement) certctl.KeyCommand {
	c := n.keyCommand(order)
	c.Shared, c.Recipients = true, recipients
	return c
}

// csrReport lets the agent make a shared key, and returns its report.
func (n *node) csrReport(order certctl.ID, number int64, recipients ...certctl.Statement) (certctl.CSRReport, *certctl.CSR) {
	n.t.Helper()
	n.put(n.conn, n.order(certctl.CommandMakeKey, order, number, n.sharedCommand(order, recipients...)))
	n.await("a CSR", func() bool { return len(n.csrs(order)) > 0 })
	n.mu.Lock()
	defer n.mu.Unlock()
	var report certctl.CSRReport
	if err := n.reports(certctl.ReportCSR)[0].Decode(&report); err != nil {
		n.t.Fatal(err)
	}
	return report, n.csrs(order)[0]
}

// The maker seals the key for the members that the fleet key vouches for, and
// for nobody else, whatever the command says.
func TestAMakerSealsForProvenMembersOnly(t *testing.T) {
	t.Parallel()
	n := enrolled(t)
	n.start()
	one, two := n.member(1), n.member(2)
	_, foreign := newEd25519(t)
	self := n.member(3)
	self.word = n.sign(n.fleet, certctl.Statement{Domain: certctl.DomainEnrolment, Agent: n.agent, Kind: "agent"}, n.enrolled[0].Keys)
	swapped := n.member(4)
	swapped.word.Body = one.word.Body
	elsewhere := n.member(5)
	elsewhere.word = n.sign(n.fleet, certctl.Statement{Domain: certctl.DomainEnrolment, Installation: certctl.ID{7}, Agent: elsewhere.id, Kind: "agent"},
		certctl.AgentKeys{})
	otherwise := n.member(6)
	otherwise.word.Domain = certctl.DomainTrust
	report, csr := n.csrReport(certctl.ID{1}, 5, one.word, n.vouched(7, foreign).word, self.word, swapped.word, elsewhere.word,
		otherwise.word, certctl.Statement{Agent: certctl.ID{8}}, two.word)
	if len(report.Sealed) != 2 || len(report.Refused) != 6 {
		t.Fatalf("sealed for %d, refused %+v", len(report.Sealed), report.Refused)
	}
	for _, r := range report.Refused {
		if r.Code != certctl.RefusedUnproven {
			t.Errorf("refused %+v", r)
		}
	}
	one.opens(t, report.Sealed, certctl.ID{2}, csr.SPKI, 5)
	two.opens(t, report.Sealed, certctl.ID{2}, csr.SPKI, 5)
	if bytes.Equal(report.Sealed[0].Ciphertext, report.Sealed[1].Ciphertext) {
		t.Error("one ciphertext for two")
	}
}

// A member installs a key that another one sealed for it, and then seals it for
// those who come later.
func TestAMemberOpensAndPassesOn(t *testing.T) {
	t.Parallel()
	n := enrolled(t)
	n.start()
	key, err := certctl.ECDSAP256.Generate()
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	spki, err := certctl.SPKIHash(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	holder := certctl.ID{2}
	leaf := n.root.leaf(t, key.Public(), "shop.example.com")
	c := n.installCommand(n.csr(certctl.ID{1}, 1), 1)
	c.Leaf, c.Fingerprint, c.SPKI, c.Holder, c.SealedNumber = leaf, certctl.DigestOf(leaf), spki, holder, 7
	sealed, err := certctl.SealTo(n.enrolled[0].Keys.Sealing, sharedInfo(holder, n.agent, spki, 6), der)
	if err != nil {
		t.Fatal(err)
	}
	c.SealedKey = sealed
	n.put(n.conn, n.targetCommand("files"), n.installOrder(c, 10))
	n.await("a failure", func() bool { return len(n.receipts()) == 1 && n.receipts()[0].Code == "key_missing" })
	if c.SealedKey, err = certctl.SealTo(n.enrolled[0].Keys.Sealing, sharedInfo(holder, n.agent, spki, 7), der); err != nil {
		t.Fatal(err)
	}
	n.put(n.conn, n.installOrder(c, 11))
	n.await("a receipt", func() bool { return len(n.receipts()) > 1 })
	if last := n.receipts()[len(n.receipts())-1]; last.Outcome != certctl.OutcomeVerified {
		t.Fatalf("receipt %+v", last)
	}
	if got, err := certctl.SPKIHash(n.target.batches[0][0].Key.Public()); err != nil || got != spki {
		t.Errorf("served with another key: %v", err)
	}

	late := n.member(1)
	n.put(n.conn, n.shareOrder(holder, spki, 20, late.word))
	report := n.sharedReport()
	late.opens(t, report.Sealed, holder, spki, 20)
}

func (n *node) shareOrder(holder certctl.ID, spki certctl.Digest, number int64, recipients ...certctl.Statement) certctl.Statement {
	return n.order(certctl.CommandShare, holder, number, certctl.ShareCommand{
		Holder: holder, SPKI: spki, Recipients: recipients, NotAfter: n.document.CommandKeys[0].NotAfter,
	})
}

func (n *node) sharedReport() (report certctl.SharedReport) {
	n.t.Helper()
	n.await("what was shared", func() bool { return len(n.reports(certctl.ReportShared)) > 0 })
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.reports(certctl.ReportShared)[0].Decode(&report); err != nil {
		n.t.Fatal(err)
	}
	return report
}

// A node seals neither a key of its own, nor another holder's, nor one that it
// does not have, whoever asks.
func TestAKeyOfItsOwnIsNotShared(t *testing.T) {
	t.Parallel()
	n := enrolled(t)
	n.start()
	own := n.csr(certctl.ID{1}, 1)
	installed := n.installCommand(own, 1)
	installed.Holder = certctl.ID{2} // says the command
	n.put(n.conn, n.targetCommand("files"), n.installOrder(installed, 10))
	n.await("a receipt", func() bool { return len(n.receipts()) > 0 })
	_, shared := n.csrReport(certctl.ID{5}, 2, n.member(1).word)
	for i, c := range []certctl.Statement{
		n.shareOrder(certctl.ID{2}, own.SPKI, 20, n.member(2).word),
		n.shareOrder(certctl.ID{3}, shared.SPKI, 21, n.member(2).word),
		n.shareOrder(certctl.ID{2}, certctl.Digest{1}, 22, n.member(2).word),
	} {
		n.put(n.conn, c)
		n.await("a refusal", func() bool { return len(n.refusals()) > i })
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	codes := []string{n.refusals()[0].Code, n.refusals()[1].Code, n.refusals()[2].Code}
	if codes[0] != "not_shared" || codes[1] != "not_shared" || codes[2] != "key_missing" || len(n.reports(certctl.ReportShared)) != 0 {
		t.Errorf("refusals %v, %d reports", codes, len(n.reports(certctl.ReportShared)))
	}
}

// A command with as many recipients as there may be, and its answer with the
// largest keys, fit through the bus.
func TestAFullCommandFitsThroughTheBus(t *testing.T) {
	t.Parallel()
	const most = 256 << 10
	n := enrolled(t)
	largest := make([]byte, 2400) // RSA-4096 in PKCS#8
	var words []certctl.Statement
	report := certctl.CSRReport{CSR: make([]byte, 2000)}
	for i := range certctl.MaxRecipients {
		m := n.member(byte(i))
		words = append(words, m.word)
		_, keys, err := certctl.ProvenAgent(m.word, n.fleet.Public().(ed25519.PublicKey), n.installation) //nolint:forcetypeassert // it is one
		if err != nil {
			t.Fatal(err)
		}
		ciphertext, err := certctl.SealTo(keys.Sealing, sharedInfo(certctl.ID{2}, m.id, certctl.Digest{1}, 1), largest)
		if err != nil || len(ciphertext) > certctl.MaxSealedKey {
			t.Fatalf("%d bytes, %v", len(ciphertext), err)
		}
		report.Sealed = append(report.Sealed, certctl.SealedKey{Agent: m.id, Ciphertext: ciphertext})
	}
	for name, body := range map[string]any{"command": n.sharedCommand(certctl.ID{1}, words...), "report": report} {
		encoded, err := json.Marshal(n.order(name, certctl.ID{1}, 1, body))
		if err != nil || len(encoded) > most*3/4 {
			t.Errorf("the %s has %d bytes, %v", name, len(encoded), err)
		}
		t.Logf("the %s has %d bytes", name, len(encoded))
	}
}
