//go:build daemons

package target_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/agent/target"
	"github.com/certctl/certctl/agent/target/targettest"
	"github.com/certctl/certctl/deploy/local"
)

// startMariaDB starts a real MariaDB with a certificate of its own. It reads its
// options once, so that they name a link, which leads to the place's files from
// then on.
func startMariaDB(t *testing.T) *targettest.Daemon {
	t.Helper()
	client, err := local.FindMariaDBClient()
	must(t, err)
	port, err := local.FreePort()
	must(t, err)
	dir, first, directory := ownedHome(t, "mysql")
	link, toPlace, toFirst := named(t, dir, first, directory)
	mariadb := &local.MariaDB{Dir: filepath.Join(dir, "mariadb"), Listen: local.Loopback(port)}
	must(t, os.Mkdir(mariadb.Dir, 0o755)) //nolint:gosec // its installer passes through
	mariadb.Config = fmt.Sprintf("ssl-cert=%s/fullchain.pem\nssl-key=%s/privkey.pem\n", link, link)
	must(t, mariadb.Start(t.Context()))
	t.Cleanup(mariadb.Kill)
	toPlace()
	return &targettest.Daemon{
		Spec: spec(t, "mariadb", map[string]any{
			"directory": directory, "binary": client, "defaults_file": mariadb.ConfigFile(), "listen": []string{"mysql://" + mariadb.Listen},
		}),
		Directory: directory, Policy: anything{}, Single: true, Address: "mysql://" + mariadb.Listen, Complaint: "Failed to refresh SSL",
		Break: hide(t, directory), Repair: show(t, directory),
		Unname: toFirst,
	}
}

func TestMariaDB(t *testing.T) {
	t.Parallel()
	targettest.Run(t, startMariaDB)
}

func TestMariaDBSettings(t *testing.T) {
	t.Parallel()
	for name, settings := range map[string]string{
		"a relative file":      `{"directory": "/srv/tls", "listen": [], "defaults_file": "my.cnf"}`,
		"a file for nothing":   `{"directory": "/srv/tls", "listen": [], "defaults_file": "/etc/my.cnf", "reload": ["/bin/true"]}`,
		"a password":           `{"directory": "/srv/tls", "listen": [], "password": "secret"}`,
		"an unknown protocol":  `{"directory": "/srv/tls", "listen": ["mariadb://127.0.0.1:3306"]}`,
		"a program somewhere":  `{"directory": "/srv/tls", "listen": [], "binary": "mariadb"}`,
		"a key of everybody's": `{"directory": "/srv/tls", "listen": [], "key_mode": "0666"}`,
	} {
		if err := target.Validate("mariadb", []byte(settings)); certctl.ErrorCode(err) != certctl.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	must(t, target.Validate("mariadb", []byte(`{"directory": "/srv/tls", "listen": ["mysql://127.0.0.1:3306"]}`)))
}

// noOption allows a command and files below a folder.
type noOption struct{ asked *bytes.Buffer }

func (noOption) AllowDirectory(string) error { return nil }

func (n noOption) AllowConfig(path string) error {
	_, err := fmt.Fprintf(n.asked, "config %s\n", path)
	return err
}

func (n noOption) AllowCommand(argv []string) error {
	_, err := fmt.Fprintf(n.asked, "command %q\n", argv)
	return err
}

// The policy judges the file and the command each by itself.
func TestMariaDBAsksThePolicy(t *testing.T) {
	t.Parallel()
	var asked bytes.Buffer
	_, err := target.Open(spec(t, "mariadb", map[string]any{
		"directory": "/srv/tls", "listen": []string{}, "defaults_file": "/etc/mysql/certctl.cnf", "owner": "0",
	}), target.Env{Policy: noOption{&asked}})
	must(t, err)
	if want := "config /etc/mysql/certctl.cnf\ncommand [\"/usr/bin/mariadb\" \"-e\" \"FLUSH SSL\"]\n"; asked.String() != want {
		t.Errorf("asked %s", asked.String())
	}
}
