package main

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"os"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/handlers"
	"github.com/certctl/certctl/handlers/issuer/local"
	"github.com/rs/zerolog"
)

// caCommands make a local CA a subordinate of another one, or replace it.
type caCommands struct {
	Rollover caRolloverCommand `cmd:"" help:"Make the next issuing CA now. The one before keeps its lists and OCSP until its last certificate has ended."`

	Request caRequestCommand `cmd:"" help:"Print a request (PKCS #10) for an issuing CA, to be signed by your own CA. The key stays here."`
	Install caInstallCommand `cmd:"" help:"Install what your CA answered: from the next start on, it signs the issuer's certificates."`
}

type caRequestCommand struct {
	Issuer       string `help:"The local issuer that it is for." default:"local" env:"-"`
	Organization string `help:"O of the subject." env:"-"`
	CommonName   string `help:"Beginning of the subject's CN." default:"certctl" env:"-" name:"common-name"`
}

type caInstallCommand struct {
	Issuer string `help:"The local issuer that it is for." default:"local" env:"-"`
	File   string `arg:"" help:"PEM file: the CA's certificate, then all above it, the root last; - is standard input."`
}

// caRequest prints the request of an issuer's next authority.
func caRequest(ctx context.Context, c *Config, command caRequestCommand, log zerolog.Logger) error {
	s, err := offline(ctx, c, log)
	if err != nil {
		return err
	}
	defer s.store.Close()
	issuer, settings, err := s.localIssuer(ctx, command.Issuer)
	if err != nil {
		return err
	}
	options := settings.Authority
	options.Organization, options.Name = command.Organization, command.CommonName
	authorities := handlers.NewAuthorities(s.store, s.keys.ca, c.PKIURL)
	request, err := handlers.NewSubordinates(authorities, s.store).Request(ctx, issuer, options)
	if err != nil {
		return err
	}
	return pem.Encode(os.Stdout, &pem.Block{Type: "CERTIFICATE REQUEST", Bytes: request})
}

// caInstall installs the answer to a request.
func caInstall(ctx context.Context, c *Config, command caInstallCommand, log zerolog.Logger) error {
	answer, err := readChain(command.File)
	if err != nil {
		return err
	}
	s, err := offline(ctx, c, log)
	if err != nil {
		return err
	}
	defer s.store.Close()
	issuer, _, err := s.localIssuer(ctx, command.Issuer)
	if err != nil {
		return err
	}
	authorities := handlers.NewAuthorities(s.store, s.keys.ca, c.PKIURL)
	id, err := handlers.NewSubordinates(authorities, s.store).Install(ctx, issuer, answer)
	if err != nil {
		return err
	}
	fmt.Printf("authority %s (%s) signs the certificates of %s now\n", id, answer[0].Subject, command.Issuer)
	return nil
}

// localIssuer finds a local issuer by name. The one that every installation has
// may be asked for before the first start, so that it never gets a root of its
// own.
func (s *server) localIssuer(ctx context.Context, name string) (certctl.ID, local.Settings, error) {
	actor := certctl.SystemActor("operator")
	issuer, err := s.store.GetIssuer(ctx, actor, name)
	if certctl.ErrorCode(err) == certctl.NotFound && name == localIssuer {
		issuer, err = s.ensureLocalIssuer(ctx)
	}
	if err == nil && issuer.Kind != certctl.IssuerLocal {
		err = certctl.Errorf(certctl.Invalid, "the issuer %s is of the kind %s: it has no CA here", name, issuer.Kind)
	}
	if err != nil {
		return certctl.NoID, local.Settings{}, err
	}
	settings, err := local.ParseSettings(issuer.Settings)
	return issuer.ID, settings, err
}

// maxChainFile bounds what ca install reads.
const maxChainFile = 1 << 20

// readChain reads the certificates of a PEM file, in its order.
func readChain(path string) ([]*x509.Certificate, error) {
	file := os.Stdin
	if path != "-" {
		opened, err := os.Open(path)
		if err != nil {
			return nil, certctl.Wrap(certctl.Invalid, err, "%s cannot be read", path)
		}
		defer opened.Close() // only read
		file = opened
	}
	text, err := io.ReadAll(io.LimitReader(file, maxChainFile))
	if err != nil {
		return nil, certctl.Wrap(certctl.Invalid, err, "%s cannot be read", path)
	}
	var chain []*x509.Certificate
	for {
		var block *pem.Block
		block, text = pem.Decode(text)
		if block == nil {
			return chain, nil
		}
		if block.Type != "CERTIFICATE" {
			return nil, certctl.Errorf(certctl.Invalid, "%s holds a %s: only certificates belong here", path, block.Type)
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, certctl.Wrap(certctl.Invalid, err, "%s: certificate %d cannot be read", path, len(chain)+1)
		}
		chain = append(chain, certificate)
	}
}
