package main

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/agent/target/remote/kube"
	"github.com/certctl/certctl/handlers/kek"
	"github.com/certctl/certctl/store"
	"github.com/rs/zerolog"
)

// kubernetesCommand makes what the pods of an installation share, in Secrets of
// their namespace. Names of Secrets come from the chart: the account that runs
// this may read and change those and no other.
type kubernetesCommand struct {
	KeysSecret       string `help:"Secret of the key-encryption key of CA, fleet and bus keys, for the signer only." required:"" env:"-"`
	SharedKeysSecret string `help:"Secret of the key-encryption keys of all servers." required:"" env:"-"`
	TLSSecret        string `help:"Secret of the certificate of API and bus." required:"" env:"-" name:"tls-secret"`
	APITLSSecret     string `help:"Secret of another certificate that the API serves. Default: that of --tls-secret." env:"-" name:"api-tls-secret"`
	BusSecret        string `help:"Secret of the bus's configuration and of each role's credentials. Default: none, the bus is elsewhere." env:"-"`
	BusCASecret      string `help:"Secret whose ca.crt the bus's certificates chain to, where they are not that of --tls-secret." env:"-" name:"bus-ca-secret"`
	AgentSecret      string `help:"Secret of a join token and the root that agents pin. Default: none." env:"-"`

	Given []string          `help:"Secrets among these that others make: they are waited for. Repeat." env:"-" sep:"none"`
	Label map[string]string `help:"Labels of Secrets that are made, key=value;key=value." env:"-"`

	Host     []string `help:"Name or address at which the API and the bus are reached. Repeat." required:"" env:"-" sep:"none"`
	Node     []string `help:"A server of the bus, as for bus init. Repeat for each." env:"-" sep:";"`
	StoreDir string   `help:"Folder of a bus server's streams, as it sees it." default:"/data" env:"-"`
	TLSDir   string   `help:"Folder of tls.crt and tls.key, as a bus server sees it." default:"/etc/nats/tls" env:"-" name:"tls-dir"`

	TokenUses int              `help:"How many times a machine may enrol with the join token." default:"1000" env:"-"`
	TokenLife certctl.Duration `help:"How long it may be used, 366d at most." default:"365d" env:"-"`

	Wait       time.Duration `help:"How long the database and Secrets of others are waited for." default:"5m" env:"-"`
	AccountDir string        `help:"Folder of the pod's account." default:"${account_dir}" env:"-"`
}

// Names of what Secrets hold.
const (
	fileCAKey, fileSecretsKey, filePKIKey = "kek-ca.key", "kek-secrets.key", "kek-pki.key"
	fileTLSCert, fileTLSKey, fileRoot     = "tls.crt", "tls.key", "ca.crt"
	fileToken                             = "token"
)

// kubernetesSetup is one run of the command.
type kubernetesSetup struct {
	command kubernetesCommand
	config  *Config
	client  *kube.Client
	log     zerolog.Logger
	retry   time.Duration // between two looks at what is waited for
}

// setupKubernetes makes what is missing and leaves what is there as it is, in the
// order in which one needs the other. It may be stopped at any point and run again.
func setupKubernetes(ctx context.Context, c *Config, command kubernetesCommand, log zerolog.Logger) error {
	client, err := kube.InCluster(command.AccountDir, os.Getenv)
	if err != nil {
		return err
	}
	s := &kubernetesSetup{command: command, config: c, client: client, log: log, retry: 2 * time.Second}
	ctx, cancel := context.WithTimeout(ctx, command.Wait)
	defer cancel()
	return s.run(ctx)
}

func (s *kubernetesSetup) run(ctx context.Context) error {
	if err := s.keys(ctx); err != nil {
		return err
	}
	root, trusted, err := s.certificates(ctx)
	if err != nil {
		return err
	}
	if err := s.database(ctx); err != nil {
		return err
	}
	if err := s.bus(ctx, trusted); err != nil {
		return err
	}
	return s.agent(ctx, root)
}

// certificates makes that of API and bus. root is what agents pin, trusted what
// servers and agents trust besides the local CA.
func (s *kubernetesSetup) certificates(ctx context.Context) (root, trusted []byte, err error) {
	own, err := s.ensure(ctx, s.command.TLSSecret, s.makeTLS)
	if err != nil {
		return nil, nil, err
	}
	if root, err = rootOf(own); err != nil {
		return nil, nil, err
	}
	trusted = root
	for _, other := range []struct {
		name string
		api  bool
	}{{s.command.APITLSSecret, true}, {s.command.BusCASecret, false}} {
		if other.name == "" || other.name == s.command.TLSSecret {
			continue
		}
		held, err := s.waitFor(ctx, other.name)
		if err != nil {
			return nil, nil, err
		}
		theirs, err := rootOf(held)
		if err != nil {
			return nil, nil, err
		}
		if trusted = slices.Concat(trusted, theirs); other.api {
			root = theirs
		}
	}
	return root, trusted, nil
}

// keys makes the key-encryption keys, and puts them where this process reads
// them: a volume of a Secret that is yet to be made would keep it from starting.
func (s *kubernetesSetup) keys(ctx context.Context) error {
	c := s.config
	c.KEKCA, c.KEKSecrets, c.KEKPKI = filepath.Join(c.DataDir, fileCAKey), filepath.Join(c.DataDir, fileSecretsKey), filepath.Join(c.DataDir, filePKIKey)
	if err := os.MkdirAll(c.DataDir, 0o700); err != nil {
		return certctl.Wrap(certctl.Invalid, err, "the folder %s cannot be made", c.DataDir)
	}
	for _, secret := range []struct {
		name string
		keys map[string]string // path by name of the key
	}{
		{s.command.KeysSecret, map[string]string{kek.CA: c.KEKCA}},
		{s.command.SharedKeysSecret, map[string]string{kek.Secrets: c.KEKSecrets, kek.PKI: c.KEKPKI}},
	} {
		held, err := s.ensure(ctx, secret.name, func() (*kube.Secret, error) {
			made := &kube.Secret{Data: map[string][]byte{}}
			for name, path := range secret.keys {
				if _, err := kek.Load(name, path, true); err != nil {
					return made, err
				}
				text, err := os.ReadFile(path)
				if err != nil {
					return made, certctl.Wrap(certctl.Internal, err, "a new key cannot be read")
				}
				made.Data[filepath.Base(path)] = text
			}
			return made, nil
		})
		if err != nil {
			return err
		}
		for _, path := range secret.keys {
			text := held.Data[filepath.Base(path)]
			if len(text) == 0 {
				return certctl.Errorf(certctl.Invalid, "the Secret %s has no %s", secret.name, filepath.Base(path)).
					WithRemedy("restore it from where you keep it; for a new installation: openssl rand -base64 32")
			}
			if err := replaceFile(path, text); err != nil {
				return err
			}
		}
	}
	return nil
}

// database waits until the database answers.
func (s *kubernetesSetup) database(ctx context.Context) error {
	for {
		err := withStore(ctx, s.config, func(*store.Store) error { return nil })
		if err == nil || certctl.ErrorCode(err) != certctl.Unavailable {
			return err
		}
		s.log.Info().Msg("waiting for the database")
		if !s.pause(ctx) {
			return certctl.Wrap(certctl.Unavailable, err, "the database has not answered within %s", s.command.Wait)
		}
	}
}

// pause waits for the next look; false when there is no time for one.
func (s *kubernetesSetup) pause(ctx context.Context) bool {
	timer := time.NewTimer(s.retry)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
