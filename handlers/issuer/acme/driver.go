package acme

import (
	"context"
	"encoding/json"
	"io"
	stdlog "log"
	"net/http"
	"sync"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/handlers/egress"
	legolog "github.com/go-acme/lego/v4/log"
)

// Store keeps what outlives a worker.
type Store interface {
	SaveAttemptState(ctx context.Context, order certctl.ID, n int, worker, externalURL string, state []byte) error
	HoldExternal(ctx context.Context, hold certctl.ExternalHold) (bool, error)
	SpendExternal(ctx context.Context, spend certctl.ExternalSpend) (certctl.BudgetFull, error)
	CountExternalFailure(ctx context.Context, account, order certctl.ID, name string) error
	PutChallengeTokens(ctx context.Context, order certctl.ID, tokens []certctl.ChallengeToken) error
	RemoveChallengeTokens(ctx context.Context, order certctl.ID) error
	// PutNodeProofs has agents hold an order's proofs, NodeProofs says who does.
	// RemoveChallengeTokens takes them back.
	PutNodeProofs(ctx context.Context, order certctl.ID, groups []certctl.NodeProofs) error
	NodeProofs(ctx context.Context, order certctl.ID) ([]certctl.NodeProof, error)
	ExternalAccount(ctx context.Context, issuer certctl.ID, directory string) (certctl.ExternalAccount, error)
	AddExternalAccount(ctx context.Context, account certctl.ExternalAccount) error
	RegisterExternalAccount(ctx context.Context, account certctl.ExternalAccount) error
	// LockedOnce runs fn while no other process runs one of the same name.
	LockedOnce(ctx context.Context, name string, fn func(ctx context.Context) error) error
}

// StepRecorder is a Store that people are told from how far an attempt is.
type StepRecorder interface {
	RecordStep(ctx context.Context, order certctl.ID, worker, step string) error
}

// Sealer is the "secrets" key-encryption key.
type Sealer interface {
	Seal(table string, row certctl.ID, column string, plaintext []byte) ([]byte, error)
	Open(table string, row certctl.ID, column string, sealed []byte) ([]byte, error)
}

// Config is what a Driver is made of.
type Config struct {
	Store   Store
	Secrets Sealer
	// ExecDir is the folder whose scripts may write TXT records; "": none may.
	ExecDir string
	// DNSCommand starts the process of a DNSCall; none: there are no providers of
	// lego's.
	DNSCommand []string
}

// Driver opens issuers of this kind. It is safe for concurrent use.
type Driver struct {
	store      Store
	secrets    Sealer
	execDir    string
	dnsCommand []string
	identities identities

	mu      sync.Mutex // guards servers
	servers map[string]server

	confirmed *sync.Map // accounts that their CA has shown, see ownAccount
}

// server is what is shared by all conversations with one CA's server.
type server struct {
	client    *http.Client
	directory *directoryCache
}

// quiet keeps lego from writing to standard error, which is its default, and is
// set for the whole process: there is no other way.
var quiet = sync.OnceFunc(func() { legolog.Logger = stdlog.New(io.Discard, "", 0) })

// New returns the driver of one process.
func New(c Config) *Driver {
	quiet()
	return &Driver{store: c.Store, secrets: c.Secrets, execDir: c.ExecDir, dnsCommand: c.DNSCommand, servers: map[string]server{}, confirmed: &sync.Map{}}
}

// CA is one issuer of this kind.
type CA struct {
	*Driver
	server
	issuer   certctl.Issuer
	settings Settings
	secret   map[string]string
	policy   egress.Policy
}

// Open returns an issuer. Nothing is asked yet.
func (d *Driver) Open(issuer certctl.Issuer, sealed []byte) (*CA, error) {
	settings, err := parseSettings(issuer.Settings)
	if err != nil {
		return nil, misconfigured(err, "the settings of the issuer %s cannot be used: %s", issuer.Name, certctl.ErrorMessage(err))
	}
	c := &CA{Driver: d, issuer: issuer, settings: settings, policy: egress.Policy{Private: settings.Private}}
	if len(sealed) > 0 {
		raw, err := d.secrets.Open("issuer", issuer.ID, "sealed", sealed)
		if err == nil {
			err = json.Unmarshal(raw, &c.secret)
		}
		if err != nil {
			return nil, misconfigured(err, "the secrets of the issuer %s cannot be opened: %s", issuer.Name, certctl.ErrorMessage(err))
		}
	}
	c.server = d.serverOf(issuer, settings)
	return c, nil
}

// serverOf returns the connections for an issuer as it is configured now.
func (d *Driver) serverOf(issuer certctl.Issuer, s Settings) server {
	key, _ := json.Marshal([]any{issuer.ID, s.Directory, s.CABundle, s.Private})
	d.mu.Lock()
	defer d.mu.Unlock()
	known, ok := d.servers[string(key)]
	if !ok {
		known = server{client: egress.Policy{Private: s.Private}.Client(s.roots()), directory: &directoryCache{}}
		d.servers[string(key)] = known
	}
	return known
}

func misconfigured(cause error, format string, args ...any) *certctl.IssueError {
	e := certctl.Wrap(certctl.Invalid, cause, format, args...)
	return &certctl.IssueError{Kind: certctl.FailMisconfigured, Code: "acme_settings", Message: e.Message, Cause: cause}
}

func refused(code, format string, args ...any) *certctl.IssueError {
	return &certctl.IssueError{Kind: certctl.FailRefused, Code: code, Message: certctl.Errorf(certctl.Invalid, format, args...).Message}
}
