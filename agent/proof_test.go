package agent

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/certctl/certctl"
)

var testSet = certctl.ID{0x77}

func testProof(token string) certctl.Proof {
	token = "0123456789abcdef-" + token
	return certctl.Proof{Type: certctl.ProofHTTP, Identifier: "shop.example.com", Token: token, Answer: token + "." + strings.Repeat("x", 43)}
}

func (n *node) proveOrder(number int64, proofs ...certctl.Proof) certctl.Statement {
	n.t.Helper()
	return n.order(certctl.CommandProve, testSet, number, certctl.ProveCommand{Set: testSet, Proofs: proofs, NotAfter: time.Now().Add(time.Hour)})
}

// served are the tokens below a webroot.
func served(t testing.TB, webroot string) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(webroot, ".well-known/acme-challenge"))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	var tokens []string
	for _, e := range entries {
		tokens = append(tokens, e.Name())
	}
	return tokens
}

// proved reports whether the agent's last request has named the set.
func (n *node) proved() bool {
	return len(n.asked) > 0 && slices.Contains(n.asked[len(n.asked)-1].Proving, testSet)
}

func TestProofsAreHeldUntilTheyAreTakenBack(t *testing.T) {
	t.Parallel()
	n, webroot := enrolled(t), t.TempDir()
	n.policy.ChallengeWebroots = []string{webroot}
	n.start()
	one, two := testProof("one"), testProof("two")
	n.put(n.conn, n.proveOrder(5, one))
	n.await("the word that it is held", func() bool { return len(n.reports(certctl.ReportHeld)) == 1 })
	if s := n.reports(certctl.ReportHeld)[0]; s.Object != testSet || s.Number != 5 {
		t.Errorf("report %+v", s)
	}
	if got := served(t, webroot); !slices.Equal(got, []string{one.Token}) {
		t.Errorf("served: %v", got)
	}
	n.put(n.conn)
	n.await("a request that says so", n.proved)
	n.put(n.conn, n.proveOrder(4, two)) // overtaken
	n.put(n.conn, n.proveOrder(6, two))
	n.await("other proofs", func() bool { return slices.Equal(served(t, webroot), []string{two.Token}) })
	n.await("the word on them", func() bool { return len(n.reports(certctl.ReportHeld)) == 2 })
	n.putUntil(n.conn, "that they are dropped", func() bool { return len(served(t, webroot)) == 0 && !n.proved() }, n.proveOrder(7))
	if err := n.stop(); err != nil {
		t.Error(err)
	}
	if left := n.running.journal.Keys("proof/"); len(left) != 0 {
		t.Errorf("the journal has %v", left)
	}
}

// An agent that was ended goes on answering when it starts, by its journal; also
// into other folders, and not any more where its owner does not allow it.
func TestProofsAreHeldAgainAfterAStart(t *testing.T) {
	t.Parallel()
	n, webroot, other := enrolled(t), t.TempDir(), t.TempDir()
	n.policy = &Policy{ChallengeWebroots: []string{webroot}}
	one := testProof("one")
	n.start()
	n.put(n.conn, n.proveOrder(5, one))
	n.await("the word that it is held", func() bool { return len(n.reports(certctl.ReportHeld)) == 1 })
	again := func(p *Policy) {
		t.Helper()
		if err := n.stop(); err != nil {
			t.Fatal(err)
		}
		n.put(n.conn)
		n.policy = p
		n.start()
	}
	if err := os.Remove(filepath.Join(webroot, ".well-known/acme-challenge", one.Token)); err != nil {
		t.Fatal(err)
	}
	again(&Policy{ChallengeWebroots: []string{webroot}})
	n.await("a request that names it", n.proved)
	if got := served(t, webroot); !slices.Equal(got, []string{one.Token}) {
		t.Errorf("served: %v", got)
	}
	again(&Policy{ChallengeWebroots: []string{other}})
	n.await("a request that names it", n.proved)
	if here, there := served(t, webroot), served(t, other); len(here) != 0 || !slices.Equal(there, []string{one.Token}) {
		t.Errorf("served: %v and %v", here, there)
	}
	again(&Policy{})
	if left := served(t, other); len(left) != 0 || n.proved() {
		t.Errorf("served: %v", left)
	}
}

func TestProofsEndByThemselves(t *testing.T) {
	t.Parallel()
	n, webroot := enrolled(t), t.TempDir()
	n.policy.ChallengeWebroots = []string{webroot}
	n.start()
	n.put(n.conn, n.proveOrder(5, testProof("one")))
	n.await("the word that it is held", func() bool { return len(n.reports(certctl.ReportHeld)) == 1 })
	n.put(n.conn)
	if err := n.stop(); err != nil {
		t.Fatal(err)
	}
	o := n.options()
	o.Now = func() time.Time { return time.Now().Add(certctl.KeepProofs + time.Hour) }
	a, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	a.holdAgain()
	if left := served(t, webroot); len(left) != 0 || len(a.journal.Keys("proof/")) != 0 {
		t.Errorf("served: %v", left)
	}
	if err := a.lock.Close(); err != nil {
		t.Error(err)
	}
}

func TestANodeThatAllowsNoProofRefusesWithARemedy(t *testing.T) {
	t.Parallel()
	n := enrolled(t)
	n.start()
	bad, tls := testProof("x"), testProof("tls")
	bad.Token = "../../../etc/cron.d/evil"
	bad.Answer, tls.Type = bad.Token+"."+strings.Repeat("x", 43), certctl.ProofTLS
	for i, c := range []struct {
		proof certctl.Proof
		says  string
	}{
		{testProof("one"), "challenge_http or challenge_webroots"}, {tls, "challenge_tls"}, {bad, ""},
	} {
		n.put(n.conn, n.proveOrder(int64(i+1), c.proof))
		n.await("a refusal", func() bool {
			r := n.refusals()
			return len(r) == i+1 && strings.Contains(r[i].Remedy, c.says)
		})
	}
	if err := n.stop(); err != nil {
		t.Error(err)
	}
	if left := n.running.journal.Keys("proof/"); len(left) != 0 {
		t.Errorf("the journal has %v", left)
	}
}

func TestPolicyOfChallenges(t *testing.T) {
	t.Parallel()
	policy, err := ParsePolicy("p", []byte("challenge_http: 0.0.0.0:80\nchallenge_tls: '[::]:443'\nchallenge_webroots: [/var/www/html]\n"))
	if err != nil || policy.AllowProof(certctl.ProofHTTP) != nil || policy.AllowProof(certctl.ProofTLS) != nil {
		t.Errorf("%+v, %v", policy, err)
	}
	for _, bad := range []string{"challenge_http: example.com:80", "challenge_http: 0.0.0.0", "challenge_tls: ':0'", "challenge_webroots: [www]", "challenge_webroots: [/]"} {
		if _, err := ParsePolicy("p", []byte(bad)); certctl.ErrorCode(err) != certctl.Invalid {
			t.Errorf("%s: %v", bad, err)
		}
	}
	for _, kind := range []string{certctl.ProofHTTP, certctl.ProofTLS} {
		if err := DefaultPolicy("/var/lib/certctl-agent").AllowProof(kind); certctl.ErrorCode(err) != certctl.Denied || remedyOf(err) == "" {
			t.Errorf("%s: %v", kind, err)
		}
	}
}
