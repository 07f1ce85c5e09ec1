package e2e

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// cli runs certctl with the first admin's key and returns its exit code and what
// it wrote.
func (s *stack) cli(input string, args ...string) (code int, stdout, stderr string) {
	s.t.Helper()
	cmd := exec.CommandContext(s.t.Context(), filepath.Join(binaries, "certctl"), args...)
	cmd.Env = []string{
		"CERTCTL_SERVER=" + s.Server.URL(), "CERTCTL_CA_FILE=" + s.Server.CAFile, "CERTCTL_KEY_FILE=" + s.Server.AdminKeyFile,
		"HOME=" + filepath.Join(s.Dir, "home"),
	}
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &out, &errs
	err := cmd.Run()
	if cmd.ProcessState == nil {
		s.t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

// ok is cli for what must succeed.
func (s *stack) ok(input string, args ...string) string {
	s.t.Helper()
	code, stdout, stderr := s.cli(input, args...)
	if code != 0 {
		s.t.Fatalf("certctl %v: exit code %d\n%s%s", args, code, stdout, stderr)
	}
	return stdout
}

// What people do all day, from the command line.
func TestCommandLine(t *testing.T) {
	t.Parallel()
	s := start(t)
	out := s.ok("", "certificates", "create", "shop", "-d", "shop.example.com", "--issuer", "local", "--target", "web", "--wait")
	if !strings.Contains(out, "active") {
		t.Errorf("--wait ended with %s", out)
	}
	s.ok(newCSR(t, "mail.example.com"), "certificates", "create", "mail", "--issuer", "local", "--csr", "-", "--wait")
	if chain := s.ok("", "certificates", "chain", "mail"); !strings.HasPrefix(chain, "-----BEGIN CERTIFICATE-----") {
		t.Errorf("chain %s", chain)
	}
	if table := s.ok("", "certificates", "list"); !strings.Contains(table, "shop.example.com") || !strings.Contains(table, "web") || strings.Contains(table, "map[") {
		t.Errorf("table\n%s", table)
	}
	var list struct {
		Items []struct {
			Name string `json:"name"`
		} `json:"items"`
	}
	if err := json.Unmarshal([]byte(s.ok("", "certificates", "list", "-o", "json")), &list); err != nil || len(list.Items) < 2 {
		t.Errorf("list %+v, %v", list, err)
	}
	if status := s.ok("", "certificates", "status", "shop"); !strings.Contains(status, "verified on web") {
		t.Errorf("status %s", status)
	}
	s.showsAttempts()
	if yaml := s.ok("", "certificates", "get", "shop", "-o", "yaml"); !strings.Contains(yaml, "name: shop\n") {
		t.Errorf("yaml %s", yaml)
	}
	if preview := s.ok("", "certificates", "renew", "shop", "--dry-run"); !strings.Contains(preview, "order") || !strings.Contains(preview, "web") {
		t.Errorf("preview %s", preview)
	}
	if again := s.ok("", "certificates", "redeploy", "shop", "--target", "web"); !strings.Contains(again, "pending") {
		t.Errorf("redeployed %s", again)
	}
	if code, _, stderr := s.cli("", "certificates", "rollback", "shop"); code == 0 || !strings.Contains(stderr, "no such earlier version") {
		t.Errorf("a rollback of the first leaf: %d, %s", code, stderr)
	}
	s.ok("", "freezes", "create", "december", "--until", "14d", "--reason", "sales")
	if code, _, stderr := s.cli("", "certificates", "renew", "shop"); code == 0 || !strings.Contains(stderr, "december") {
		t.Errorf("a renewal during a freeze: %d, %s", code, stderr)
	}
	s.ok("", "certificates", "renew", "shop", "--override", "the key has leaked")
	s.ok("", "freezes", "end", "december")
	if table := s.ok("", "freezes", "list", "--all"); !strings.Contains(table, "sales") {
		t.Errorf("freezes %s", table)
	}
	s.ok("", "certificates", "pause", "shop")
	if text := s.ok("", "certificates", "explain", "shop"); !strings.Contains(text, "paused") {
		t.Errorf("explanation %s", text)
	}
	s.ok("", "certificates", "resume", "shop")
	if plan := s.ok("", "plan", "--days", "400"); !strings.Contains(plan, "renewals of") || !strings.Contains(plan, "public CAs give at most 100d") {
		t.Errorf("plan %s", plan)
	}
	s.ok("", "issuers", "pause", "local")
	s.ok("", "issuers", "resume", "local")
	s.ok("", "certificates", "revoke", "mail", "--reason", "superseded", "--replace", "no")
	if events := s.ok("", "events", "list", "--name", "version_revoked"); !strings.Contains(events, "version_revoked") {
		t.Errorf("events %s", events)
	}
	s.ok("", "doctor")
	if text := s.ok("", "doctor", "certificate", "shop"); !strings.Contains(text, "asks nobody before it issues") {
		t.Errorf("preflight %s", text)
	}
	if text := s.ok("", "certificates", "validation-records", "shop"); !strings.HasPrefix(text, "ISSUER") {
		t.Errorf("records %s", text)
	}
	s.ok("", "certificates", "archive", "mail")
	if !strings.Contains(s.ok("", "completion", "bash"), "complete") {
		t.Error("no completion")
	}
}

// Scripts tell outcomes apart by the exit code.
func TestCommandLineExitCodes(t *testing.T) {
	t.Parallel()
	s := start(t)
	var made struct {
		Key string `json:"key"`
	}
	s.ok("", "principals", "create", "watcher", "--role", "viewer")
	if err := json.Unmarshal([]byte(s.ok("", "api-keys", "create", "w", "--principal", "watcher", "-o", "json")), &made); err != nil || made.Key == "" {
		t.Fatalf("no key: %v", err)
	}
	for name, test := range map[string]struct {
		code int
		args []string
		says string
	}{
		"there is no such thing": {3, []string{"certificates", "get", "nothing"}, "nothing"},
		"not allowed":            {4, []string{"--key", made.Key, "certificates", "create", "x", "-d", "x.example.com", "--issuer", "local"}, ""},
		"no such key":            {4, []string{"--key", "cck_wrong", "certificates", "list"}, "API key"},
		"no such command":        {2, []string{"certificates", "frobnicate"}, ""},
		"no such flag":           {2, []string{"certificates", "list", "--frobnicate"}, ""},
		"not a name":             {2, []string{"certificates", "create", "x", "-d", "not a name", "--issuer", "local"}, "dns_names"},
		"there already":          {1, []string{"principals", "create", "watcher", "--role", "viewer"}, "watcher"},
		"nothing in time":        {5, []string{"--timeout", "1s", "certificates", "create", "late", "-d", "late.example.com", "--issuer", "local", "--wait"}, ""},
	} {
		code, stdout, stderr := s.cli("", test.args...)
		if code != test.code || !strings.Contains(stderr, test.says) || stderr == "" {
			t.Errorf("%s: exit code %d, want %d\n%s%s", name, code, test.code, stdout, stderr)
		}
	}
}

// A context is written once, and used from then on.
func TestCommandLineContexts(t *testing.T) {
	t.Parallel()
	s := start(t)
	key, err := os.ReadFile(s.Server.AdminKeyFile)
	s.must(err)
	run := func(args ...string) (string, error) {
		cmd := exec.CommandContext(t.Context(), filepath.Join(binaries, "certctl"), args...)
		cmd.Env = []string{"HOME=" + filepath.Join(s.Dir, "home")}
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := run("certificates", "list"); err == nil {
		t.Errorf("without a server: %s", out)
	}
	if out, err := run("contexts", "set", "here", "--to", s.Server.URL(), "--with-ca-file", s.Server.CAFile, "--with-key-file", s.Server.AdminKeyFile); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if out, err := run("certificates", "list"); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	if out, err := run("contexts", "list"); err != nil || !strings.Contains(out, "here") || strings.Contains(out, strings.TrimSpace(string(key))) {
		t.Errorf("%v: %s", err, out)
	}
	if !slices.ContainsFunc(s.files(filepath.Join(s.Dir, "home")), func(mode os.FileMode) bool { return mode == 0o600 }) {
		t.Error("the contexts file may be read by others")
	}
}

// files are the modes of the files below a folder.
func (s *stack) files(dir string) []os.FileMode {
	s.t.Helper()
	var modes []os.FileMode
	s.must(filepath.WalkDir(dir, func(_ string, entry os.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			var info os.FileInfo
			if info, err = entry.Info(); err == nil {
				modes = append(modes, info.Mode().Perm())
			}
		}
		return err
	}))
	return modes
}

// showsAttempts looks at an order as people and as scripts do.
func (s *stack) showsAttempts() {
	s.t.Helper()
	var orders struct {
		Items []struct {
			ID string `json:"id"`
		} `json:"items"`
	}
	s.must(json.Unmarshal([]byte(s.ok("", "orders", "list", "--certificate", "shop", "-o", "json")), &orders))
	table := s.ok("", "orders", "get", orders.Items[0].ID)
	if !strings.Contains(table, "ASKED") || !strings.Contains(table, "issued") || strings.Contains(table, "attempts:") {
		s.t.Errorf("order as a table\n%s", table)
	}
	var order struct {
		Attempts []struct {
			Worker  string `json:"worker"`
			Outcome string `json:"outcome"`
		} `json:"attempts"`
	}
	s.must(json.Unmarshal([]byte(s.ok("", "orders", "get", orders.Items[0].ID, "-o", "json")), &order))
	if len(order.Attempts) != 1 || order.Attempts[0].Worker == "" || order.Attempts[0].Outcome != "issued" {
		s.t.Errorf("order as JSON %+v", order)
	}
}
