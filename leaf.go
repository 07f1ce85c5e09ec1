package certctl

import (
	"bytes"
	"crypto/x509"
	"time"
)

// Issued is what a CA answered with.
type Issued struct {
	Leaf  []byte // DER
	Chain Chain  // up to, without, the root
	// Signed by a key in this process, which verifies its own signatures (see
	// handlers/ca): Check does not verify those of leaf and chain once more.
	Signed bool
}

// Leaf is what the platform reads of a leaf.
type Leaf struct {
	Serial      Serial
	Fingerprint Digest
	SPKI        Digest
	Algorithm   KeyAlgorithm
	Names       Names
	NotBefore   time.Time
	NotAfter    time.Time
}

// ParseLeaf reads a DER certificate.
func ParseLeaf(der []byte) (Leaf, error) {
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		return Leaf{}, Wrap(Invalid, err, "not an X.509 certificate")
	}
	return leafOf(parsed)
}

func leafOf(c *x509.Certificate) (Leaf, error) {
	algorithm, err := AlgorithmOf(c.PublicKey)
	if err != nil {
		return Leaf{}, err
	}
	names, err := NamesOf(c)
	if err != nil {
		return Leaf{}, err
	}
	return Leaf{
		Serial: SerialOf(c.SerialNumber), Fingerprint: DigestOf(c.Raw), SPKI: DigestOf(c.RawSubjectPublicKeyInfo),
		Algorithm: algorithm, Names: names, NotBefore: c.NotBefore.UTC(), NotAfter: c.NotAfter.UTC(),
	}, nil
}

// Check holds what a CA answered against the order: the leaf is for the key of
// the order's CSR and for exactly its names, is valid for some time, and (unless
// it was Signed here) each certificate of the chain has signed the one before it.
// A leaf that does not fit is never stored as the order's.
func (i Issued) Check(o Order) (Leaf, error) {
	leaf, err := x509.ParseCertificate(i.Leaf)
	if err != nil {
		return Leaf{}, wrongLeaf(err, "the CA answered with something that is no certificate")
	}
	facts, err := leafOf(leaf)
	if err != nil {
		return Leaf{}, wrongLeaf(err, "the CA's certificate cannot be used: %s", ErrorMessage(err))
	}
	key, err := KeyOfCSR(o.CSR)
	if err != nil {
		return Leaf{}, Wrap(Internal, err, "the order's CSR cannot be read")
	}
	switch {
	case !bytes.Equal(leaf.RawSubjectPublicKeyInfo, key):
		return Leaf{}, wrongLeaf(nil, "the CA's certificate is for another key than the one that was sent")
	case !facts.Names.Equal(o.Names):
		return Leaf{}, wrongLeaf(nil, "the CA's certificate is for %v, ordered were %v", facts.Names.Strings(), o.Names.Strings())
	case !facts.NotAfter.After(facts.NotBefore):
		return Leaf{}, wrongLeaf(nil, "the CA's certificate ends before it begins")
	}
	if i.Signed {
		return facts, nil
	}
	if n, err := i.Chain.Signed(leaf); err != nil {
		return Leaf{}, wrongLeaf(err, "certificate %d of the CA's chain did not sign the one before it", n)
	}
	return facts, nil
}

// Signed verifies that the chain's first certificate has signed one, and each
// further one the one before it. With an error it returns which has not, from 1.
func (c Chain) Signed(certificate *x509.Certificate) (n int, err error) {
	child := certificate
	for i, der := range c {
		parent, err := x509.ParseCertificate(der)
		if err == nil {
			err = child.CheckSignatureFrom(parent)
		}
		if err != nil {
			return i + 1, err
		}
		child = parent
	}
	return 0, nil
}

// wrongLeaf is retryable: what the CA signed is on record there, and the next
// attempt may get what was asked for.
func wrongLeaf(cause error, format string, args ...any) *IssueError {
	e := Wrap(Conflict, cause, format, args...)
	return &IssueError{Kind: FailRetryable, Code: "wrong_certificate", Message: e.Message, Cause: cause}
}
