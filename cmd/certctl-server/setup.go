package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/handlers/kek"
	"github.com/certctl/certctl/store"
)

// setupCommands make what the parts of an installation share.
type setupCommands struct {
	Files      setupCommand      `cmd:"" default:"withargs" help:"In folders, for containers that share volumes."`
	Kubernetes kubernetesCommand `cmd:"" help:"In Secrets of the namespace that this pod runs in; for the chart."`
}

// setupCommand makes what the parts of an installation in containers share.
type setupCommand struct {
	Dir  string   `arg:"" help:"Folder that gets them. What is there already stays as it is."`
	Host []string `help:"Name or address at which the API and the bus are reached, for their TLS certificate. Repeat." required:"" env:"-" sep:"none"`
}

// setupLife is that of the certificate with which API and bus begin. Agents pin
// it; another one is given with --tls-cert.
const setupLife = 10 * 365 * certctl.Day

// setup writes secrets that do not exist yet, each folder for those who need it:
//
//	ca/kek-ca.key                     the signer
//	keys/kek-{secrets,pki}.key        all servers
//	database/{password,pgpass}        the database, all servers
//	tls/tls.{crt,key}                 the API and the bus
func setup(command setupCommand) error {
	for _, name := range []string{"ca", "keys", "database", "tls"} {
		if err := os.MkdirAll(filepath.Join(command.Dir, name), 0o700); err != nil {
			return certctl.Wrap(certctl.Invalid, err, "the folder %s cannot be made", filepath.Join(command.Dir, name))
		}
	}
	for _, key := range []struct{ name, file string }{
		{kek.CA, "ca/kek-ca.key"}, {kek.Secrets, "keys/kek-secrets.key"}, {kek.PKI, "keys/kek-pki.key"},
	} {
		if _, err := kek.Load(key.name, filepath.Join(command.Dir, key.file), true); err != nil {
			return err
		}
	}
	random := make([]byte, 24)
	_, _ = rand.Read(random) // never fails
	password, err := kept(filepath.Join(command.Dir, "database/password"), []byte(hex.EncodeToString(random)))
	if err != nil {
		return err
	}
	if _, err := kept(filepath.Join(command.Dir, "database/pgpass"), fmt.Appendf(nil, "*:*:*:*:%s\n", password)); err != nil {
		return err
	}
	return setupTLS(filepath.Join(command.Dir, "tls"), command.Host)
}

// kept writes a file unless it is there, and returns what it holds.
func kept(path string, content []byte) ([]byte, error) {
	old, err := os.ReadFile(path)
	if err == nil {
		return old, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, certctl.Wrap(certctl.Invalid, err, "%s cannot be read", path)
	}
	return content, replaceFile(path, content)
}

// setupTLS makes a certificate that signs itself. The key is written first: a
// certificate that is there has one.
func setupTLS(dir string, hosts []string) error {
	if _, err := os.Stat(filepath.Join(dir, "tls.crt")); err == nil {
		return nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return certctl.Wrap(certctl.Internal, err, "no key can be made")
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return certctl.Wrap(certctl.Internal, err, "no serial number can be made")
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "certctl API and bus"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(setupLife),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return certctl.Wrap(certctl.Internal, err, "the certificate of API and bus cannot be made")
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return certctl.Wrap(certctl.Internal, err, "the key cannot be encoded")
	}
	if err := os.Remove(filepath.Join(dir, "tls.key")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return certctl.Wrap(certctl.Invalid, err, "a key without its certificate cannot be removed")
	}
	if _, err := kept(filepath.Join(dir, "tls.key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})); err != nil {
		return err
	}
	_, err = kept(filepath.Join(dir, "tls.crt"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	return err
}

// joinTokenCommand makes a join token beside a running installation.
type joinTokenCommand struct {
	File      string           `arg:"" help:"File that gets the token; one that is there is replaced."`
	Uses      int              `help:"How many machines may enrol with it." default:"1" env:"-"`
	ExpiresIn certctl.Duration `help:"How long it may be used." default:"1h" env:"-"`
	Root      string           `help:"PEM file that ends with the root which agents pin; it is put beside the token as ca.crt." placeholder:"FILE" env:"-"`
}

// joinToken makes a token as the installation's own process: whoever may read the
// database's password may have one.
func joinToken(ctx context.Context, c *Config, command joinTokenCommand) error {
	return withStore(ctx, c, func(st *store.Store) error {
		secret, err := makeJoinToken(ctx, st, certctl.JoinToken{UsesLeft: command.Uses, Approve: true}, command.ExpiresIn)
		if err != nil {
			return err
		}
		if command.Root != "" {
			root, err := lastCertificate(command.Root)
			if err != nil {
				return err
			}
			if err := replaceFile(filepath.Join(filepath.Dir(command.File), "ca.crt"), root); err != nil {
				return err
			}
		}
		return replaceFile(command.File, []byte(secret+"\n"))
	})
}

// makeJoinToken stores a token of the default team and returns its secret.
func makeJoinToken(ctx context.Context, st *store.Store, token certctl.JoinToken, life certctl.Duration) (string, error) {
	secret := certctl.NewSecret(certctl.JoinTokenPrefix)
	now, err := st.Now(ctx)
	if err != nil {
		return "", err
	}
	token.Team, token.Prefix, token.ExpiresAt = certctl.DefaultTeam, certctl.ShownSecret(secret), now.Add(time.Duration(life))
	_, err = st.CreateJoinToken(ctx, certctl.SystemActor("setup"), token, certctl.DigestOf([]byte(secret)))
	return secret, err
}

// lastCertificate is the one that a PEM chain ends with, as PEM.
func lastCertificate(path string) ([]byte, error) {
	rest, err := os.ReadFile(path)
	if err != nil {
		return nil, certctl.Wrap(certctl.Invalid, err, "the root certificate cannot be read")
	}
	var last *pem.Block
	for block, more := pem.Decode(rest); block != nil; block, more = pem.Decode(more) {
		last = block
	}
	if last == nil {
		return nil, certctl.Errorf(certctl.Invalid, "%s holds no certificate", path)
	}
	return pem.EncodeToMemory(last), nil
}

func replaceFile(path string, content []byte) error {
	if err := os.WriteFile(path+".new", content, 0o600); err != nil {
		return certctl.Wrap(certctl.Invalid, err, "%s cannot be written", path)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return certctl.Wrap(certctl.Invalid, err, "%s cannot be written", path)
	}
	return nil
}
