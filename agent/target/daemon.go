package target

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"text/template"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/agent/probe"
)

// daemonSettings are what those kinds have in common whose daemon reads PEM files
// that its own configuration names.
type daemonSettings struct {
	// Directory holds the places; the daemon's configuration names files below it.
	Directory string `json:"directory"`
	// Config is the daemon's main configuration file.
	Config string `json:"config"`
	// Binary is the daemon's program.
	Binary string `json:"binary,omitempty"`
	// PIDFile names the process that is told to reload.
	PIDFile string `json:"pid_file,omitempty"`
	// Reload is an argument vector to run instead of a signal to that process.
	Reload []string `json:"reload,omitempty"`
	// Listen are the addresses to probe, see probe.Address.
	Listen []string `json:"listen"`
}

// daemon is the driver of such a kind. What is not here, a kind adds.
type daemon struct {
	daemonSettings
	argv    []string       // the daemon's own check; nil: it has none
	signal  syscall.Signal // that makes it reload
	program string         // the name of its process, unless it is the binary's
	block   *template.Template
}

// validate notes what cannot work on any node.
func (d *daemon) validate(bad *certctl.FieldErrors) {
	absolute(bad, "directory", d.Directory)
	absolute(bad, "config", d.Config)
	absolute(bad, "binary", d.Binary)
	d.validateReload(bad)
}

// validateReload notes what keeps the daemon from being told, or asked.
func (d *daemon) validateReload(bad *certctl.FieldErrors) {
	if len(d.Reload) == 0 {
		absolute(bad, "pid_file", d.PIDFile)
	} else {
		absolute(bad, "reload/0", d.Reload[0])
	}
	checkAddresses(bad, "listen", d.Listen)
}

// blockData is what a block of configuration may use. The paths go through
// current/, so that they stay right for every generation.
type blockData struct {
	Names                       []string
	Fullchain, Cert, Chain, Key string
	Place                       string
}

// fileBlock is the name of a rendered block in each generation.
const fileBlock = "server.conf"

// parseBlock reads a template of configuration; nil for none.
func parseBlock(bad *certctl.FieldErrors, field, text string) *template.Template {
	if text == "" {
		return nil
	}
	block, err := template.New(field).Option("missingkey=error").Parse(text)
	if err == nil {
		err = block.Execute(&bytes.Buffer{}, blockData{Names: []string{"example.com"}})
	}
	if err != nil {
		bad.Add("/settings/"+field, "%s", certctl.Clip(err.Error(), 200))
	}
	return block
}

func (d *daemon) layout() layout {
	return layout{directory: d.Directory, uid: -1, gid: -1, keyMode: 0o600}
}

func (d *daemon) files(m material) ([]file, error) {
	if d.block == nil {
		return nil, nil
	}
	at := func(name string) string { return filepath.Join(m.place.current(), name) }
	var out bytes.Buffer
	err := d.block.Execute(&out, blockData{
		Names:     m.install.Command.Names.Strings(),
		Fullchain: at(fileFullchain), Cert: at(fileCert), Chain: at(fileChain), Key: at(fileKey),
		Place: m.install.Command.Place,
	})
	if err != nil {
		return nil, certctl.Wrap(certctl.Invalid, err, "the %s cannot be rendered: %s", d.block.Name(), err.Error())
	}
	return []file{{name: fileBlock, content: out.Bytes()}}, nil
}

func (d *daemon) check() []string     { return d.argv }
func (d *daemon) addresses() []string { return d.Listen }

func (d *daemon) allowed(p Policy) error {
	if err := p.AllowConfig(d.Config); err != nil {
		return err
	}
	return d.allowedFiles(p)
}

// allowedFiles is allowed for a daemon whose configuration is not read.
func (d *daemon) allowedFiles(p Policy) error {
	if err := p.AllowDirectory(d.Directory); err != nil {
		return err
	}
	for _, argv := range [][]string{d.Reload, d.argv} {
		if len(argv) == 0 {
			continue
		}
		if err := p.AllowCommand(argv); err != nil {
			return err
		}
	}
	return nil
}

// reload asks the daemon to read its configuration again. That it has been asked
// proves nothing: the probe does.
func (d *daemon) reload(ctx context.Context) error {
	if len(d.Reload) > 0 {
		return execute(ctx, plainCommand(d.Reload))
	}
	program := d.program
	if program == "" {
		program = filepath.Base(d.Binary)
	}
	return signalProcess(d.PIDFile, program, d.signal)
}

// commLength is how much of its program's name the kernel keeps of a process
// (TASK_COMM_LEN, less the end).
const commLength = 15

// signalProcess signals the process in a pid file's first line, if it is the
// program that it should be.
func signalProcess(pidFile, program string, signal syscall.Signal) error {
	content, err := os.ReadFile(pidFile)
	if err != nil {
		return certctl.Wrap(certctl.Unavailable, err, "%s does not run: %s cannot be read", program, pidFile)
	}
	first, _, _ := strings.Cut(string(content), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(first))
	if err != nil || pid < 2 {
		return certctl.Errorf(certctl.Invalid, "%s holds no process id", pidFile)
	}
	comm, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "comm"))
	if err == nil && !strings.HasPrefix(string(comm), program[:min(len(program), commLength)]) {
		return certctl.Errorf(certctl.Conflict, "process %d of %s is %s and not %s", pid, pidFile, strings.TrimSpace(string(comm)), program)
	}
	if err := syscall.Kill(pid, signal); err != nil {
		return certctl.Wrap(certctl.Unavailable, err, "%s (process %d) cannot be told to reload", program, pid)
	}
	return nil
}

// checkAddresses notes what is no address to probe.
func checkAddresses(bad *certctl.FieldErrors, field string, addresses []string) {
	for i, address := range addresses {
		if _, err := probe.ParseAddress(address); err != nil {
			bad.Add("/settings/"+field+"/"+strconv.Itoa(i), "%s", certctl.ErrorMessage(err))
		}
	}
}
