package target

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/x509"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/certctl/certctl"
	"github.com/pavlo-v-chernykh/keystore-go/v4"
	"software.sslmate.com/src/go-pkcs12"
)

// Names of the files of formats.
const (
	fileCertDER  = "cert.der"
	fileKeyDER   = "privkey.der"
	filePKCS12   = "keystore.p12"
	fileKeystore = "keystore.jks"
)

// format is a way to write what a generation holds, besides PEM.
type format struct {
	locked bool // with a password
	files  func(m material, key []byte, password string) ([]file, error)
}

// formats by their names in settings.
var formats = map[string]format{
	"der":    {files: derFiles},
	"pkcs12": {locked: true, files: pkcs12Files},
	"jks":    {locked: true, files: jksFiles},
}

// checkFormats notes formats that there are not, and a password too few or too many.
func checkFormats(bad *certctl.FieldErrors, names []string, passwordFile string) {
	locked := false
	for i, name := range names {
		f, known := formats[name]
		if !known || slices.Contains(names[:i], name) {
			bad.Add("/settings/formats/"+strconv.Itoa(i), "must be one of %s, once", strings.Join(slices.Sorted(maps.Keys(formats)), ", "))
		}
		locked = locked || f.locked
	}
	switch {
	case passwordFile != "":
		absolute(bad, "password_file", passwordFile)
		if !locked {
			bad.Add("/settings/password_file", "is for the formats pkcs12 and jks")
		}
	case locked:
		bad.Add("/settings/password_file", "is required for the formats pkcs12 and jks")
	}
}

// formatFiles writes a generation in formats. The same content under the same
// password has the same bytes, so that nothing is written twice.
func formatFiles(m material, names []string, passwordFile string) ([]file, error) {
	key, err := x509.MarshalPKCS8PrivateKey(m.install.Key)
	if err != nil {
		return nil, err
	}
	var password string
	if passwordFile != "" {
		if password, err = readSecret(passwordFile); err != nil {
			return nil, err
		}
		if err := checkStorePassword(password); err != nil {
			return nil, err
		}
	}
	var all []file
	for _, name := range names {
		files, err := formats[name].files(m, key, password)
		if err != nil {
			return nil, certctl.Wrap(certctl.Internal, err, "the format %s cannot be written", name)
		}
		all = append(all, files...)
	}
	return all, nil
}

// minStorePassword is what Java's keytool demands.
const minStorePassword = 6

// checkStorePassword refuses what programs do not read alike.
func checkStorePassword(password string) error {
	if len(password) < minStorePassword {
		return certctl.Errorf(certctl.Invalid, "the password of the store has fewer than %d characters", minStorePassword)
	}
	if strings.ContainsFunc(password, func(r rune) bool { return r < ' ' || r > '~' }) {
		return certctl.Errorf(certctl.Invalid, "the password of the store has other characters than those of printable ASCII")
	}
	return nil
}

func derFiles(m material, key []byte, _ string) ([]file, error) {
	return []file{{name: fileCertDER, content: m.install.Command.Leaf}, {name: fileKeyDER, content: key, secret: true}}, nil
}

// pkcs12Files are read by OpenSSL from 1.1.1, Java from 12 (and updates of 8 and 11)
// and Windows Server from 2019.
func pkcs12Files(m material, key []byte, password string) ([]file, error) {
	random, err := derivedRandom(m, key, password, filePKCS12)
	if err != nil {
		return nil, err
	}
	var chain []*x509.Certificate
	for _, der := range m.install.Command.Chain {
		parent, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, err
		}
		chain = append(chain, parent)
	}
	content, err := pkcs12.Modern2023.WithRand(random).Encode(m.install.Key, m.leaf, chain, password)
	return []file{{name: filePKCS12, content: content, secret: true}}, err
}

// jksFiles are for what reads nothing newer. The entry's alias is the place.
func jksFiles(m material, key []byte, password string) ([]file, error) {
	random, err := derivedRandom(m, key, password, fileKeystore)
	if err != nil {
		return nil, err
	}
	entry := keystore.PrivateKeyEntry{CreationTime: m.leaf.NotBefore, PrivateKey: key}
	for _, der := range slices.Concat([][]byte{m.install.Command.Leaf}, m.install.Command.Chain) {
		entry.CertificateChain = append(entry.CertificateChain, keystore.Certificate{Type: "X.509", Content: der})
	}
	store := keystore.New(keystore.WithCustomRandomNumberGenerator(random))
	if err := store.SetPrivateKeyEntry(m.install.Command.Place, entry, []byte(password)); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	err = store.Store(&out, []byte(password))
	return []file{{name: fileKeystore, content: out.Bytes(), secret: true}}, err
}

// randomLength is more than any format takes for its salts.
const randomLength = 1 << 10

// derivedRandom is for salts: as good as random to whoever has not the key, and the
// same for the same key, leaf, password and file.
func derivedRandom(m material, key []byte, password, name string) (io.Reader, error) {
	secret := slices.Concat(key, []byte(password))
	derived, err := hkdf.Key(sha256.New, secret, m.leaf.Raw, "certctl "+name, randomLength)
	return bytes.NewReader(derived), err
}
