package main

import (
	"crypto/tls"
	"encoding/pem"
	"os"
	"sync"
	"time"

	"github.com/certctl/certctl"
	"github.com/rs/zerolog"
)

// fileCertificate is a certificate from files that somebody else renews. What
// cannot be read later leaves the one before in place.
type fileCertificate struct {
	cert, key, ca string // ca may be empty
	log           zerolog.Logger
	now           func() time.Time

	mu     sync.Mutex // guards what follows
	looked time.Time
	pair   *tls.Certificate
}

// load reads the files. The root goes to the chain's end: agents look for the root
// that they pin in what they are shown.
func (f *fileCertificate) load() (*tls.Certificate, error) {
	chain, err := readPEM(f.cert)
	if err != nil {
		return nil, err
	}
	if f.ca != "" {
		roots, err := readPEM(f.ca)
		if err != nil {
			return nil, err
		}
		chain = append(append(chain, '\n'), roots...)
	}
	key, err := readPEM(f.key)
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(chain, key)
	if err != nil {
		return nil, certctl.Wrap(certctl.Invalid, err, "the API's certificate and key do not belong together")
	}
	return &pair, nil
}

func readPEM(path string) ([]byte, error) {
	text, err := os.ReadFile(path)
	if err == nil {
		if block, _ := pem.Decode(text); block == nil {
			return nil, certctl.Errorf(certctl.Invalid, "%s holds no PEM", path)
		}
		return text, nil
	}
	return nil, certctl.Wrap(certctl.Invalid, err, "the API's certificate cannot be read").
		WithRemedy("a process without the role signer serves a certificate from --tls-cert and --tls-key")
}

// get is tls.Config's GetCertificate.
func (f *fileCertificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := f.now()
	if f.pair != nil && now.Sub(f.looked) < fileEvery {
		return f.pair, nil
	}
	f.looked = now
	pair, err := f.load()
	switch {
	case err == nil:
		f.pair = pair
	case f.pair == nil:
		return nil, err
	default:
		f.log.Error().Err(err).Msg("the API's certificate is served as it was")
	}
	return f.pair, nil
}
