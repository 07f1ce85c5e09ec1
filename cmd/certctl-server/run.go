package main

import (
	"context"
	"errors"
	"slices"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/bus"
	"github.com/certctl/certctl/cmd/internal/edition"
	"github.com/certctl/certctl/handlers"
)

// run starts every part and returns when ctx ends or one of them fails.
func (s *server) run(ctx context.Context) error {
	t := newTasks(ctx)
	conns := map[role]*bus.Conn{}
	defer func() {
		for _, conn := range conns {
			conn.Close()
		}
	}()
	for r, on := range map[role]bus.Role{
		roleAPI: bus.RoleAPI, roleWorker: bus.RoleWorker, roleSigner: bus.RoleSigner, roleScheduler: bus.RoleScheduler,
	} {
		if !s.config.has(r) {
			continue
		}
		conn, err := s.connect(t.ctx, on)
		if err != nil {
			return err
		}
		conns[r] = conn
	}
	if err := s.recoverFirst(t.ctx, conns); err != nil {
		return err
	}
	conn := s.startMessaging(t, conns)
	if s.given != nil {
		t.run("given key", s.given.run)
	}
	if s.config.has(roleSigner) {
		if err := s.signer.start(t.ctx, t, conns[roleSigner]); err != nil {
			return err
		}
	}
	if s.config.has(roleWorker) {
		if err := s.startWorker(t, conns[roleWorker]); err != nil {
			return err
		}
	}
	if s.config.has(roleScheduler) {
		s.startScheduler(t, conns[roleScheduler])
	}
	if s.config.has(roleAPI) {
		if err := s.startAPI(t, conns[roleAPI]); err != nil {
			return err
		}
	}
	if err := s.startMetrics(t); err != nil {
		return err
	}
	if err := s.startDebug(t, conn); err != nil { // last: it says that all the rest is there
		return err
	}
	s.log.Info().Strs("roles", s.config.Roles).Str("api", s.config.APIURL).Str("version", edition.Version()).Msg("started")
	return t.wait()
}

// startMessaging runs what every process needs of the bus, over the connection
// of any of its roles, which it returns: all of them may give hints and tell
// events.
func (s *server) startMessaging(t *tasks, conns map[role]*bus.Conn) *bus.Conn {
	var conn *bus.Conn
	for _, r := range allRoles {
		if conns[r] != nil {
			conn = conns[r]
			break
		}
	}
	relay := bus.NewRelay(conn, s.store, s.log.With().Str("part", "relay").Logger())
	supervisor := bus.NewSupervisor(conn, bus.SupervisorOptions{
		Log: s.log.With().Str("part", "streams").Logger(), Replicas: s.config.NATSReplicas,
		Streams: s.store, Fill: relay.Fill, Readers: s.liveReaders,
	})
	announcer := bus.NewAnnouncer(bus.NewPublisher(conn), bus.NewBells(conn), relay, s.log.With().Str("part", "announcer").Logger())
	s.announcer.Store(announcer)
	t.run("streams", supervisor.Run)
	t.run("announcer", announcer.Run)
	if s.config.has(roleScheduler) {
		t.run("relay", relay.Run)
	}
	return conn
}

// liveReaders are those whose consumers must exist.
func (s *server) liveReaders(ctx context.Context) ([]certctl.Reader, error) {
	all, err := s.store.LiveReaders(ctx)
	return slices.DeleteFunc(all, func(r certctl.Reader) bool { return !r.RevokedAt.IsZero() }), err
}

// router takes hints of the lanes whose issuers are of the kinds that mine says.
func (s *server) router(conn *bus.Conn, mine func(kind string) bool) *bus.Router {
	return bus.NewRouter(conn, bus.RouterOptions{
		Lanes: func(ctx context.Context) ([]string, error) {
			issuers, err := s.store.IssuerKinds(ctx)
			if err != nil {
				return nil, err
			}
			var lanes []string
			for id, kind := range issuers {
				if mine(kind) {
					lanes = append(lanes, id.String())
				}
			}
			slices.Sort(lanes)
			return lanes, nil
		},
		DeadLetters: s.store, Log: s.log.With().Str("part", "router").Logger(), Done: s.metrics.done,
	})
}

// startWorker takes the reports of agents, and the lanes of the issuers that are
// not CAs of our own.
func (s *server) startWorker(t *tasks, conn *bus.Conn) error {
	installation, _, err := s.store.Installation(t.ctx)
	if err != nil {
		return err
	}
	fleet, err := s.fleetKey(t.ctx)
	if err != nil {
		return err
	}
	reports := handlers.NewReports(installation, fleet, s.acting(), s.log)
	t.run("reports", func(ctx context.Context) error { return bus.ServeReports(ctx, conn, reports.Answer) })
	s.startForeign(t, conn)
	return nil
}

// fleetKey is the public key that vouches for agents' keys.
func (s *server) fleetKey(ctx context.Context) ([]byte, error) {
	keys, err := s.store.PlatformKeys(ctx, certctl.KeyPurposeFleet)
	if err != nil {
		return nil, err
	}
	if len(keys) == 0 {
		return nil, certctl.Errorf(certctl.Unavailable, "this installation has no fleet key yet").
			WithRemedy("start a process with the role signer first")
	}
	return keys[0].Public, nil
}

// startScheduler gives hints for what is due.
func (s *server) startScheduler(t *tasks, conn *bus.Conn) {
	renew := handlers.NewRenew(s.store, s.log)
	router := s.router(conn, func(string) bool { return false })
	router.Handle(certctl.HintExpire, func(ctx context.Context, hint certctl.Hint) error {
		return errors.Join(s.store.RemindOrders(ctx, hint.IDs), s.store.AlertExpiring(ctx, hint.IDs))
	}, bus.HandleOptions{Batch: certctl.MaxHintIDs})
	router.Handle(certctl.HintRenew, renew.Handle, bus.HandleOptions{Concurrency: 2, Batch: certctl.MaxHintIDs})
	router.Handle(certctl.HintReplace, handlers.NewReplace(s.store, s.log).Handle, bus.HandleOptions{Batch: certctl.MaxHintIDs})
	router.Handle(certctl.HintRollout, handlers.NewRollouts(s.store).Handle, bus.HandleOptions{Concurrency: 2})
	t.run("scheduler", router.Run)
	t.run("dispatcher", handlers.NewDispatcher(s.acting(), s.announce, s.log).Run)
	t.run("recovery", handlers.NewRecover(s.store, s.log.With().Str("part", "recovery").Logger()).Run)
	t.run("retention", handlers.NewRetain(s.store, s.config.retention, s.log.With().Str("part", "retention").Logger()).Run)
	t.run("analyze", handlers.NewAnalyze(s.store, s.log.With().Str("part", "analyze").Logger()).Run)
}
