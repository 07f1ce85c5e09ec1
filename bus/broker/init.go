package broker

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/template"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/bus"
)

//go:embed nats.conf.tmpl
var configText string

// InitOptions describe an external NATS: one server, or a cluster of three or
// five.
type InitOptions struct {
	Identity *bus.Identity
	Facts    bus.Facts
	Now      time.Time

	// Nodes are the servers. With more than one, each keeps a replica of a stream.
	Nodes []Node
	// StoreDir is where a server keeps its files, as the server sees it.
	StoreDir string
	// CertFile, KeyFile and CAFile are a server's own certificate, its key and the
	// CAs that it trusts for other servers, as the server sees them. In a cluster
	// the certificate is used as a client's, too.
	CertFile, KeyFile, CAFile string
	// StoreKeyVariable names the environment variable from which a server takes the
	// key that encrypts its files. Empty: they are not encrypted.
	StoreKeyVariable string
}

// Node is one server of an external NATS.
type Node struct {
	Name   string // unique; names its configuration file
	Listen string // host:port for clients
	// Route is host:port for the other servers, and Zone the failure domain: no two
	// replicas of a stream are in one. Both are for clusters only.
	Route string
	Zone  string
}

// Init writes what an external NATS needs into dir, which must not have been
// written before:
//
//	<node>.conf          for nats-server -c: one for each node
//	operator.jwt         whom the servers trust; stands in <node>.conf, too
//	accounts.conf        the accounts as of now; newer ones are pushed
//	credentials/*.creds  for each role of certctl-server, and for the signer to
//	                     push accounts; readable for this user only
//
// It returns the paths. Nothing in it but the credentials is secret.
func Init(dir string, o InitOptions) ([]string, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	files, err := o.render()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Join(dir, "credentials"), 0o700); err != nil {
		return nil, certctl.Wrap(certctl.Invalid, err, "making the folder %s", dir)
	}
	var written []string
	for _, file := range files {
		path := filepath.Join(dir, file.name)
		if err := writeNew(path, file.content, file.mode); err != nil {
			return written, err
		}
		written = append(written, path)
	}
	return written, nil
}

// output is one file to be written.
type output struct {
	name    string
	content []byte
	mode    os.FileMode
}

// writeNew writes a file that must not exist.
func writeNew(path string, content []byte, mode os.FileMode) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if errors.Is(err, fs.ErrExist) {
		return certctl.Errorf(certctl.Conflict, "%s exists", path).
			WithRemedy("choose another folder: the credentials in this one may be in use")
	}
	if err != nil {
		return certctl.Wrap(certctl.Invalid, err, "writing %s", path)
	}
	if _, err := file.Write(content); err != nil {
		_ = file.Close() // the first error counts
		return certctl.Wrap(certctl.Invalid, err, "writing %s", path)
	}
	if err := file.Close(); err != nil {
		return certctl.Wrap(certctl.Invalid, err, "writing %s", path)
	}
	return nil
}

func (o InitOptions) render() ([]output, error) {
	operator, err := bus.OperatorJWT(o.Identity)
	if err != nil {
		return nil, err
	}
	accounts, err := bus.AccountJWTs(o.Identity, o.Facts)
	if err != nil {
		return nil, err
	}
	var preload bytes.Buffer
	for _, account := range accounts {
		fmt.Fprintf(&preload, "# %s\n%s: %s\n", account.Name, account.Key, account.JWT)
	}
	files := []output{
		{"operator.jwt", []byte(operator + "\n"), 0o644},
		{"accounts.conf", preload.Bytes(), 0o644},
	}
	for _, node := range o.Nodes {
		content, err := o.configuration(node, operator)
		if err != nil {
			return nil, err
		}
		files = append(files, output{node.Name + ".conf", content, 0o644})
	}
	credentials, err := o.credentials()
	return append(files, credentials...), err
}

// configuration is the text for nats-server -c of a node.
func (o InitOptions) configuration(node Node, operator string) ([]byte, error) {
	parsed, err := template.New("nats.conf").Funcs(template.FuncMap{"quote": strconv.Quote}).Parse(configText)
	if err != nil {
		return nil, certctl.Wrap(certctl.Internal, err, "reading the template of nats.conf")
	}
	var text bytes.Buffer
	err = parsed.Execute(&text, map[string]any{
		"Node": node, "Options": o, "Clustered": len(o.Nodes) > 1, "Operator": operator,
		"TLSTimeout": int(tlsTimeout.Seconds()), "HandshakeFirst": handshakeFirst.String(),
		"PingInterval": pingInterval.String(), "PingsOut": pingsOut, "WriteDeadline": writeDeadline.String(),
		"MaxPayload": maxPayload, "MaxMemory": maxMemory,
	})
	if err != nil {
		return nil, certctl.Wrap(certctl.Internal, err, "filling in nats.conf")
	}
	return text.Bytes(), nil
}

func (o InitOptions) credentials() ([]output, error) {
	var files []output
	for _, role := range bus.Roles {
		text, err := bus.PlatformCredentials(o.Identity, role, o.Now)
		if err != nil {
			return nil, err
		}
		files = append(files, output{filepath.Join("credentials", string(role)+".creds"), []byte(text), 0o600})
	}
	text, err := bus.PusherCredentials(o.Identity, o.Now)
	if err != nil {
		return nil, err
	}
	return append(files, output{filepath.Join("credentials", bus.Pusher+".creds"), []byte(text), 0o600}), nil
}

// check refuses what no NATS could run with, all of it at once.
func (o InitOptions) check() error {
	var wrong certctl.FieldErrors
	if n := len(o.Nodes); n != 1 && n != 3 && n != 5 {
		wrong.Add("/nodes", "%d servers: one, or a cluster of three or five", n)
	}
	for _, path := range []struct{ field, value string }{
		{"/store_dir", o.StoreDir}, {"/cert_file", o.CertFile}, {"/key_file", o.KeyFile}, {"/ca_file", o.CAFile},
	} {
		if path.value == "" || strings.ContainsFunc(path.value, func(r rune) bool { return r < ' ' || r == '"' }) {
			wrong.Add(path.field, "%q is not a path", certctl.Clip(path.value, 100))
		}
	}
	if o.StoreKeyVariable != "" && !isWord(o.StoreKeyVariable) {
		wrong.Add("/store_key_variable", "%q is not the name of an environment variable", certctl.Clip(o.StoreKeyVariable, 100))
	}
	seen := make(map[string]bool, len(o.Nodes))
	for i, node := range o.Nodes {
		node.check(&wrong, fmt.Sprintf("/nodes/%d", i), len(o.Nodes) > 1)
		if seen[node.Name] {
			wrong.Add(fmt.Sprintf("/nodes/%d/name", i), "two servers are named %q", node.Name)
		}
		seen[node.Name] = true
	}
	return wrong.Err()
}

func (n Node) check(wrong *certctl.FieldErrors, field string, clustered bool) {
	if !isWord(n.Name) || n.Name == "accounts" {
		wrong.Add(field+"/name", "%q is not a name of letters, digits, - and _", certctl.Clip(n.Name, 100))
	}
	if !isAddress(n.Listen) {
		wrong.Add(field+"/listen", "%q is not host:port", certctl.Clip(n.Listen, 100))
	}
	if !clustered {
		return
	}
	if !isAddress(n.Route) {
		wrong.Add(field+"/route", "%q is not host:port", certctl.Clip(n.Route, 100))
	}
	if !isWord(n.Zone) {
		wrong.Add(field+"/zone", "%q is not a name of letters, digits, - and _", certctl.Clip(n.Zone, 100))
	}
}

func isAddress(text string) bool {
	host, port, err := net.SplitHostPort(text)
	if err != nil || strings.ContainsAny(host, "\"' \t\r\n{}") {
		return false
	}
	number, err := strconv.ParseUint(port, 10, 16)
	return err == nil && number > 0
}

func isWord(text string) bool {
	return text != "" && len(text) <= 63 && !strings.ContainsFunc(text, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_'
	})
}
