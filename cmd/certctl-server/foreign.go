package main

import (
	"context"
	"net"
	"os"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/api/challenge"
	"github.com/certctl/certctl/bus"
	"github.com/certctl/certctl/handlers"
	"github.com/certctl/certctl/handlers/issuer"
	"github.com/certctl/certctl/handlers/issuer/acme"
	"github.com/certctl/certctl/handlers/issuer/acme/legodns"
)

// foreignDeadline is how long a call may take that talks to a CA. What a CA does
// in its own time is not waited for, see certctl.Pause.
const foreignDeadline = 3 * time.Minute

// startForeign takes the lanes of CAs that are not our own.
func (s *server) startForeign(t *tasks, conn *bus.Conn) {
	config := acme.Config{Store: s.store, Secrets: s.keys.secrets, ExecDir: s.config.ACMEDNSExecDir}
	if self, err := os.Executable(); err == nil {
		config.DNSCommand = []string{self, legodns.Command}
	}
	driver := acme.New(config)
	config.Store = s.store.Trials()
	tester := acme.New(config)
	open := func(_ context.Context, issuer certctl.Issuer, sealed []byte) (handlers.CA, error) {
		if issuer.Kind != acme.Kind {
			return nil, certctl.Errorf(certctl.Conflict, "this worker knows no issuers of the kind %s", issuer.Kind).
				WithRemedy("update the workers")
		}
		return driver.Open(issuer, sealed)
	}
	openStaging := func(_ context.Context, original certctl.Issuer, sealed []byte) (handlers.CA, error) {
		staging, _, err := issuer.Kinds{}.Staging(original)
		if err != nil {
			return nil, err
		}
		return tester.Open(staging, sealed)
	}
	together := min(s.config.WorkerOrders, certctl.HintIssue.MaxIDs())
	issue := handlers.NewForeignIssue(s.store, open, s.worker, together, s.log)
	revoke := handlers.NewRevoke(s.store, open, s.log)
	abandon := handlers.NewAbandon(s.store, open, s.log)
	trials := handlers.NewTrials(s.store, openStaging, s.worker, s.log)
	renewalInfo := handlers.NewRenewalInfo(s.store, open, s.log)
	records := handlers.NewRecords(s.store, open, s.log)

	router := s.router(conn, func(kind string) bool { return kind != certctl.IssuerLocal })
	router.Handle(certctl.HintIssue, issue.Handle, bus.HandleOptions{Concurrency: s.config.WorkerOrders / together, Deadline: foreignDeadline})
	router.Handle(certctl.HintRevoke, revoke.Handle, bus.HandleOptions{Concurrency: 2, Batch: 16, Deadline: foreignDeadline})
	router.Handle(certctl.HintAbandon, abandon.Handle, bus.HandleOptions{Batch: 4, Deadline: foreignDeadline})
	router.Handle(certctl.HintRenewalInfo, renewalInfo.Handle, bus.HandleOptions{Concurrency: 2, Batch: certctl.MaxHintIDs, Deadline: foreignDeadline})
	router.Handle(certctl.HintRecords, records.Handle, bus.HandleOptions{Batch: 64, Deadline: foreignDeadline})
	router.Handle(certctl.HintTrial, trials.Handle, bus.HandleOptions{Concurrency: 4, Deadline: foreignDeadline})
	s.handleNotifications(router)
	t.run("foreign issuers", router.Run)
}

// startChallenges answers for the tokens of http-01, whichever worker has put them.
func (s *server) startChallenges(t *tasks) error {
	if s.config.ACMEHTTPListen == "" {
		return nil
	}
	plain, err := net.Listen("tcp", s.config.ACMEHTTPListen)
	if err != nil {
		return certctl.Wrap(certctl.Invalid, err, "proofs for ACME CAs cannot be served on %s", s.config.ACMEHTTPListen)
	}
	t.run("challenges", s.serveHTTP(plain, challenge.Handler(s.store, s.installation, s.log.With().Str("part", "challenges").Logger())))
	return nil
}
