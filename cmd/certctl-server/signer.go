package main

import (
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/bus"
	"github.com/certctl/certctl/handlers"
	"github.com/certctl/certctl/handlers/ca"
	"github.com/certctl/certctl/handlers/issuer/local"
)

// signer is what only the signer role holds: every private key of the platform.
type signer struct {
	server      *server
	platform    *handlers.Platform
	authorities *handlers.Authorities
	local       certctl.Issuer // the issuer that signs the platform's own certificates
	authority   *ca.Authority
	root        []byte // DER: that of the active authority
	roots       []byte // PEM: all that agents should trust
	api         *handlers.SystemCertificate
	broker      *handlers.SystemCertificate
}

// localIssuer is the issuer that every installation has.
const localIssuer = "local"

// newSigner opens or makes the platform's keys, its first issuer and its own
// certificates. It needs no bus.
func newSigner(ctx context.Context, s *server) (*signer, error) {
	g := &signer{server: s}
	var err error
	if g.platform, err = handlers.OpenPlatform(ctx, s.store, s.keys.ca); err != nil {
		return nil, err
	}
	g.authorities = handlers.NewAuthorities(s.store, s.keys.ca, s.config.PKIURL)
	g.authorities.Linter = ca.NewLinter(func(err error) {
		s.log.Error().Err(err).Msg("from now on all lint rules look at each leaf: look at those that were signed before with zlint, and report this")
	})
	if err := g.openIssuer(ctx); err != nil {
		return nil, err
	}
	if err := writePublic(s.config.CAFile, g.roots); err != nil {
		return nil, err
	}
	g.api = g.systemCertificate("system-api", s.config.apiNames())
	g.broker = g.systemCertificate("system-bus", s.config.busNames())
	for _, certificate := range g.certificates() {
		if err := certificate.Ensure(ctx); err != nil {
			return nil, err
		}
	}
	return g, nil
}

// certificates are the platform's own that this process serves.
func (g *signer) certificates() []*handlers.SystemCertificate {
	if g.server.config.has(roleBus) {
		return []*handlers.SystemCertificate{g.api, g.broker}
	}
	return []*handlers.SystemCertificate{g.api}
}

func (g *signer) systemCertificate(name string, names certctl.Names) *handlers.SystemCertificate {
	return handlers.NewSystemCertificate(name, names, g.local.ID, g.authority, g.root, g.server.store, g.server.keys.ca, g.server.log)
}

// ensureLocalIssuer finds the first issuer, or makes it; it has no authority yet.
func (s *server) ensureLocalIssuer(ctx context.Context) (issuer certctl.Issuer, err error) {
	actor := certctl.SystemActor("signer")
	err = s.store.LockedOnce(ctx, "issuer-"+localIssuer, func(ctx context.Context) error {
		issuer, err = s.store.GetIssuer(ctx, actor, localIssuer)
		if certctl.ErrorCode(err) == certctl.NotFound {
			issuer, err = s.store.CreateIssuer(ctx, actor, certctl.IssuerRequest{
				Name: localIssuer, Kind: certctl.IssuerLocal, Settings: json.RawMessage("{}"), Trust: certctl.TrustPrivate,
			})
		}
		return err
	})
	return issuer, err
}

// openIssuer opens the first issuer with its authorities, or makes them.
func (g *signer) openIssuer(ctx context.Context) error {
	var err error
	if g.local, err = g.server.ensureLocalIssuer(ctx); err != nil {
		return err
	}
	settings, err := local.ParseSettings(g.local.Settings)
	if err != nil {
		return err
	}
	if g.authority, err = g.authorities.Active(ctx, g.local.ID, settings.Authority); err != nil {
		return err
	}
	all, err := g.server.store.Authorities(ctx, g.local.ID)
	if err != nil {
		return err
	}
	return g.findRoots(all)
}

// findRoots notes the roots that agents should trust, and which of them the
// active authority is below: another one after ca install.
func (g *signer) findRoots(all []certctl.Authority) error {
	top := g.authority.Certificate
	if chain := g.authority.Chain; len(chain) > 1 {
		var err error
		if top, err = x509.ParseCertificate(chain[len(chain)-1]); err != nil {
			return certctl.Wrap(certctl.Internal, err, "the chain of authority %s cannot be read", g.authority.ID)
		}
	}
	for _, authority := range all {
		if !handlers.IsRoot(authority) {
			continue
		}
		g.roots = append(g.roots, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: authority.Certificate})...)
		root, err := x509.ParseCertificate(authority.Certificate)
		if err == nil && top.CheckSignatureFrom(root) == nil {
			g.root = authority.Certificate
		}
	}
	if g.root == nil {
		return certctl.Errorf(certctl.Internal, "the issuer %s has no root", localIssuer)
	}
	return nil
}

// openCA returns the authority of a local issuer as the issue handler asks it.
func (g *signer) openCA(ctx context.Context, issuer certctl.Issuer, _ []byte) (handlers.CA, error) {
	settings, err := local.ParseSettings(issuer.Settings)
	if err != nil {
		return nil, err
	}
	authority, err := g.authorities.Active(ctx, issuer.ID, settings.Authority)
	if err != nil {
		return nil, err
	}
	return local.New(authority), nil
}

// publishTrust tells agents, in a document that the fleet key signs, which keys
// command them and where the API and the bus are. Addresses of the API add up:
// replicas have their own.
func (g *signer) publishTrust(ctx context.Context) error {
	st := g.server.store
	return st.LockedOnce(ctx, "trust", func(ctx context.Context) error {
		installation, _, err := st.Installation(ctx)
		if err != nil {
			return err
		}
		now, err := st.Now(ctx)
		if err != nil {
			return err
		}
		var last certctl.TrustDocument
		if newest, err := st.NewestTrust(ctx); err == nil {
			if err := newest.Decode(&last); err != nil {
				return err
			}
		}
		bundle, err := g.trustBundle()
		if err != nil {
			return err
		}
		restored, err := st.Recovery(ctx)
		if err != nil && certctl.ErrorCode(err) != certctl.NotFound {
			return err
		}
		_, err = handlers.PublishTrust(ctx, st, installation, g.platform.Fleet, handlers.TrustFacts{
			CommandKeys: g.platform.CommandKeys,
			CABundle:    bundle,
			APIURLs:     addURL(last.APIURLs, g.server.config.APIURL),
			BusURLs:     g.server.busURLs(),
			After:       restored.BeganAt,
		}, now)
		return err
	})
}

// trustBundle is what agents trust: our roots, and that of an external bus.
func (g *signer) trustBundle() (string, error) {
	c := g.server.config
	if len(c.NATSURL) == 0 || c.NATSCAFile == c.CAFile {
		return string(g.roots), nil
	}
	others, err := os.ReadFile(c.NATSCAFile)
	if err != nil {
		return "", certctl.Wrap(certctl.Invalid, err, "the CA file of the bus, %s, cannot be read", c.NATSCAFile)
	}
	return string(g.roots) + string(others), nil
}

// maxAPIURLs is how many addresses of the API agents are told.
const maxAPIURLs = 16

func addURL(known []string, url string) []string {
	for _, k := range known {
		if k == url {
			return known
		}
	}
	known = append(known, url)
	return known[max(0, len(known)-maxAPIURLs):]
}

// fleet is the public key that agents pin.
func (g *signer) fleet() ed25519.PublicKey {
	public, _ := g.platform.Fleet.Public().(ed25519.PublicKey)
	return public
}

// start runs the signer's parts on the bus.
func (g *signer) start(ctx context.Context, t *tasks, conn *bus.Conn) error {
	s := g.server
	installation, _, err := s.store.Installation(ctx)
	if err != nil {
		return err
	}
	mailboxes := handlers.NewMailboxes(installation, g.fleet(), s.acting(), g.platform.Command, s.openImported, s.log)
	enrolments := handlers.NewEnrolments(installation, g.platform.Fleet, s.store, g.mint, bus.NewBells(conn).Ring, s.log)
	lists := handlers.NewLists(s.store, g.authorities, s.keys.pki, s.log)
	issue := handlers.NewIssue(s.acting(), g.openCA, s.worker, s.log)
	revoke := handlers.NewRevoke(s.store, g.openCA, s.log)

	router := s.router(conn, func(kind string) bool { return kind == certctl.IssuerLocal })
	router.Handle(certctl.HintIssue, issue.Handle, bus.HandleOptions{Concurrency: 2, Batch: certctl.MaxHintIDs})
	router.Handle(certctl.HintRevoke, revoke.Handle, bus.HandleOptions{Batch: certctl.MaxHintIDs})
	router.Handle(certctl.HintCRL, lists.Handle, bus.HandleOptions{Deadline: 5 * time.Minute})
	router.Handle(certctl.HintSystem, g.handleSystem, bus.HandleOptions{})
	t.run("signer", router.Run)
	t.run("mailboxes", func(ctx context.Context) error { return bus.ServeMailbox(ctx, conn, mailboxes.Answer) })
	t.run("enrolment", func(ctx context.Context) error { return bus.ServeSigner(ctx, conn, verbEnroll, enrolments.Enroll) })
	t.run("credentials", func(ctx context.Context) error {
		return bus.ServeSigner(ctx, conn, verbCredentials, enrolments.Credentials)
	})
	t.run("readers", func(ctx context.Context) error { return bus.ServeSigner(ctx, conn, verbReader, g.reader(conn)) })
	t.run("first lists", func(ctx context.Context) error { return g.signFirstLists(ctx, lists) })
	t.run("system certificates", g.keepCertificates)
	return nil
}

// Verbs that the API asks of the signer.
const (
	verbEnroll      = "enroll"
	verbCredentials = "credentials"
	verbReader      = "reader"
)

func (g *signer) mint(agent certctl.ID, busKey string, now time.Time, life time.Duration) (string, error) {
	return bus.AgentJWT(g.platform.Bus, agent, busKey, now, life)
}

// reader makes the consumer of a reader of events, and its credentials.
func (g *signer) reader(conn *bus.Conn) func(context.Context, certctl.Reader) (string, error) {
	return func(ctx context.Context, reader certctl.Reader) (string, error) {
		if err := g.updateAccounts(ctx); err != nil {
			return "", err
		}
		if err := bus.CreateReader(ctx, conn, reader); err != nil {
			return "", err
		}
		now, err := g.server.store.Now(ctx)
		if err != nil {
			return "", err
		}
		return bus.ReaderCredentials(g.platform.Bus, reader, now)
	}
}

// signFirstLists signs the lists of authorities that have none, and gives them
// responders, so that the addresses in the first leaf answer from the first
// moment. Another replica may be faster.
func (g *signer) signFirstLists(ctx context.Context, lists *handlers.Lists) error {
	without, err := lists.Incomplete(ctx)
	if err != nil {
		return err
	}
	if err := lists.Handle(ctx, certctl.Hint{Verb: certctl.HintCRL, IDs: without}); err != nil && ctx.Err() == nil {
		g.server.log.Warn().Err(err).Msg("the first revocation lists are signed later")
	}
	return nil
}

// handleSystem looks after what belongs to the platform: accounts of the bus
// after a retirement, its own certificates when they are due.
func (g *signer) handleSystem(ctx context.Context, _ certctl.Hint) error {
	if err := g.updateAccounts(ctx); err != nil {
		return err
	}
	for _, certificate := range g.certificates() {
		if err := certificate.Ensure(ctx); err != nil {
			return err
		}
	}
	return g.rollOver(ctx)
}

// keepCertificates takes over what other replicas have renewed.
func (g *signer) keepCertificates(ctx context.Context) error {
	ticker := time.NewTicker(10 * time.Minute)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		if err := g.handleSystem(ctx, certctl.Hint{}); err != nil && ctx.Err() == nil {
			g.server.log.Error().Err(err).Msg("system certificates not looked after")
		}
	}
}

// accounts derives the bus's account documents from what is retired and who may
// read.
func (g *signer) accounts(ctx context.Context) ([]bus.AccountJWT, error) {
	facts, err := g.facts(ctx)
	if err != nil {
		return nil, err
	}
	return bus.AccountJWTs(g.platform.Bus, facts)
}

// facts dates the documents by the newest change that they hold, so that all
// replicas derive the same ones.
func (g *signer) facts(ctx context.Context) (bus.Facts, error) {
	st := g.server.store
	retired, err := st.RetiredAgents(ctx, bus.MaxUserLife)
	if err != nil {
		return bus.Facts{}, err
	}
	readers, err := st.LiveReaders(ctx)
	facts := bus.Facts{Retired: retired, Readers: readers, Version: g.local.CreatedAt.UnixMicro()}
	for _, agent := range retired {
		facts.Version = max(facts.Version, agent.At.UnixMicro())
	}
	return facts, err
}

// updateAccounts hands newer account documents to the broker.
func (g *signer) updateAccounts(ctx context.Context) error {
	documents, err := g.accounts(ctx)
	if err != nil {
		return err
	}
	changed, err := g.server.applyAccounts(ctx, documents)
	if len(changed) > 0 {
		g.server.log.Info().Strs("accounts", changed).Msg("bus accounts updated")
	}
	return err
}

// writePublic writes a file that everybody may read, all of it or nothing.
func writePublic(path string, content []byte) error {
	if old, err := os.ReadFile(path); err == nil && string(old) == string(content) {
		return nil
	}
	temporary := path + ".new"
	err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(temporary, content, 0o644)) //nolint:gosec // public by purpose
	if err == nil {
		err = os.Rename(temporary, path)
	}
	if err != nil {
		return certctl.Wrap(certctl.Invalid, err, "%s cannot be written", path)
	}
	return nil
}
