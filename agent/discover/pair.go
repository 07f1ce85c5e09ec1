package discover

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"strings"

	"github.com/certctl/certctl"
)

// Pair is a certificate as files have it.
type Pair struct {
	Leaf  []byte
	Chain certctl.Chain
	Key   crypto.Signer
}

// Files are those of a certificate.
type Files struct {
	Kind             string // of the target: what its daemon reads of the files
	Certificate, Key string // may be one
	Chain            string // of those certificates that the first file does not hold; "": none
}

// Read reads a certificate with its chain, and its key, and makes sure that they
// belong together.
func (f Files) Read() (Pair, error) {
	pair, err := f.readPair()
	if err == nil && len(pair.Chain) == 0 && f.Chain != "" && f.Chain != f.Certificate {
		// Apache serves the other file only for a certificate that is alone in its own.
		err = eachBlock(f.Chain, func(block *pem.Block) error {
			if block.Type == "CERTIFICATE" && !bytes.Equal(block.Bytes, pair.Leaf) {
				pair.Chain = append(pair.Chain, block.Bytes)
			}
			return nil
		})
	}
	pair.Chain = withoutRoots(pair.Chain)
	return pair, err
}

func (f Files) readPair() (Pair, error) {
	var pair Pair
	certificate, key := f.Certificate, f.Key
	if err := f.onlyKept(); err != nil {
		return pair, err
	}
	err := eachBlock(certificate, func(block *pem.Block) error {
		switch {
		case block.Type != "CERTIFICATE":
		case pair.Leaf == nil:
			pair.Leaf = block.Bytes
		default:
			pair.Chain = append(pair.Chain, block.Bytes)
		}
		return nil
	})
	if err == nil {
		err = eachBlock(key, func(block *pem.Block) (err error) {
			if strings.HasSuffix(block.Type, "PRIVATE KEY") && pair.Key == nil {
				pair.Key, err = readKey(block)
			}
			return err
		})
	}
	switch {
	case err != nil:
		return pair, err
	case pair.Leaf == nil:
		return pair, certctl.Errorf(certctl.Invalid, "%s holds no certificate in PEM", certificate)
	case pair.Key == nil:
		return pair, certctl.Errorf(certctl.Invalid, "%s holds no private key in PEM", key)
	}
	leaf, err := x509.ParseCertificate(pair.Leaf)
	if err != nil {
		return pair, certctl.Wrap(certctl.Invalid, err, "%s cannot be read", certificate)
	}
	if public, ok := leaf.PublicKey.(interface{ Equal(x crypto.PublicKey) bool }); !ok || !public.Equal(pair.Key.Public()) {
		return pair, certctl.Errorf(certctl.Conflict, "%s and %s do not belong together", certificate, key)
	}
	return pair, nil
}

// onlyKept refuses files with blocks that a generation would not have. A link may
// take the place of such a file, and what else it holds would be gone. The curve
// that is written before some keys is in the key, too; and nginx reads DH parameters
// from the file of ssl_dhparam alone.
func (f Files) onlyKept() error {
	files := []string{f.Certificate}
	if f.Key != f.Certificate {
		files = append(files, f.Key)
	}
	keys := 0
	for _, file := range files {
		err := eachBlock(file, func(block *pem.Block) error {
			private := strings.HasSuffix(block.Type, "PRIVATE KEY")
			if private {
				keys++
			}
			unread := block.Type == "EC PARAMETERS" || block.Type == "DH PARAMETERS" && f.Kind == "nginx"
			if private && keys == 1 || block.Type == "CERTIFICATE" || unread {
				return nil
			}
			return certctl.Errorf(certctl.Conflict, "%s holds %s besides, which a target's files would not", file, certctl.Clip(block.Type, 40)).
				WithRemedy("give it a file of its own, which the configuration names (DH parameters: ssl-dh-param-file), or leave this certificate as it is")
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// maxPEM bounds what is read of a file.
const maxPEM = 1 << 20

func eachBlock(path string, do func(*pem.Block) error) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return certctl.Wrap(certctl.Invalid, err, "the file cannot be read")
	}
	if len(content) > maxPEM {
		return certctl.Errorf(certctl.Invalid, "%s has more than %d bytes", path, maxPEM)
	}
	for block, rest := pem.Decode(content); block != nil; block, rest = pem.Decode(rest) {
		if err := do(block); err != nil {
			return err
		}
	}
	return nil
}

func readKey(block *pem.Block) (crypto.Signer, error) {
	if block.Type == "ENCRYPTED PRIVATE KEY" || block.Headers["DEK-Info"] != "" {
		return nil, certctl.Errorf(certctl.Invalid, "the key has a passphrase").WithRemedy("a daemon that starts by itself cannot ask for it: store it without one")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		var others [2]error
		if key, others[0] = x509.ParseECPrivateKey(block.Bytes); others[0] != nil {
			key, others[1] = x509.ParsePKCS1PrivateKey(block.Bytes)
		}
		if others[0] != nil && others[1] != nil {
			return nil, certctl.Wrap(certctl.Invalid, errors.Join(err, others[0], others[1]), "the key cannot be read")
		}
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, certctl.Errorf(certctl.Invalid, "the key cannot sign")
	}
	return signer, nil
}

// withoutRoots leaves out what clients have or do not believe.
func withoutRoots(chain certctl.Chain) (kept certctl.Chain) {
	for _, der := range chain {
		if c, err := x509.ParseCertificate(der); err == nil && string(c.RawIssuer) == string(c.RawSubject) {
			continue
		}
		kept = append(kept, der)
	}
	return kept
}
