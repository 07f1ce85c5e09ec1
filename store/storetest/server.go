package storetest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"

	"github.com/certctl/certctl/deploy/local"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// urlVariable names a server to use instead of a private one.
const urlVariable = "CERTCTL_TEST_DATABASE_URL"

// server is a PostgreSQL with a migrated template database.
type server struct {
	admin    *pgxpool.Pool
	clones   atomic.Int64
	folder   string          // of the private server
	postgres *local.Postgres // nil: somebody else's server
	prefix   string          // of our databases; unique, since servers are shared
	url      func(database string) string
}

func startServer(ctx context.Context, migrate Migrate) (*server, error) {
	s := &server{prefix: "certctl_test_" + strings.ToLower(rand.Text()) + "_"}
	start := s.startPrivate
	if os.Getenv(urlVariable) != "" {
		start = s.useExisting
	}
	if err := start(ctx); err != nil {
		return nil, errors.Join(err, s.close())
	}
	if err := s.makeTemplate(ctx, migrate); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

func (s *server) startPrivate(ctx context.Context) (err error) {
	s.folder, err = os.MkdirTemp("", "certctl-store-")
	if err != nil {
		return err
	}
	// The database's user passes through.
	if err := os.Chmod(s.folder, 0o711); err != nil {
		return err
	}
	postgres := &local.Postgres{Dir: filepath.Join(s.folder, "postgres")}
	if err := postgres.Start(ctx); err != nil {
		return errors.Join(err, postgres.Remove())
	}
	s.postgres = postgres
	s.url = postgres.DSN
	s.admin, err = pgxpool.New(ctx, s.url("postgres"))
	return err
}

func (s *server) useExisting(ctx context.Context) (err error) {
	existing, err := url.Parse(os.Getenv(urlVariable))
	if err != nil || existing.Scheme == "" {
		return fmt.Errorf("%s is not a URL (postgres://user@host/database)", urlVariable)
	}
	s.url = func(database string) string {
		named := *existing
		named.Path = "/" + database
		return named.String()
	}
	s.admin, err = pgxpool.New(ctx, existing.String())
	return err
}

// makeTemplate leaves no connection to the template: a database that somebody
// uses cannot be cloned.
func (s *server) makeTemplate(ctx context.Context, migrate Migrate) error {
	if err := s.exec(ctx, "create database", s.template()); err != nil {
		return fmt.Errorf("create the template database: %w", err)
	}
	pool, err := pgxpool.New(ctx, s.url(s.template()))
	if err != nil {
		return fmt.Errorf("open the template database: %w", err)
	}
	defer pool.Close()
	if err := migrate(ctx, pool); err != nil {
		return fmt.Errorf("migrate the template database: %w", err)
	}
	return nil
}

func (s *server) template() string { return s.prefix + "template" }

func (s *server) clone(ctx context.Context) (string, error) {
	name := fmt.Sprintf("%s%d", s.prefix, s.clones.Add(1))
	// Copying files beats logging each page for a schema without rows.
	return name, s.exec(ctx, "create database", name,
		" template "+identifier(s.template())+" strategy file_copy")
}

func (s *server) drop(ctx context.Context, name string) error {
	return s.exec(ctx, "drop database if exists", name, " with (force)")
}

func (s *server) exec(ctx context.Context, verb, database string, options ...string) error {
	_, err := s.admin.Exec(ctx, verb+" "+identifier(database)+strings.Join(options, ""))
	return err
}

func identifier(name string) string { return pgx.Identifier{name}.Sanitize() }

// close removes what this process made. It works on a server that has started
// only in part.
func (s *server) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), cloneTimeout)
	defer cancel()

	var failures []error
	if s.admin != nil {
		if s.postgres == nil {
			failures = append(failures, s.drop(ctx, s.template()))
		}
		s.admin.Close()
	}
	if s.postgres != nil {
		failures = append(failures, s.postgres.StopImmediate(ctx), s.postgres.Remove())
	}
	if s.folder != "" {
		failures = append(failures, os.RemoveAll(s.folder))
	}
	return errors.Join(failures...)
}
