package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/certctl/certctl/deploy/local"
	"github.com/certctl/certctl/store"
)

// stand is an installation with every part a process of its own: PostgreSQL with
// fsync on, nats-server, and one server for each role.
type stand struct {
	*local.Fleet
	store    *store.Store // for looking, and for filling tables
	profiles string       // folder for CPU profiles; empty: none
}

// program is one part of a stand as usage tables name it.
type program struct {
	name string
	pid  int
}

// withStand runs what on a fresh stand and takes it down afterwards.
func withStand(ctx context.Context, o options, what func(*stand) error) error {
	return withStandOf(ctx, o, nil, what)
}

// withStandOf is withStand with settings of the servers.
func withStandOf(ctx context.Context, o options, env []string, what func(*stand) error) (err error) {
	dir, err := os.MkdirTemp("", "certctl-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := os.Chmod(dir, 0o711); err != nil { // PostgreSQL's user passes through
		return err
	}
	s := &stand{profiles: o.profiles, Fleet: &local.Fleet{Installation: &local.Installation{
		Binaries: o.binaries, Dir: filepath.Join(dir, "state"), Durable: true, ServerEnv: append(env, "CERTCTL_LOG_LEVEL=info"),
	}}}
	if o.profiles != "" {
		s.PostgresSettings = map[string]string{"shared_preload_libraries": "pg_stat_statements"}
	}
	defer func() {
		stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		err = errors.Join(err, s.Fleet.Stack.Stop(stopping))
	}()
	if err := os.MkdirAll(s.Dir, 0o711); err != nil {
		return err
	}
	if err := s.StartApart(ctx, 1); err != nil {
		return err
	}
	if s.store, err = store.Open(ctx, s.DatabaseURL, nil); err != nil {
		return err
	}
	defer s.store.Close()
	if s.profiles == "" {
		return what(s)
	}
	if _, err := s.store.Pool().Exec(ctx, "create extension pg_stat_statements"); err != nil {
		return err
	}
	return errors.Join(what(s), s.statements(ctx))
}

// statements writes which statements took PostgreSQL most of its time.
func (s *stand) statements(ctx context.Context) error {
	rows, err := s.store.Pool().Query(ctx, `
		select round(total_exec_time)::int8, calls, rows, regexp_replace(query, '\s+', ' ', 'g')
		from pg_stat_statements order by total_exec_time desc limit 40`)
	if err != nil {
		return err
	}
	defer rows.Close()
	var text strings.Builder
	for rows.Next() {
		var milliseconds, calls, count int64
		var query string
		if err := rows.Scan(&milliseconds, &calls, &count, &query); err != nil {
			return err
		}
		fmt.Fprintf(&text, "%7d ms %7d calls %8d rows  %.700s\n", milliseconds, calls, count, query)
	}
	return errors.Join(rows.Err(), os.WriteFile(filepath.Join(s.profiles, "statements.txt"), []byte(text.String()), 0o644))
}

// await asks the database until the answer is true.
func (s *stand) await(ctx context.Context, query string, args ...any) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Minute)
	defer cancel()
	ticker := time.NewTicker(50 * time.Millisecond) // asking more often would be part of the load
	defer ticker.Stop()
	for {
		var done bool
		if err := s.store.Pool().QueryRow(ctx, query, args...).Scan(&done); err != nil || done {
			return err
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// programs lists the stand's processes, and this one, which makes the load.
func (s *stand) programs() []program {
	all := []program{{"PostgreSQL", s.Database.PID()}, {"nats-server", s.NATS[0].Process().PID()}}
	for _, role := range local.Roles {
		for _, server := range s.Apart[role] {
			all = append(all, program{role, server.Process().PID()})
		}
	}
	return append(all, program{"load generator", os.Getpid()})
}

// metered runs work, and records what each program used for one of its n pieces.
func (s *stand) metered(r *result, n int, work func() error) error {
	before := map[string]time.Duration{}
	for _, p := range s.programs() {
		u, err := usageOf(p.pid)
		if err != nil {
			return err
		}
		before[p.name] += u.cpu
	}
	busy, err := busyMachine()
	if err != nil {
		return err
	}
	if err := work(); err != nil {
		return err
	}
	after, err := busyMachine()
	if err != nil {
		return err
	}
	used, memory := map[string]time.Duration{}, map[string]int64{}
	var names []string
	var ours time.Duration
	for _, p := range s.programs() {
		u, err := usageOf(p.pid)
		if err != nil {
			return err
		}
		if !slices.Contains(names, p.name) {
			names = append(names, p.name)
			used[p.name] = -before[p.name]
		}
		used[p.name] += u.cpu
		memory[p.name] += u.memory
	}
	for _, name := range names {
		ours += used[name]
		r.add("CPU a piece, memory: "+name, "%s, %s", short(used[name]/time.Duration(n)), mebibytes(memory[name]))
	}
	if total := after - busy; total > 0 {
		r.foreign = max(r.foreign, float64(total-ours)/float64(total))
	}
	return nil
}

// profile begins to record a CPU profile of the server processes, and returns a
// function that waits for them.
func (s *stand) profile(ctx context.Context, name string, seconds int) (wait func() error) {
	if s.profiles == "" {
		return func() error { return nil }
	}
	roles := []string{"api", "signer", "worker", "scheduler"}
	failed := make(chan error, len(roles))
	for _, role := range roles {
		go func() {
			url := fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", s.Apart[role][0].Debug, seconds)
			failed <- download(ctx, url, filepath.Join(s.profiles, name+"-"+role+".pprof"))
		}()
	}
	return func() error {
		var errs []error
		for range roles {
			errs = append(errs, <-failed)
		}
		return errors.Join(errs...)
	}
}

func download(ctx context.Context, url, path string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = io.Copy(file, response.Body)
	return errors.Join(err, file.Close())
}
