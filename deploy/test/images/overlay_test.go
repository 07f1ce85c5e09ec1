//go:build engine

package images

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// watched asks Prometheus for what it has scraped: every process, and what the
// tables say.
func (p *project) watched() {
	p.t.Helper()
	ask := func(query string) string {
		var answer struct {
			Data struct {
				Result []struct {
					Value []any `json:"value"`
				} `json:"result"`
			} `json:"data"`
		}
		text := p.inside("curl", "-sG", "http://127.0.0.1:9090/api/v1/query", "--data-urlencode", "query="+query)
		if err := json.Unmarshal([]byte(text), &answer); err != nil {
			return text
		}
		if len(answer.Data.Result) == 0 || len(answer.Data.Result[0].Value) != 2 {
			return ""
		}
		value, _ := answer.Data.Result[0].Value[1].(string)
		return value
	}
	for query, want := range map[string]string{
		`count(up{job="certctl"} == 1)`:                               "5", // two of them workers
		`count(count by (role) (certctl_build_info))`:                 "4",
		`sum(max by (left) (certctl_certificates_served)) >= bool 1`:  "1",
		`max(certctl_agents_presence{presence="online"})`:             "1",
		`sum(certctl_api_requests_total{code="200"}) > bool 0`:        "1",
		`count(ALERTS{alertstate="firing"}) or vector(0)`:             "0",
		`min by (issuer) (certctl_issuer_up{issuer="local"})`:         "1",
		`count(certctl_served_expiry_min_timestamp_seconds) > bool 0`: "1",
	} {
		p.until(query+" is "+want, time.Minute, func() bool { return ask(query) == want })
	}
	if rules := p.inside("curl", "-s", "http://127.0.0.1:9090/api/v1/rules"); strings.Count(rules, `"Certctl`) < 12 {
		p.t.Errorf("rules: %s", rules)
	}
}

// testProduction runs the overlay for production, with a PostgreSQL that is not
// part of it, and takes one of the three NATS servers away.
func testProduction(e *engine) {
	const host = "172.17.0.1" // the engine's own address, where ports are published
	dir := e.t.TempDir()
	password, database := filepath.Join(dir, "password"), filepath.Join(dir, "database")
	must(e.t, os.WriteFile(password, []byte("only-for-tests"), 0o644))                                                            //nolint:gosec // read by the container's user
	must(e.t, os.WriteFile(database, []byte("postgres://certctl:only-for-tests@"+host+":5433/certctl?sslmode=disable\n"), 0o644)) //nolint:gosec // likewise
	e.run("docker", "run", "-d", "--name", "database", "-p", "5433:5432", "-v", password+":/password:ro", "-e", "POSTGRES_USER=certctl",
		"-e", "POSTGRES_DB=certctl", "-e", "POSTGRES_PASSWORD_FILE=/password", "postgres:17-alpine")
	e.t.Cleanup(func() { _, _ = e.try("docker", "rm", "-f", "-v", "database") })
	p := e.project("production", []string{"CERTCTL_HOST=" + host, "CERTCTL_DATABASE_FILE=" + database, "CERTCTL_BIND=0.0.0.0"},
		"-f", "docker-compose.yml", "-f", "deploy/compose/production.yml", "--profile", "demo")
	p.until("the database takes connections", time.Minute, func() bool {
		_, err := p.try("docker", "exec", "database", "pg_isready", "-h", "127.0.0.1", "-U", "certctl", "-d", "certctl")
		return err == nil
	})
	p.compose("up", "-d")
	p.verified("web", "web")
	p.serves("web", host+":9443", "localhost")
	p.compose("stop", "nats-2")
	p.certctl("certificates", "renew", "web", "--wait")
	p.serves("web", host+":9443", "localhost")
	if versions := p.certctl("versions", "list", "--certificate", "web"); strings.Count(versions, "\n") != 2 {
		p.t.Errorf("after a renewal with two of three servers: %s", versions)
	}
}

// What this repository has of Compose files can be read, together with what each
// is put on.
func TestComposeFilesAreValid(t *testing.T) {
	t.Parallel()
	for name, files := range map[string][]string{
		"base":          {"docker-compose.yml"},
		"observability": {"docker-compose.yml", "deploy/compose/observability.yml"},
		"production":    {"docker-compose.yml", "deploy/compose/production.yml"},
		"test":          {"docker-compose.yml", "deploy/compose/test.yml"},
		"step-ca":       {"docker-compose.yml", "deploy/compose/step-ca.yml"},
		"both CAs":      {"docker-compose.yml", "deploy/compose/test.yml", "deploy/compose/step-ca.yml"},
		"all overlays":  {"docker-compose.yml", "deploy/compose/production.yml", "deploy/compose/observability.yml"},
	} {
		validate(t, name, files...)
	}
	examples, err := filepath.Glob(filepath.Join(root, "examples", "*", "compose.yml"))
	must(t, err)
	if len(examples) == 0 {
		t.Error("no examples")
	}
	for _, file := range examples {
		file, err := filepath.Rel(root, file)
		must(t, err)
		validate(t, file, file)
	}
}

func validate(t *testing.T, name string, files ...string) {
	t.Helper()
	var args []string
	for _, file := range files {
		args = append(args, "-f", file)
	}
	cmd := exec.CommandContext(t.Context(), ".task/docker-compose", append(args, "--profile", "*", "config", "-q")...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CERTCTL_HOST=certctl.example.com", "CERTCTL_DATABASE_FILE=database")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%s: %v\n%s", name, err, out)
	}
}
