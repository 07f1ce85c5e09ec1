package chaos

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/certctl/certctl/deploy/test/fleet"
)

// Sizes of the fleet that comes back at once.
const (
	stampedeFull  = 10_000
	stampedeShort = 200
)

// stampedeLimit is how long it may take until each has had its answer.
const stampedeLimit = 10 * time.Minute

// stampede connects a fleet of simulated agents and restarts the bus under it.
// All of them come back, paced as real ones are, and ask their mailboxes. The real
// agents of the scenario work among them.
func stampede(ctx context.Context, s *stand) error {
	count := s.options.Agents
	if count == 0 {
		count = s.times(stampedeFull, stampedeShort)
	}
	crowd, err := s.crowd(ctx, count)
	if err != nil {
		return err
	}
	defer crowd.Close()
	for range s.times(2, 1) {
		s.fault("NATS killed under %d agents", count)
		s.NATS[0].Kill()
		if err := s.NATS[0].Start(ctx); err != nil {
			return err
		}
		back := time.Now()
		limited, cancel := context.WithTimeout(ctx, stampedeLimit)
		times, err := crowd.Answered(limited, back)
		cancel()
		if err != nil {
			return err
		}
		s.note("%d agents were back and answered: half of them after %s, all after %s",
			count, times[len(times)/2].Round(100*time.Millisecond), times[len(times)-1].Round(100*time.Millisecond))
		if err := s.recovered(ctx); err != nil {
			return err
		}
	}
	return nil
}

// crowd enrols and connects simulated agents, past the proxy: its copies of the
// connections would be in this process, too.
func (s *stand) crowd(ctx context.Context, count int) (*fleet.Fleet, error) {
	pem, err := os.ReadFile(s.NATSFile("tls.crt"))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, errors.New("the certificate of the bus cannot be read")
	}
	began := time.Now()
	crowd, err := fleet.Enrol(ctx, fleet.Options{
		API: s.API, BusURLs: []string{"tls://" + s.NATS[0].Listen}, TLS: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13},
		Count: count, Prefix: "crowd-",
	})
	if err != nil {
		return nil, fmt.Errorf("enrol %d agents: %w", count, err)
	}
	enrolled := time.Now()
	if err := crowd.Connect(ctx); err != nil {
		crowd.Close()
		return nil, fmt.Errorf("connect %d agents: %w", count, err)
	}
	s.note("%d agents enrolled in %s, connected and answered in %s", count,
		enrolled.Sub(began).Round(100*time.Millisecond), time.Since(enrolled).Round(100*time.Millisecond))
	return crowd, nil
}

// note keeps a measurement for the report.
func (s *stand) note(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	s.report.Notes = append(s.report.Notes, text)
	s.logf("%s", text)
}
