package e2e

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"math/big"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/certctl/certctl/deploy/local"
)

// serverCommand runs a command of certctl-server with its settings of the stack,
// and with others that win.
func (s *stack) serverCommand(env []string, args ...string) (string, error) {
	s.t.Helper()
	command := exec.CommandContext(s.t.Context(), filepath.Join(binaries, "certctl-server"), args...)
	command.Env = append(os.Environ(), append([]string{
		"CERTCTL_DATABASE_URL=" + s.Server.DatabaseURL, "CERTCTL_DATA_DIR=" + s.Server.Dir, "CERTCTL_CREATE_KEKS=true",
	}, env...)...)
	output, err := command.CombinedOutput()
	return string(output), err
}

func (s *stack) mustCommand(args ...string) string {
	s.t.Helper()
	output, err := s.serverCommand(nil, args...)
	if err != nil {
		s.t.Fatalf("%v: %v\n%s", args, err, output)
	}
	return output
}

// logged is an event of the log.
type logged struct {
	ID       string          `json:"id"`
	Name     string          `json:"name"`
	Object   string          `json:"object"`
	Sequence int64           `json:"sequence"`
	Data     json.RawMessage `json:"data"`
}

// log reads the whole log, oldest first.
func (s *stack) log() []logged {
	s.t.Helper()
	var list struct {
		Items []logged `json:"items"`
	}
	s.call(http.MethodGet, "/api/v1/events?limit=1000", nil, &list)
	return list.Items
}

// crl is the list that a leaf names.
func (s *stack) crl(leaf *x509.Certificate) *x509.RevocationList {
	s.t.Helper()
	list, err := x509.ParseRevocationList(s.fetch(leaf.CRLDistributionPoints[0]))
	s.must(err)
	return list
}

// signed reports whether the list that a leaf names is there.
func (s *stack) signed(leaf *x509.Certificate) bool {
	s.t.Helper()
	response := s.get(leaf.CRLDistributionPoints[0])
	_ = response.Body.Close()
	return response.StatusCode == http.StatusOK
}

func lists(list *x509.RevocationList, serial *big.Int) bool {
	return slices.ContainsFunc(list.RevokedCertificateEntries, func(e x509.RevocationListEntry) bool { return e.SerialNumber.Cmp(serial) == 0 })
}

// A backup is older than the last renewals and revocations. After its restore
// onto a new cluster nothing goes backwards: what was issued and revoked since
// is known again, agents are told nothing older than what they have, numbers
// rise, and the history has no hole.
func TestARestoredInstallationLearnsWhatItDidSince(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.call(http.MethodPost, "/api/v1/certificates", map[string]any{
		"name": "shop", "dns_names": []string{"shop.example.com"}, "issuer": "local", "targets": []string{"web"},
	}, nil)
	s.eventually(time.Minute, "the certificate is active", func() bool { return s.certificate("shop").Status.State == "active" })
	before := s.leafFiles("before")
	file := filepath.Join(s.Dir, "one-hour-ago.backup")
	s.mustCommand("backup", file)
	s.noSecretsIn(file)

	// What the backup does not know.
	older := s.versions("shop")[0]
	s.call(http.MethodPost, "/api/v1/certificates/shop/renew", map[string]any{}, nil)
	s.eventually(time.Minute, "the renewal is served", func() bool {
		return s.certificate("shop").Status.State == "active" && s.versions("shop")[0].ID != older.ID
	})
	newer := s.versions("shop")[0]
	since, gone := s.leafFiles("since"), s.leafFiles("gone")
	for _, name := range []string{"before", "gone"} {
		s.call(http.MethodPost, "/api/v1/certificates/"+name+"/revoke", map[string]any{"reason": "superseded", "replace": "no"}, nil)
	}
	revoked := []*leafFiles{before, gone}
	for _, f := range revoked {
		s.eventually(time.Minute, "the revocation is listed", func() bool { return lists(s.crl(f.leaf), f.leaf.SerialNumber) })
	}
	numbers := []*big.Int{s.crl(before.leaf).Number, s.crl(gone.leaf).Number, s.crl(since.leaf).Number}
	known := s.log()

	s.loseTheDatabase(file)
	s.must(s.Agent.Stop(t.Context()))
	s.must(s.Server.Start(t.Context()))

	// Before any agent has spoken.
	if !s.recovering() {
		t.Error("/ready does not say that the installation recovers")
	}
	if output, err := since.ocsp("-serial", "0x00000a01"); err == nil || !strings.Contains(output, "trylater") {
		t.Errorf("a serial number that is not known yet: %v: %s", err, output)
	}
	if output, err := since.ocsp("-cert", "leaf.pem"); err != nil || !strings.Contains(output, "leaf.pem: good") {
		t.Errorf("a leaf from after the backup: %v: %s", err, output)
	}
	for _, f := range revoked {
		if output, err := f.ocsp("-cert", "leaf.pem"); err != nil || !strings.Contains(output, "leaf.pem: revoked") {
			t.Errorf("a revocation from after the backup: %v: %s", err, output)
		}
		s.eventually(time.Minute, "the revocation is listed again", func() bool {
			return s.signed(f.leaf) && lists(s.crl(f.leaf), f.leaf.SerialNumber)
		})
	}
	for i, f := range []*leafFiles{before, gone, since} {
		s.eventually(time.Minute, "the list is signed again", func() bool { return s.signed(f.leaf) })
		if number := s.crl(f.leaf).Number; number.Cmp(numbers[i]) <= 0 {
			t.Errorf("list %d has number %v after %v", i, number, numbers[i])
		}
	}
	after := s.log()
	for _, e := range known {
		if !slices.ContainsFunc(after, func(o logged) bool {
			return o.ID == e.ID && o.Name == e.Name && o.Sequence == e.Sequence && bytes.Equal(o.Data, e.Data)
		}) {
			t.Errorf("event %s %s is lost", e.ID, e.Name)
		}
	}

	// The agent brings back what it has, and obeys.
	s.must(s.Agent.Start(t.Context()))
	s.eventually(2*time.Minute, "the recovery ends by itself", func() bool { return !s.recovering() })
	if got := s.versions("shop")[0]; got.ID != newer.ID || got.Fingerprint != newer.Fingerprint {
		t.Errorf("the current version is %+v, the agent has %+v", got, newer)
	}
	if got := s.servedFingerprint("shop.example.com"); got != newer.Fingerprint {
		t.Errorf("nginx serves %s, want %s", got, newer.Fingerprint)
	}
	if output, err := since.ocsp("-serial", "0x00000a01"); err != nil || !strings.Contains(output, "unknown") {
		t.Errorf("a serial number that was never issued, when all is known: %v: %s", err, output)
	}
	s.call(http.MethodPost, "/api/v1/certificates/shop/renew", map[string]any{}, nil)
	s.eventually(time.Minute, "a later renewal is served", func() bool {
		newest := s.versions("shop")[0]
		return newest.ID != newer.ID && s.servedFingerprint("shop.example.com") == newest.Fingerprint && s.certificate("shop").Status.State == "active"
	})
	if output, err := s.serverCommand(nil, "check"); err != nil {
		t.Errorf("%v: %s", err, output)
	}
	if output := s.mustCommand("recovery", "status"); !strings.Contains(output, "finished") || !strings.Contains(output, "1 taken from agents, 0 refused") {
		t.Errorf("recovery status: %s", output)
	}
	s.toldOnce("recovery_begun", "version_recovered", "recovery_finished")
}

// toldOnce proves that events with the names are in the log once.
func (s *stack) toldOnce(names ...string) {
	s.t.Helper()
	count := map[string]int{}
	for _, e := range s.log() {
		count[e.Name]++
	}
	for _, name := range names {
		if count[name] != 1 {
			s.t.Errorf("%d events %s", count[name], name)
		}
	}
}

func (s *stack) recovering() bool {
	s.t.Helper()
	var ready struct {
		Checks map[string]string `json:"checks"`
	}
	s.call(http.MethodGet, "/ready", nil, &ready)
	return ready.Checks["recovery"] == "degraded"
}

// loseTheDatabase stops the server, destroys its cluster, and restores a backup
// into a new one, after tries that must be refused.
func (s *stack) loseTheDatabase(file string) {
	s.t.Helper()
	s.must(s.Server.Stop(s.t.Context()))
	s.must(s.Postgres.Stop(s.t.Context()))
	s.must(s.Postgres.Remove())
	cluster := &local.Postgres{Databases: []string{"certctl"}, Dir: filepath.Join(s.Dir, "postgres-new")}
	s.must(cluster.Start(s.t.Context()))
	s.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(s.t.Context()), time.Minute)
		defer cancel()
		if err := cluster.Stop(ctx); err != nil {
			s.t.Error(err)
		}
	})
	s.Server.DatabaseURL = cluster.DSN("certctl")

	other := s.t.TempDir()
	for _, name := range []string{"kek-ca.key", "kek-secrets.key"} {
		key := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{7}, 32)) + "\n"
		s.must(os.WriteFile(filepath.Join(other, name), []byte(key), 0o600))
	}
	output, err := s.serverCommand([]string{"CERTCTL_DATA_DIR=" + other}, "restore", file)
	if err == nil || !strings.Contains(output, "not those that this backup was sealed with") {
		s.t.Errorf("with other key-encryption keys: %v: %s", err, output)
	}
	output, err = s.serverCommand([]string{"CERTCTL_DATA_DIR=" + s.t.TempDir()}, "restore", file)
	if err == nil || !strings.Contains(output, "kek-ca.key") {
		s.t.Errorf("without key-encryption keys: %v: %s", err, output)
	}
	s.mustCommand("restore", file)
}

// noSecretsIn proves that a backup holds neither a key-encryption key nor what is
// sealed, in the clear.
func (s *stack) noSecretsIn(file string) {
	s.t.Helper()
	archive, err := os.ReadFile(file)
	s.must(err)
	dump := filepath.Join(s.t.TempDir(), "dump")
	s.must(os.WriteFile(dump, archive[bytes.Index(archive, []byte("PGDMP")):], 0o600))
	text, err := exec.CommandContext(s.t.Context(), "pg_restore", "--file=-", dump).Output()
	s.must(err)
	if !bytes.Contains(text, []byte("shop.example.com")) {
		s.t.Error("the dump cannot be looked through")
	}
	for _, name := range []string{"kek-ca.key", "kek-secrets.key"} {
		key, err := os.ReadFile(filepath.Join(s.Server.Dir, name))
		s.must(err)
		raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(key)))
		s.must(err)
		s.absent(name, slices.Concat(archive, text), raw, bytes.TrimSpace(key))
	}
	admin, err := os.ReadFile(s.Server.AdminKeyFile)
	s.must(err)
	s.absent("the admin's key", text, bytes.TrimSpace(admin))
	s.absent("a private key", text, []byte("PRIVATE KEY"))
}

// absent fails the test where content holds one of the secrets, as it is or in
// hex, which is how a dump writes bytes.
func (s *stack) absent(what string, content []byte, secrets ...[]byte) {
	s.t.Helper()
	for _, secret := range secrets {
		if bytes.Contains(content, secret) || bytes.Contains(content, []byte(hex.EncodeToString(secret))) {
			s.t.Errorf("the backup holds %s", what)
		}
	}
}
