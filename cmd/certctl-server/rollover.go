package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/handlers"
	"github.com/certctl/certctl/handlers/issuer/local"
	"github.com/rs/zerolog"
)

type caRolloverCommand struct {
	Issuer  string        `help:"The local issuer that it is for." default:"local" env:"-"`
	Overlap time.Duration `help:"How long the next CA is published before it signs; 0s: it signs from now on." default:"168h" env:"-"`
}

// caRollover makes an issuer's next authority before its time.
func caRollover(ctx context.Context, c *Config, command caRolloverCommand, log zerolog.Logger) error {
	if command.Overlap < 0 {
		return certctl.Errorf(certctl.Invalid, "--overlap must not be negative")
	}
	s, err := offline(ctx, c, log)
	if err != nil {
		return err
	}
	defer s.store.Close()
	issuer, settings, err := s.localIssuer(ctx, command.Issuer)
	if err != nil {
		return err
	}
	authorities := handlers.NewAuthorities(s.store, s.keys.ca, c.PKIURL)
	rollovers := handlers.NewRollovers(authorities, s.store, handlers.NewLists(s.store, authorities, s.keys.pki, log))
	next, err := rollovers.Order(ctx, issuer, settings.Authority, command.Overlap)
	if err != nil {
		return err
	}
	if next.State == certctl.AuthorityActive {
		fmt.Printf("authority %s signs the certificates of %s now\n", next.ID, command.Issuer)
		return nil
	}
	fmt.Printf("authority %s is published, and signs the certificates of %s from %s on\n", next.ID, command.Issuer, next.ActivateAt.Format(time.RFC3339))
	return nil
}

// rollOver looks after the succession of every local issuer's authority.
func (g *signer) rollOver(ctx context.Context) error {
	kinds, err := g.server.store.IssuerKinds(ctx)
	if err != nil {
		return err
	}
	lists := handlers.NewLists(g.server.store, g.authorities, g.server.keys.pki, g.server.log)
	rollovers := handlers.NewRollovers(g.authorities, g.server.store, lists)
	var failures error
	for id, kind := range kinds {
		if kind != certctl.IssuerLocal {
			continue
		}
		issuer, err := g.server.store.GetIssuer(ctx, certctl.SystemActor("signer"), id.String())
		if err != nil {
			return err
		}
		settings, err := local.ParseSettings(issuer.Settings)
		if err == nil {
			err = rollovers.Look(ctx, id, settings.Authority)
		}
		if err != nil { // one issuer's trouble is not the others'
			failures = errors.Join(failures, certctl.Wrap(certctl.ErrorCode(err), err, "the authority of %s has no successor", issuer.Name))
		}
	}
	return failures
}
