package backup_test

import (
	"archive/tar"
	"bytes"
	"context"
	"database/sql"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/migrations"
	"github.com/certctl/certctl/store"
	"github.com/certctl/certctl/store/backup"
	"github.com/certctl/certctl/store/storetest"
	"github.com/jackc/pgx/v5"
	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	"github.com/pressly/goose/v3"
)

func TestMain(m *testing.M) { storetest.Main(m, store.Migrate) }

// installation sets up a database with something in it.
func installation(t *testing.T) (url string, s *store.Store) {
	t.Helper()
	url = storetest.URL(t)
	s, err := store.Open(t.Context(), url, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	if _, err := s.Bootstrap(t.Context(), store.BootstrapRequest{AdminKey: certctl.DigestOf([]byte("key")), AdminPrefix: "cck_"}); err != nil {
		t.Fatal(err)
	}
	return url, s
}

func exec1(t *testing.T, url, sql string, args ...any) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func take(t *testing.T, url string) (string, backup.Manifest) {
	t.Helper()
	path, m, err := backup.Take(t.Context(), backup.Options{URL: url, Release: "test"}, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return path, m
}

func restoring(url, path string) backup.RestoreOptions {
	return backup.RestoreOptions{
		Options: backup.Options{URL: url, Release: "test"}, Path: path, CheckKeys: func([]backup.KeyCheck) error { return nil },
	}
}

func refused(t *testing.T, err error, code certctl.Code, words string) {
	t.Helper()
	var ours *certctl.Error
	if !errors.As(err, &ours) || ours.Code != code || !strings.Contains(ours.Message+ours.Remedy, words) {
		t.Errorf("error %v, want %s with %q", err, code, words)
	}
}

func TestABackupComesBack(t *testing.T) {
	t.Parallel()
	url, s := installation(t)
	events, err := s.EventsSince(t.Context(), certctl.NoID, 100)
	if err != nil {
		t.Fatal(err)
	}
	path, m := take(t, url)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the backup is for others, too: %v, %v", info, err)
	}
	if m.LastEvent != events[len(events)-1].ID || time.Since(m.TakenAt) > time.Minute || m.Schema == 0 {
		t.Errorf("manifest %+v", m)
	}
	exec1(t, url, `insert into team (id, name) values (gen_random_uuid(), 'after')`)
	s.Close()

	refusedOptions := restoring(url, path)
	_, err = backup.Restore(t.Context(), refusedOptions)
	refused(t, err, certctl.Conflict, "not empty")

	o := restoring(url, path)
	o.Overwrite = true
	finished := false
	o.Finish = func(ctx context.Context, s *store.Store, got backup.Manifest) error {
		finished = got.Installation == m.Installation
		refused(t, s.CheckRestored(ctx), certctl.Conflict, "has not ended")
		return nil
	}
	if _, err := backup.Restore(t.Context(), o); err != nil || !finished {
		t.Fatalf("finished %v, %v", finished, err)
	}
	back, err := store.Open(t.Context(), url, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer back.Close()
	if err := back.CheckRestored(t.Context()); err != nil {
		t.Error(err)
	}
	id, _, err := back.Installation(t.Context())
	teams := 0
	if err := errors.Join(err, back.Pool().QueryRow(t.Context(), `select count(*) from team where name = 'after'`).Scan(&teams)); err != nil || id != m.Installation || teams != 0 {
		t.Errorf("installation %s, %d teams from after the backup, %v", id, teams, err)
	}
	if err := back.MakeEventPartitions(t.Context(), time.Time{}); err != nil {
		t.Error(err)
	}
	if found, err := back.CheckIntegrity(t.Context()); err != nil || len(found) > 0 {
		t.Errorf("broken %v, %v", found, err)
	}
}

// An older release's backup is brought to this release's schema.
func TestAnOlderSchemaIsMigrated(t *testing.T) {
	t.Parallel()
	url, s := installation(t)
	newest, err := store.SchemaVersion()
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	path, m := take(t, url)
	if m.Schema != newest {
		t.Errorf("schema %d, want %d", m.Schema, newest)
	}
	downTo(t, url, 14)
	older, m := take(t, url)
	if m.Schema >= newest || older == path {
		t.Fatalf("schema %d", m.Schema)
	}
	o := restoring(url, older)
	o.Overwrite = true
	if _, err := backup.Restore(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	exec1(t, url, `insert into retention_horizon (kind, at) values ('test', now())`)
}

// downTo makes the schema that of an older release.
func downTo(t *testing.T, url string, schema int64) {
	t.Helper()
	db, err := sql.Open("pgx", url)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	provider, err := goose.NewProvider(goose.DialectPostgres, db, migrations.FS)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := provider.DownTo(t.Context(), schema); err != nil {
		t.Fatal(err)
	}
}

func TestRestoreRefusesBeforeItChanges(t *testing.T) {
	t.Parallel()
	url, s := installation(t)
	path, _ := take(t, url)

	_, err := backup.Restore(t.Context(), restoring(url, path))
	refused(t, err, certctl.Conflict, "stop every certctl-server")
	s.Close()

	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	wrong := func(name string, content []byte) string {
		other := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(other, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return other
	}
	flipped := bytes.Clone(whole)
	flipped[len(flipped)-5000] ^= 1
	for name, c := range map[string]struct {
		path  string
		words string
	}{
		"damaged": {wrong("damaged", flipped), "damaged"},
		"cut off": {wrong("cut", whole[:len(whole)/2]), "damaged"},
		"foreign": {wrong("foreign", []byte("no tar at all")), "no backup of certctl"},
		"absent":  {filepath.Join(t.TempDir(), "absent"), "cannot be read"},
		"newer":   {wrong("newer", altered(t, path, `"schema": `, `"schema": 9`)), "or newer"},
		"format":  {wrong("format", altered(t, path, `"format": 1`, `"format": 2`)), "format 2"},
	} {
		o := restoring(url, c.path)
		o.Overwrite = true
		if _, err := backup.Restore(t.Context(), o); err == nil || !strings.Contains(err.Error()+remedy(err), c.words) {
			t.Errorf("%s: %v", name, err)
		}
	}

	o := restoring(url, path)
	o.Overwrite = true
	o.CheckKeys = func([]backup.KeyCheck) error { return certctl.Errorf(certctl.Conflict, "other keys") }
	_, err = backup.Restore(t.Context(), o)
	refused(t, err, certctl.Conflict, "other keys")
	exec1(t, url, `select id from installation`) // it is still there
}

func remedy(err error) string {
	var ours *certctl.Error
	if errors.As(err, &ours) {
		return ours.Remedy
	}
	return ""
}

// altered packs a backup again with another text in its manifest.
func altered(t *testing.T, path, old, replacement string) []byte {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var out bytes.Buffer
	reader, writer := tar.NewReader(file), tar.NewWriter(&out)
	for {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		content, readErr := io.ReadAll(reader)
		if err := errors.Join(err, readErr); err != nil {
			t.Fatal(err)
		}
		content = bytes.Replace(content, []byte(old), []byte(replacement), 1)
		header.Size = int64(len(content))
		if err := writer.WriteHeader(header); err != nil {
			t.Fatal(err)
		}
		if _, err := writer.Write(content); err != nil {
			t.Fatal(err)
		}
	}
	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestProgramsThatAreMissingOrOld(t *testing.T) {
	t.Parallel()
	url, _ := installation(t)
	empty, old := t.TempDir(), t.TempDir()
	script := "#!/bin/sh\necho 'pg_dump (PostgreSQL) 9.6.24'\n"
	if err := os.WriteFile(filepath.Join(old, "pg_dump"), []byte(script), 0o700); err != nil { //nolint:gosec // it must run
		t.Fatal(err)
	}
	_, _, err := backup.Take(t.Context(), backup.Options{URL: url, Programs: backup.Programs{Folder: empty}}, t.TempDir())
	refused(t, err, certctl.Unavailable, "apt-get install postgresql-client")
	_, _, err = backup.Take(t.Context(), backup.Options{URL: url, Programs: backup.Programs{Folder: old}}, t.TempDir())
	refused(t, err, certctl.Conflict, "older than the server")
}

// A password is not shown in command lines, and reaches the programs all the same.
func TestPasswordsStayOutOfCommandLines(t *testing.T) {
	t.Parallel()
	url, _ := installation(t)
	dir := t.TempDir()
	program, err := exec.LookPath("pg_dump")
	if err != nil {
		t.Fatal(err)
	}
	script := "#!/bin/sh\necho \"$@\" >> " + dir + "/args\necho \"$PGPASSWORD\" >> " + dir + "/calls\nexec " + program + " \"$@\"\n"
	if err := os.WriteFile(filepath.Join(dir, "pg_dump"), []byte(script), 0o700); err != nil { //nolint:gosec // it must run
		t.Fatal(err)
	}
	secret := strings.Replace(url, "postgres@", "postgres:hunter2@", 1) + "&pool_max_conns=4"
	if _, _, err := backup.Take(t.Context(), backup.Options{URL: secret, Programs: backup.Programs{Folder: dir}}, t.TempDir()); err != nil {
		t.Fatal(err)
	}
	args, argsErr := os.ReadFile(filepath.Join(dir, "args"))
	calls, err := os.ReadFile(filepath.Join(dir, "calls"))
	if err = errors.Join(err, argsErr); err != nil || strings.Contains(string(args), "hunter2") || strings.Count(string(calls), "hunter2") != 1 {
		t.Errorf("arguments %s, environment %s, %v", args, calls, err)
	}
}
