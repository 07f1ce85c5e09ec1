package handlers_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"sync"
	"testing"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/handlers"
)

// foreignCA is a CA that we do not run: it signs, but says what it likes.
type foreignCA struct {
	root *x509.Certificate
	key  *ecdsa.PrivateKey

	mu     sync.Mutex // guards answer
	answer func(ctx context.Context, order certctl.Order) (certctl.Issued, error)
}

func newForeignCA(t *testing.T) *foreignCA {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "foreign"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	root, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &foreignCA{root: root, key: key}
}

// answers sets what comes next.
func (f *foreignCA) answers(answer func(context.Context, certctl.Order) (certctl.Issued, error)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answer = answer
}

// Prepare is part of handlers.CA.
func (f *foreignCA) Prepare(_ context.Context, job certctl.IssueJob, _ time.Time) (certctl.Asking, error) {
	return certctl.Asking{Ask: func(ctx context.Context, _ certctl.Attempt) (certctl.Issued, error) {
		f.mu.Lock()
		answer := f.answer
		f.mu.Unlock()
		return answer(ctx, job.Order)
	}}, nil
}

// sign makes a leaf for a key and names.
func (f *foreignCA) sign(t *testing.T, public crypto.PublicKey, notAfter time.Time, names ...string) certctl.Issued {
	t.Helper()
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: serial, DNSNames: names, NotBefore: time.Now().Add(-time.Minute), NotAfter: notAfter,
	}, f.root, public, f.key)
	if err != nil {
		t.Fatal(err)
	}
	return certctl.Issued{Leaf: der}
}

// right is what was asked for.
func (f *foreignCA) right(t *testing.T, order certctl.Order) certctl.Issued {
	t.Helper()
	csr, err := x509.ParseCertificateRequest(order.CSR)
	if err != nil {
		t.Fatal(err)
	}
	return f.sign(t, csr.PublicKey, time.Now().Add(time.Hour), order.Names.DNS...)
}

// asksForeign returns a handler that asks the CA, as one more worker.
func (w *world) asksForeign(f *foreignCA, worker string) *handlers.Issue {
	return handlers.NewIssue(w.Store, func(context.Context, certctl.Issuer, []byte) (handlers.CA, error) { return f, nil }, worker, testLog(w.t))
}

// readyOrder is a certificate with an order that waits for its CA.
func (w *world) readyOrder(name string) (certctl.Certificate, certctl.Order) {
	w.t.Helper()
	n := w.newNode("web-" + name)
	n.target("target-" + name)
	c := w.submit(name, "target-"+name)
	n.answersCSR()
	return c, w.orders(c)[0]
}

// exec changes the database behind the platform's back: time passes.
func (w *world) exec(query string, args ...any) {
	w.t.Helper()
	tag, err := w.Pool().Exec(w.ctx, query, args...)
	w.must(err)
	if tag.RowsAffected() == 0 {
		w.t.Fatalf("nothing is changed by %s", query)
	}
}

func asks(t *testing.T, issue *handlers.Issue, order certctl.Order) {
	t.Helper()
	if err := issue.Handle(t.Context(), certctl.Hint{Verb: certctl.HintIssue, IDs: []certctl.ID{order.ID}}); err != nil {
		t.Error(err)
	}
}

// What a CA answers is held against the order before anything of it is stored,
// and the next answer may be the right one.
func TestACAsWrongAnswerIsNeverStored(t *testing.T) {
	t.Parallel()
	w, ca, other := newWorld(t), newForeignCA(t), newForeignCA(t)
	stranger, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	w.must(err)
	day := time.Now().Add(24 * time.Hour)
	for name, answer := range map[string]func(o certctl.Order) certctl.Issued{
		"key":   func(o certctl.Order) certctl.Issued { return ca.sign(t, stranger.Public(), day, o.Names.DNS...) },
		"names": func(o certctl.Order) certctl.Issued { return ca.sign(t, publicOf(t, o), day, "admin.example.com") },
		"more": func(o certctl.Order) certctl.Issued {
			return ca.sign(t, publicOf(t, o), day, o.Names.DNS[0], "admin.example.com")
		},
		"ended": func(o certctl.Order) certctl.Issued {
			return ca.sign(t, publicOf(t, o), time.Now().Add(-time.Hour), o.Names.DNS...)
		},
		"garbage": func(certctl.Order) certctl.Issued { return certctl.Issued{Leaf: []byte("not a certificate")} },
		"nothing": func(certctl.Order) certctl.Issued { return certctl.Issued{} },
		"chain": func(o certctl.Order) certctl.Issued {
			issued := ca.right(t, o)
			issued.Chain = certctl.Chain{other.root.Raw}
			return issued
		},
	} {
		c, o := w.readyOrder(name)
		issue := w.asksForeign(ca, "w1")
		ca.answers(func(_ context.Context, order certctl.Order) (certctl.Issued, error) { return answer(order), nil })
		asks(t, issue, o)
		got := w.orders(c)[0]
		if len(w.versions(c)) != 0 || got.State != certctl.OrderReady || got.Message == "" || !got.DueAt.After(w.now()) {
			t.Errorf("%s: order %+v, versions %+v", name, got, w.versions(c))
		}
		w.exec(`update due set due_at = now() - interval '1 second' where id = $1`, o.ID)
		_, err := w.ClaimDue(w.ctx, 100, time.Minute)
		w.must(err)
		ca.answers(func(_ context.Context, order certctl.Order) (certctl.Issued, error) { return ca.right(t, order), nil })
		asks(t, issue, o)
		if v := w.versions(c); len(v) != 1 || v[0].Origin != certctl.VersionIssued {
			t.Errorf("%s: afterwards order %+v, versions %+v", name, w.orders(c)[0], v)
		}
	}
	w.consistent()
}

func publicOf(t *testing.T, order certctl.Order) crypto.PublicKey {
	t.Helper()
	csr, err := x509.ParseCertificateRequest(order.CSR)
	if err != nil {
		t.Fatal(err)
	}
	return csr.PublicKey
}

// A CA whose answer comes after another worker has taken the attempt over: the
// leaf exists, so it is kept as an orphan, and the order has the other one.
func TestACASlowerThanTheLeaseLeavesAnOrphan(t *testing.T) {
	t.Parallel()
	w, ca := newWorld(t), newForeignCA(t)
	c, o := w.readyOrder("shop")
	asked, release := make(chan struct{}), make(chan struct{})
	ca.answers(func(_ context.Context, order certctl.Order) (certctl.Issued, error) {
		close(asked)
		<-release
		return ca.right(t, order), nil
	})
	var slow sync.WaitGroup
	slow.Go(func() { asks(t, w.asksForeign(ca, "slow"), o) })
	<-asked
	w.exec(`update attempt set lease_until = now() - interval '1 second' where order_id = $1`, o.ID)
	ca.answers(func(_ context.Context, order certctl.Order) (certctl.Issued, error) { return ca.right(t, order), nil })
	asks(t, w.asksForeign(ca, "fast"), o)
	first := w.versions(c)
	close(release)
	slow.Wait()
	if len(first) != 1 || first[0].Origin != certctl.VersionIssued {
		t.Fatalf("versions of the second worker %+v", first)
	}
	origins := map[certctl.VersionOrigin]int{}
	for _, v := range w.versions(c) {
		origins[v.Origin]++
	}
	if origins[certctl.VersionIssued] != 1 || origins[certctl.VersionOrphan] != 1 {
		t.Errorf("versions %v", origins)
	}
	if d := w.deployments(c); len(d) != 1 || d[0].Version != first[0].ID {
		t.Errorf("deployments %+v", d)
	}
	w.consistent()
}

// A CA that gives the same certificate to two attempts of an order, as those do
// that can be asked again: it is one version.
func TestACAThatAnswersTwiceMakesOneVersion(t *testing.T) {
	t.Parallel()
	w, ca := newWorld(t), newForeignCA(t)
	c, o := w.readyOrder("shop")
	asked, release := make(chan certctl.Issued, 1), make(chan struct{})
	ca.answers(func(_ context.Context, order certctl.Order) (certctl.Issued, error) {
		issued := ca.right(t, order)
		asked <- issued
		<-release
		return issued, nil
	})
	var slow sync.WaitGroup
	slow.Go(func() { asks(t, w.asksForeign(ca, "slow"), o) })
	same := <-asked
	w.exec(`update attempt set lease_until = now() - interval '1 second' where order_id = $1`, o.ID)
	ca.answers(func(context.Context, certctl.Order) (certctl.Issued, error) { return same, nil })
	asks(t, w.asksForeign(ca, "fast"), o)
	close(release)
	slow.Wait()
	if v := w.versions(c); len(v) != 1 || v[0].Origin != certctl.VersionIssued || !bytes.Equal(v[0].Leaf, same.Leaf) {
		t.Errorf("versions %+v", v)
	}
	w.consistent()
}
