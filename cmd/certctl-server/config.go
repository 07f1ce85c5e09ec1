package main

import (
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/certctl/certctl"
)

// Config is every setting of certctl-server. Each has three names: the flag
// --data-dir is also CERTCTL_DATA_DIR and the file's key data_dir.
type Config struct {
	Config string `help:"YAML file with settings." type:"path" env:"-"`

	DataDir string   `help:"Folder for what this process keeps itself: key-encryption keys, the embedded bus, the first admin key." default:"/var/lib/certctl" type:"path"`
	Roles   []string `help:"What this process does: api, worker, signer, scheduler, bus. Default: all, without bus when --nats-url is set." sep:","`

	Listen string `help:"Address of the HTTPS API." default:"127.0.0.1:8443"`
	APIURL string `help:"URL at which agents and people reach the API. Default: https:// and --listen." name:"api-url"`

	DatabaseURL string `help:"PostgreSQL connection string." secret:""`

	NATSURL         []string `help:"An external NATS instead of the embedded one." sep:"," name:"nats-url"`
	NATSCredentials string   `help:"Credentials for the external NATS, as 'certctl-server bus init' writes them: the file of a role, or the folder for several." type:"path" name:"nats-credentials"`
	NATSListen      string   `help:"Address of the embedded NATS." default:"127.0.0.1:4222" name:"nats-listen"`
	NATSAdvertise   []string `help:"Bus URLs that agents are given. Default: the address of the bus." sep:"," name:"nats-advertise"`

	NATSCAFile   string `help:"Root certificate of the external NATS. Default: --ca-file." type:"path" name:"nats-ca-file"`
	NATSReplicas int    `help:"Copies of each stream: 1, or 3 on a NATS cluster of three." default:"1" name:"nats-replicas"`

	TLSCert       string `help:"Certificate of the API, for processes without the role signer." type:"path" name:"tls-cert"`
	TLSKey        string `help:"Its private key." type:"path" name:"tls-key"`
	TLSCA         string `help:"Its root, where --tls-cert ends without it: agents look for it in what the API shows." type:"path" name:"tls-ca"`
	CAFingerprint string `help:"SHA-256 of the root that agents pin, for processes without the role signer. Default: that of the root in --tls-ca or --tls-cert." name:"ca-fingerprint"`

	PKIListen string `help:"Address of the plain-HTTP listener for CA certificates, revocation lists and OCSP." name:"pki-listen"`
	PKIURL    string `help:"URL of that listener as relying parties see it; stands in every leaf and cannot be changed for an authority." name:"pki-url"`

	ACMEHTTPListen string `help:"Address of the plain-HTTP listener at which ACME CAs find the proofs of http-01, with role api; port 80 of the names must lead to it. Default: none." name:"acme-http-listen"`
	ACMEDNSExecDir string `help:"Folder of scripts that may write TXT records for dns-01, with role worker. Default: none." type:"path" name:"acme-dns-exec-dir"`

	WorkerOrders int `help:"How many orders this process asks CAs of others for at once, with role worker; its share of what an issuer's concurrency allows all of them." default:"128" name:"worker-orders"`

	KEKCA      string `help:"File of the key-encryption key for CA, fleet and bus keys (signer)." type:"path" name:"kek-ca"`
	KEKSecrets string `help:"File of the key-encryption key for issuer and target secrets (worker)." type:"path" name:"kek-secrets"`
	KEKPKI     string `help:"File of the key-encryption key for OCSP responders (signer and api). Default: derived from --kek-ca, where the roles share a process." type:"path" name:"kek-pki"`
	CreateKEKs bool   `help:"Make missing key-encryption keys on first start. Keep a copy: without them a backup cannot be opened." name:"create-keks"`

	AdminKeyFile string `help:"File that gets the first admin key, once. Default: admin.key in --data-dir." type:"path"`
	APIKeyFile   string `help:"File with an API key of the admin from outside, read at the start and every 30 seconds: another key in it ends the one before. No first admin key is made then." type:"path" name:"api-key-file"`
	CAFile       string `help:"File that gets the root certificate. Default: ca.crt in --data-dir." type:"path" name:"ca-file"`

	Declare string `help:"YAML file of profiles, renewal_policies, issuers and channels that are to be, as the API takes them, with role api: read at the start and every 30 seconds. Default: none." type:"path"`

	LogLevel  string `help:"debug, info, warn or error." default:"info" enum:"debug,info,warn,error"`
	LogFormat string `help:"json or text." default:"json" enum:"json,text"`

	GuardShare float64 `help:"Share of all keys that a change may have re-issued at once, for all replicas; more waits for 'certctl guard release'. 1: no limit; 0: as it is stored, 0.2 at first."`
	GuardLeast int     `help:"Keys below which nothing is guarded, for all replicas. 0: as it is stored, 50 at first."`

	MetricsListen string `help:"Address, for any role, of a plain-HTTP listener with /metrics and nothing else, for Prometheus in a network of yours. Default: none." name:"metrics-listen"`
	DebugListen   string `help:"Loopback address, for any role, of a plain-HTTP listener with /ready, /metrics and Go's profiles at /debug/pprof/. Default: none." name:"debug-listen"`

	Shutdown time.Duration `help:"How long a stop may take." default:"15s"`

	SMTP      smtpSettings      `embed:""`
	Retention retentionSettings `embed:""`
	retention certctl.Retention // complete
}

// retentionSettings say how long what has served is kept. Each takes a duration
// or "forever"; 0 is the default.
type retentionSettings struct {
	KeepEvents          certctl.Keep `help:"How long events are kept; whole months are dropped (scheduler). Default: 400d." default:"0s"`
	KeepOrders          certctl.Keep `help:"How long finished orders are kept, with their attempts (scheduler). Default: 90d." default:"0s"`
	KeepDeployments     certctl.Keep `help:"How long superseded deployments are kept (scheduler). Default: 90d." default:"0s"`
	KeepDeadLetters     certctl.Keep `help:"How long replayed or discarded dead letters are kept (scheduler). Default: 90d." default:"0s"`
	KeepIdempotencyKeys certctl.Keep `help:"How long a request may be repeated under its idempotency key (scheduler). Default: 7d." default:"0s"`
	KeepNonces          certctl.Keep `help:"How long nonces are kept after their end (scheduler). Default: 1h." default:"0s"`
	KeepJoinTokens      certctl.Keep `help:"How long join tokens are kept that cannot be used any more (scheduler). Default: 30d." default:"0s"`
	KeepNotifications   certctl.Keep `help:"How long notifications are kept that were delivered or discarded (scheduler). Default: 90d." default:"0s"`
	KeepTests           certctl.Keep `help:"How long tests of certificates are kept after their end (scheduler). Default: 90d." default:"0s"`
}

func (r retentionSettings) complete() (certctl.Retention, error) {
	return certctl.Retention{
		certctl.RetainEvents: r.KeepEvents, certctl.RetainOrders: r.KeepOrders, certctl.RetainDeployments: r.KeepDeployments,
		certctl.RetainDeadLetters: r.KeepDeadLetters, certctl.RetainIdempotency: r.KeepIdempotencyKeys,
		certctl.RetainNonces: r.KeepNonces, certctl.RetainJoinTokens: r.KeepJoinTokens,
		certctl.RetainNotifications: r.KeepNotifications, certctl.RetainTrials: r.KeepTests,
	}.Complete()
}

// role is one of the things that a server process does.
type role string

const (
	roleAPI       role = "api"
	roleWorker    role = "worker"
	roleSigner    role = "signer"
	roleScheduler role = "scheduler"
	roleBus       role = "bus"
)

var allRoles = []role{roleAPI, roleWorker, roleSigner, roleScheduler, roleBus}

// complete fills what follows from other settings and refuses what is
// impossible, with a sentence that says what to do.
func (c *Config) complete() error {
	if err := c.completeRoles(); err != nil {
		return err
	}
	var err error
	if c.retention, err = c.Retention.complete(); err != nil {
		return err
	}
	if c.DatabaseURL == "" {
		return certctl.Errorf(certctl.Invalid, "no database is set").
			WithRemedy("set CERTCTL_DATABASE_URL to a PostgreSQL connection string, or run ./task up to try certctl on one machine")
	}
	if err := c.checkDebugListen(); err != nil {
		return err
	}
	if _, port, err := net.SplitHostPort(c.MetricsListen); c.MetricsListen != "" && (err != nil || port == "") {
		return certctl.InvalidField("metrics_listen", "%q is not host:port", c.MetricsListen)
	}
	if err := c.SMTP.check(); err != nil {
		return err
	}
	if c.WorkerOrders < 1 {
		return certctl.InvalidField("worker_orders", "a worker asks for at least one order at once, not %d", c.WorkerOrders)
	}
	host, port, err := net.SplitHostPort(c.Listen)
	if err != nil || port == "" {
		return certctl.InvalidField("listen", "%q is not host:port", c.Listen)
	}
	switch {
	case c.APIURL != "":
	case !c.has(roleAPI) && c.has(roleSigner):
		return certctl.InvalidField("api_url", "a signer without the role api tells agents where the API is: set it")
	case c.has(roleAPI):
		if host == "" || net.ParseIP(host).IsUnspecified() {
			return certctl.InvalidField("api_url", "with --listen on every address, the URL that agents use must be set")
		}
		c.APIURL = "https://" + c.Listen
	}
	if c.APIURL != "" {
		if err := checkURL("api_url", c.APIURL, "https"); err != nil {
			return err
		}
	}
	if c.PKIURL != "" {
		if err := checkURL("pki_url", c.PKIURL, "http"); err != nil {
			return err
		}
		c.PKIURL = strings.TrimSuffix(c.PKIURL, "/")
	}
	c.completeFiles()
	return nil
}

// completeFiles puts the files that no setting names into the data folder.
func (c *Config) completeFiles() {
	for _, path := range []struct {
		value *string
		name  string
	}{
		{&c.KEKCA, "kek-ca.key"}, {&c.KEKSecrets, "kek-secrets.key"},
		{&c.AdminKeyFile, "admin.key"}, {&c.CAFile, "ca.crt"},
	} {
		if *path.value == "" {
			*path.value = filepath.Join(c.DataDir, path.name)
		}
	}
	if c.NATSCAFile == "" {
		c.NATSCAFile = c.CAFile
	}
}

func (c *Config) completeRoles() error {
	if len(c.Roles) == 0 {
		for _, r := range allRoles {
			if r != roleBus || len(c.NATSURL) == 0 {
				c.Roles = append(c.Roles, string(r))
			}
		}
	}
	for _, name := range c.Roles {
		if !slices.Contains(allRoles, role(name)) {
			return certctl.InvalidField("roles", "there is no role %q: use api, worker, signer, scheduler and bus", name)
		}
	}
	switch {
	case c.has(roleBus) && len(c.NATSURL) > 0:
		return certctl.InvalidField("roles", "the role bus runs the embedded NATS, which excludes --nats-url")
	case c.has(roleBus) && !c.has(roleSigner):
		return certctl.InvalidField("roles", "the embedded NATS needs the bus keys, which only the signer may open: run both roles in one process, or use an external NATS")
	case !c.has(roleBus) && len(c.NATSURL) == 0:
		return certctl.InvalidField("nats_url", "without the role bus, the URL of a NATS server must be set")
	case c.has(roleAPI) && !c.has(roleSigner) && c.KEKPKI == "":
		return certctl.InvalidField("kek_pki", "the role api answers OCSP requests: apart from the signer it needs the key-encryption key of the responders").
			WithRemedy("give all processes with the role api or signer the same file: openssl rand -base64 32 > kek-pki.key")
	case !c.has(roleSigner) && c.NATSCredentials == "":
		return certctl.InvalidField("nats_credentials", "a process without the role signer logs in to the bus with a credentials file").
			WithRemedy("certctl-server bus init writes one for each role")
	}
	return nil
}

func (c *Config) has(r role) bool { return slices.Contains(c.Roles, string(r)) }

func checkURL(name, text, scheme string) error {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != scheme || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		return certctl.InvalidField(name, "%q is not a URL of the form %s://host[:port]", certctl.Clip(text, 100), scheme)
	}
	return nil
}

// hostname names this process in attempts and logs.
func hostname() string {
	name, err := os.Hostname()
	if err != nil {
		return "unknown"
	}
	return name
}
