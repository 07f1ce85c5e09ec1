package target

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"text/template"

	"github.com/certctl/certctl"
)

var nginxKind = Descriptor{
	Kind: "nginx", Title: "nginx", Check: true, Hitless: true, Rollback: true, Probe: true, open: openNginx,
}

// nginxSettings are the settings of a target of kind nginx.
type nginxSettings struct {
	// Directory holds the places; nginx's configuration names files below it, or
	// includes <directory>/*/current/*.conf.
	Directory string `json:"directory"`
	// Config is nginx's main configuration file.
	Config string `json:"config"`
	// Binary is nginx's program; default /usr/sbin/nginx.
	Binary string `json:"binary,omitempty"`
	// Prefix is nginx's -p, if it is started with one.
	Prefix string `json:"prefix,omitempty"`
	// PIDFile names the master process; default /run/nginx.pid.
	PIDFile string `json:"pid_file,omitempty"`
	// Reload is an argument vector to run instead of signalling the master.
	Reload []string `json:"reload,omitempty"`
	// Listen are the addresses to probe, host:port.
	Listen []string `json:"listen"`
	// ServerBlock is a template that is rendered into each generation as
	// server.conf: {{.Names}}, {{.Fullchain}}, {{.Key}}, {{.Chain}}, {{.Place}}.
	ServerBlock string `json:"server_block,omitempty"`
}

type nginx struct {
	settings nginxSettings
	block    *template.Template
}

// blockData is what a server_block may use. The paths go through current/, so
// that they stay right for every generation.
type blockData struct {
	Names                       []string
	Fullchain, Cert, Chain, Key string
	Place                       string
}

func openNginx(raw json.RawMessage) (driver, error) {
	n := &nginx{settings: nginxSettings{Binary: "/usr/sbin/nginx", PIDFile: "/run/nginx.pid"}}
	if err := decode(raw, &n.settings); err != nil {
		return nil, err
	}
	var bad certctl.FieldErrors
	s := n.settings
	absolute(&bad, "directory", s.Directory)
	absolute(&bad, "config", s.Config)
	absolute(&bad, "binary", s.Binary)
	absolute(&bad, "pid_file", s.PIDFile)
	if s.Prefix != "" {
		absolute(&bad, "prefix", s.Prefix)
	}
	checkAddresses(&bad, "listen", s.Listen)
	if s.ServerBlock != "" {
		var err error
		n.block, err = template.New("server_block").Option("missingkey=error").Parse(s.ServerBlock)
		if err == nil {
			err = n.block.Execute(&bytes.Buffer{}, blockData{Names: []string{"example.com"}})
		}
		if err != nil {
			bad.Add("/settings/server_block", "%s", certctl.Clip(err.Error(), 200))
		}
	}
	return n, bad.Err()
}

// checkAddresses notes what is no address to probe.
func checkAddresses(bad *certctl.FieldErrors, field string, addresses []string) {
	for i, address := range addresses {
		host, port, err := net.SplitHostPort(address)
		if err != nil || host == "" || port == "" {
			bad.Add("/settings/"+field+"/"+strconv.Itoa(i), "must be host:port")
		}
	}
}

func (n *nginx) layout() layout {
	return layout{directory: n.settings.Directory, uid: -1, gid: -1, keyMode: 0o600}
}

func (n *nginx) files(m material) ([]file, error) {
	if n.block == nil {
		return nil, nil
	}
	at := func(name string) string { return filepath.Join(m.place.current(), name) }
	var out bytes.Buffer
	err := n.block.Execute(&out, blockData{
		Names:     m.install.Command.Names.Strings(),
		Fullchain: at(fileFullchain), Cert: at(fileCert), Chain: at(fileChain), Key: at(fileKey),
		Place: m.install.Command.Place,
	})
	if err != nil {
		return nil, certctl.Wrap(certctl.Invalid, err, "the server block cannot be rendered: %s", err.Error())
	}
	return []file{{name: "server.conf", content: out.Bytes()}}, nil
}

func (n *nginx) check() []string {
	argv := []string{n.settings.Binary, "-t", "-q", "-e", "stderr", "-c", n.settings.Config}
	if n.settings.Prefix != "" {
		argv = append(argv, "-p", n.settings.Prefix)
	}
	return argv
}

func (n *nginx) addresses() []string { return n.settings.Listen }

func (n *nginx) allowed(p Policy) error {
	if err := p.AllowDirectory(n.settings.Directory); err != nil {
		return err
	}
	if err := p.AllowConfig(n.settings.Config); err != nil {
		return err
	}
	if len(n.settings.Reload) > 0 {
		if err := p.AllowCommand(n.settings.Reload); err != nil {
			return err
		}
	}
	return p.AllowCommand(n.check())
}

// reload asks the master to read its configuration again. That it has been asked
// proves nothing: the probe does.
func (n *nginx) reload(ctx context.Context) error {
	if len(n.settings.Reload) > 0 {
		return execute(ctx, plainCommand(n.settings.Reload))
	}
	return hangup(n.settings.PIDFile, "nginx")
}

// hangup sends SIGHUP to the process in a pid file, if it is the program that it
// should be.
func hangup(pidFile, program string) error {
	content, err := os.ReadFile(pidFile)
	if err != nil {
		return certctl.Wrap(certctl.Unavailable, err, "%s does not run: %s cannot be read", program, pidFile)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(content)))
	if err != nil || pid < 2 {
		return certctl.Errorf(certctl.Invalid, "%s holds no process id", pidFile)
	}
	comm, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "comm"))
	if err == nil && !strings.HasPrefix(string(comm), program) {
		return certctl.Errorf(certctl.Conflict, "process %d of %s is %s and not %s", pid, pidFile, strings.TrimSpace(string(comm)), program)
	}
	if err := syscall.Kill(pid, syscall.SIGHUP); err != nil {
		return certctl.Wrap(certctl.Unavailable, err, "%s (process %d) cannot be told to reload", program, pid)
	}
	return nil
}
