package agent

import (
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/certctl/certctl"
)

// A new command key, CA and bus address come with the mailbox's answer; the
// connection is made anew, and the old key's commands count no more.
func TestTrustRollover(t *testing.T) {
	t.Parallel()
	n := enrolled(t)
	n.start()
	old := n.command
	_, fresh := newEd25519(t)
	n.mu.Lock()
	n.command = fresh
	n.document.Version = 2
	n.document.CommandKeys = []certctl.CommandKey{commandKey(fresh)}
	n.document.BusURLs = []string{"tls://bus-2"}
	n.mu.Unlock()
	n.conn.ring()
	second := <-n.conns
	<-n.conn.closed
	if second.options.URLs[0] != "tls://bus-2" {
		t.Errorf("dialled %v", second.options.URLs)
	}
	n.conn = second
	n.csr(certctl.ID{1}, 1)
	n.command = old
	forged := n.order(certctl.CommandMakeKey, certctl.ID{2}, 2, n.keyCommand(certctl.ID{2}))
	n.command = fresh
	n.put(n.conn, forged, n.order(certctl.CommandMakeKey, certctl.ID{3}, 3, n.keyCommand(certctl.ID{3})))
	n.await("the CSR", func() bool { return len(n.csrs(certctl.ID{3})) == 1 })
	if len(n.csrs(certctl.ID{2})) != 0 {
		t.Error("the old key's command was obeyed")
	}
	if err := n.stop(); err != nil {
		t.Fatal(err)
	}
	id, err := LoadIdentity(n.dir)
	if err != nil {
		t.Fatal(err)
	}
	if trust, err := openTrust(n.dir, id); err != nil || trust.Document().Version != 2 {
		t.Errorf("the next start believes something else: %v", err)
	}
}

// An agent that was away for longer than its credentials and whose bus moved
// comes back over HTTPS by itself.
func TestComesBackAfterExpiry(t *testing.T) {
	t.Parallel()
	n := enrolled(t)
	n.mu.Lock()
	n.document.Version, n.document.BusURLs = 2, []string{"tls://bus-2"}
	n.mu.Unlock()
	stale := storedCredentials{JWT: "old", ExpiresAt: time.Now().Add(-24 * time.Hour), RenewAt: time.Now().Add(-48 * time.Hour)}
	if err := saveJSON(filepath.Join(n.dir, "credentials.json"), stale); err != nil {
		t.Fatal(err)
	}
	n.start()
	if jwt, err := n.conn.options.UserJWT(); err != nil || jwt != "jwt" || n.conn.options.URLs[0] != "tls://bus-2" {
		t.Errorf("logged in with %q at %v, %v", jwt, n.conn.options.URLs, err)
	}
}

func TestCredentialsAreRenewedInTime(t *testing.T) {
	t.Parallel()
	n := enrolled(t)
	n.jwtLife = 200 * time.Millisecond
	n.start()
	n.await("renewals", func() bool { return n.issued > 2 && n.conn.logins > 1 })
}

// Credentials that come with a trust document of somebody else are not used.
func TestCredentialsOfAnotherPlatformAreVoid(t *testing.T) {
	t.Parallel()
	n := idle(t)
	n.mu.Lock()
	n.document.Version = 2
	_, n.fleet = newEd25519(t)
	n.mu.Unlock()
	if err := n.running.credentials.renew(t.Context()); certctl.ErrorCode(err) != certctl.Denied {
		t.Errorf("got %v", err)
	}
	if jwt, err := n.running.credentials.JWT(); err == nil {
		t.Errorf("logs in with %q", jwt)
	}
}

// With the first address dead, the next one is asked.
func TestEveryAPIAddressIsTried(t *testing.T) {
	t.Parallel()
	n := enrolled(t)
	n.mu.Lock()
	n.document.APIURLs = []string{"https://127.0.0.1:1", n.api.URL}
	n.mu.Unlock()
	id, err := LoadIdentity(n.dir)
	if err != nil {
		t.Fatal(err)
	}
	id.Server = "https://127.0.0.1:1"
	if err := saveJSON(filepath.Join(n.dir, "identity.json"), id); err != nil {
		t.Fatal(err)
	}
	n.start()
}

func TestRetired(t *testing.T) {
	t.Parallel()
	n := enrolled(t)
	n.apiError = func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusGone)
		n.write(w, map[string]string{"title": "agent web-1 was retired"})
		return true
	}
	n.run()
	if err := n.ended(); certctl.ErrorCode(err) != certctl.Gone || err.Error() != "agent web-1 was retired" {
		t.Errorf("got %v", err)
	}
}

// An agent that was away while the CA changed learns of the new one over a
// connection that it cannot verify, and believes the fleet key's signature alone.
func TestComesBackAfterTheCAChanged(t *testing.T) {
	t.Parallel()
	n := enrolled(t)
	stale := storedCredentials{JWT: "old", ExpiresAt: time.Now().Add(-24 * time.Hour), RenewAt: time.Now().Add(-48 * time.Hour)}
	if err := saveJSON(filepath.Join(n.dir, "credentials.json"), stale); err != nil {
		t.Fatal(err)
	}
	n.newCA()
	n.start()
	if document := n.running.trust.Document(); document.Version != 2 || document.CABundle != n.root.pem() {
		t.Errorf("believes document %d", document.Version)
	}
}

// Somebody else's server, with a CA of its own and a document that another fleet
// key has signed, is told nothing.
func TestAnotherCAWithoutTheFleetKeyIsNotBelieved(t *testing.T) {
	t.Parallel()
	n := idle(t)
	n.newCA()
	n.mu.Lock()
	_, n.fleet = newEd25519(t)
	n.mu.Unlock()
	issued := n.issued
	err := n.running.credentials.renew(t.Context())
	if certctl.ErrorCode(err) != certctl.Unavailable || n.issued != issued || n.running.trust.Document().Version != 1 {
		t.Errorf("got %v, document %d", err, n.running.trust.Document().Version)
	}
}
