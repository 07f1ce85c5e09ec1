package e2e

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/certctl/certctl/deploy/local"
)

// checkDatabase runs certctl-server check.
func checkDatabase(t *testing.T, url string) {
	t.Helper()
	check := exec.CommandContext(t.Context(), filepath.Join(binaries, "certctl-server"), "check")
	check.Env = append(os.Environ(), "CERTCTL_DATABASE_URL="+url, "CERTCTL_DATA_DIR="+t.TempDir())
	if output, err := check.CombinedOutput(); err != nil {
		t.Errorf("certctl-server check: %v\n%s", err, output)
	}
}

// Server or agent are killed at moments spread over the whole walk of a renewal.
// Each time the new leaf is served in the end, and there is one per cycle.
func TestKilledAtAnyMoment(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.call(http.MethodPost, "/api/v1/certificates", map[string]any{
		"name": "shop", "dns_names": []string{"shop.example.com"}, "issuer": "local", "targets": []string{"web"},
	}, nil)
	s.eventually(20*time.Second, "the certificate is active", func() bool { return s.certificate("shop").Status.State == "active" })
	const ms = time.Millisecond
	cycles := 1
	for victim, moments := range map[string][]time.Duration{
		"server": {5 * ms, 20 * ms, 40 * ms, 70 * ms}, // agents come back one by one, which takes its time
		"agent":  {0, 5 * ms, 10 * ms, 20 * ms, 30 * ms, 45 * ms, 60 * ms, 80 * ms, 110 * ms, 150 * ms},
	} {
		for _, moment := range moments {
			s.killDuringRenewal(victim, moment)
			cycles++
			s.eventually(90*time.Second, "the new leaf is served after a kill of the "+victim, func() bool {
				versions := s.versions("shop")
				return len(versions) == cycles && s.servedFingerprint("shop.example.com") == versions[0].Fingerprint
			})
			s.eventually(30*time.Second, "it is recorded as active", func() bool { return s.certificate("shop").Status.State == "active" })
		}
	}
	checkDatabase(t, s.DatabaseURL)
	s.noTemporaryFiles()
}

// killDuringRenewal asks for a renewal and kills a process a moment later.
func (s *stack) killDuringRenewal(victim string, after time.Duration) {
	s.t.Helper()
	s.call(http.MethodPost, "/api/v1/certificates/shop/renew", map[string]any{}, nil)
	<-time.After(after) // the moment is what is tested
	switch victim {
	case "server":
		s.Server.Kill()
		s.must(s.Server.Start(s.t.Context()))
	case "agent":
		s.Agent.Kill()
		s.must(s.Agent.Start(s.t.Context()))
	}
}

// The bus holds nothing that is not elsewhere: when its folder is lost, all goes
// on, and the stream of events is complete again.
func TestTheBusCanBeWiped(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.call(http.MethodPost, "/api/v1/certificates", map[string]any{
		"name": "shop", "dns_names": []string{"shop.example.com"}, "issuer": "local", "targets": []string{"web"},
	}, nil)
	s.eventually(20*time.Second, "the certificate is active", func() bool { return s.certificate("shop").Status.State == "active" })
	before := s.events()
	s.Server.Kill()
	s.must(os.RemoveAll(filepath.Join(s.Server.Dir, "nats")))
	s.must(s.Server.Start(t.Context()))
	s.call(http.MethodPost, "/api/v1/certificates/shop/renew", map[string]any{}, nil)
	s.eventually(60*time.Second, "the renewal is served", func() bool {
		versions := s.versions("shop")
		return len(versions) == 2 && s.servedFingerprint("shop.example.com") == versions[0].Fingerprint
	})
	s.eventually(30*time.Second, "the bus has every event", func() bool {
		onBus := s.eventsOnBus()
		missing := slices.DeleteFunc(slices.Clone(before), func(e event) bool { return slices.Contains(onBus, e.ID) })
		t.Logf("%d of %d events are on the bus, missing %+v", len(before)-len(missing), len(before), missing)
		return len(missing) == 0
	})
	checkDatabase(t, s.DatabaseURL)
}

// The database dies and comes back under a running installation: nobody restarts
// anything by hand, and nothing is lost.
func TestTheDatabaseMayDie(t *testing.T) {
	t.Parallel()
	s := startInstallation(t, &local.Installation{Durable: true}) // the others' databases may forget in a crash
	s.activate("before")
	server := s.Server.Process().PID()
	s.call(http.MethodPost, "/api/v1/certificates/before/renew", map[string]any{}, nil)
	s.Postgres.Kill()
	s.must(s.Postgres.Start(t.Context()))
	s.eventually(2*time.Minute, "the renewal is served", func() bool {
		var list struct {
			Items []version `json:"items"`
		}
		err := s.API.Call(t.Context(), http.MethodGet, "/api/v1/certificates/before/versions", nil, &list)
		return err == nil && len(list.Items) == 2 && s.servedFingerprint("before.example.com") == list.Items[0].Fingerprint
	})
	s.activate("after")
	if pid := s.Server.Process().PID(); pid != server {
		t.Errorf("the server is process %d, was %d", pid, server)
	}
	checkDatabase(t, s.DatabaseURL)
}

// event is what the tests read of one.
type event struct {
	ID        string `json:"id"`
	Name      string `json:"name"`
	Aggregate string `json:"aggregate"`
	Team      string `json:"team"`
}

// events are all events in the audit log.
func (s *stack) events() []event {
	s.t.Helper()
	var list struct {
		Items []event `json:"items"`
	}
	s.call(http.MethodGet, "/api/v1/events?limit=1000", nil, &list)
	return list.Items
}
