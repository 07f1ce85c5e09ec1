package chaos

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/bus"
	"github.com/certctl/certctl/bus/rogue"
)

// startPrevious starts two servers and two agents of the previous release on a
// database with its schema.
func startPrevious(ctx context.Context, s *stand) error {
	folder, err := s.options.buildPrevious(ctx)
	if err != nil {
		return err
	}
	s.Binaries = folder
	if err := s.Start(ctx, 2); err != nil {
		return err
	}
	return s.addAgents(ctx)
}

// upgrade replaces one process after the other while submissions go on, and looks
// after each step whether certctl works: new agents with old servers, then both
// kinds of servers on the new schema with both kinds of agents, then old agents
// with new servers. An old server that runs goes on; one that is started on a
// schema newer than its own refuses, since it cannot know what that relies on.
func upgrade(ctx context.Context, s *stand) error {
	if err := s.recovered(ctx); err != nil {
		return err
	}
	for _, step := range []struct {
		about string
		does  func() error
	}{
		{"a new agent with old servers", func() error { return s.replaceAgent(ctx, 1, s.options.Binaries) }},
		{"a new server beside an old one: the schema moves on under the old one", func() error { return s.replaceServer(ctx, 0, s.options.Binaries) }},
		{"the old server alone on the new schema", func() error { return s.alone(ctx, 0) }},
		{"hints that neither server knows", func() error { return s.newerHint(ctx) }},
		{"the old server started again: it refuses the new schema", func() error { return s.refuses(ctx, 1) }},
		{"new servers alone, with an old agent", func() error { return s.replaceServer(ctx, 1, s.options.Binaries) }},
		{"the last old agent replaced", func() error { return s.replaceAgent(ctx, 0, s.options.Binaries) }},
	} {
		s.fault("%s", step.about)
		if err := step.does(); err != nil {
			return fmt.Errorf("%s: %w", step.about, err)
		}
		if err := s.recovered(ctx); err != nil {
			return fmt.Errorf("%s: %w", step.about, err)
		}
		s.pass(ctx, s.span(3*time.Second, time.Second))
	}
	return nil
}

func (s *stand) replaceServer(ctx context.Context, n int, binaries string) error {
	server := s.Servers[n]
	if err := server.Stop(ctx); err != nil {
		return err
	}
	server.Binary = filepath.Join(binaries, "certctl-server")
	return server.Start(ctx)
}

func (s *stand) replaceAgent(ctx context.Context, n int, binaries string) error {
	a := s.Agents[n]
	if err := a.Stop(ctx); err != nil {
		return err
	}
	a.Binary = filepath.Join(binaries, "certctl-agent")
	return a.Start(ctx)
}

// alone looks whether the others can do without server n.
func (s *stand) alone(ctx context.Context, n int) error {
	if err := s.Servers[n].Stop(ctx); err != nil {
		return err
	}
	return errors.Join(s.recovered(ctx), s.Servers[n].Start(ctx))
}

// refuses starts an old server again, which must end and say why.
func (s *stand) refuses(ctx context.Context, n int) error {
	server := s.Servers[n]
	if err := server.Stop(ctx); err != nil {
		return err
	}
	if err := server.Spawn(); err != nil {
		return err
	}
	select {
	case <-server.Done():
	case <-time.After(reachTimeout):
		return errors.New("it does not end")
	case <-ctx.Done():
		return ctx.Err()
	}
	if log := server.Process().Log(); !strings.Contains(log, "schema is version") {
		return fmt.Errorf("it does not say why: %s", log)
	}
	return nil
}

// newerHint publishes hints that no process here can read. Each is kept a while
// for one that can, then it is a dead letter; the lane goes on meanwhile.
func (s *stand) newerHint(ctx context.Context) error {
	client, err := rogue.Connect("tls://"+s.NATS[0].Listen, s.NATSFile("tls.crt"), filepath.Join(s.Credentials(), string(bus.RoleWorker)+".creds"))
	if err != nil {
		return err
	}
	defer client.Close()
	lane, err := s.lane(ctx)
	if err != nil {
		return err
	}
	for _, i := range rogue.Newer(certctl.HintIssue, lane) {
		s.letters++
		if err := client.Say(i); err != nil {
			return err
		}
	}
	return client.Flush()
}

// lane is the lane of the local issuer.
func (s *stand) lane(ctx context.Context) (string, error) {
	var issuer struct {
		ID string `json:"id"`
	}
	err := s.load.call(ctx, http.MethodGet, "/api/v1/issuers/local", nil, &issuer)
	return issuer.ID, err
}
