package remote

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"slices"
	"time"

	"github.com/certctl/certctl"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

// dialTimeout bounds connecting and logging in.
const dialTimeout = 15 * time.Second

// dial connects to the host, which must have a key that is known, and logs in.
func (t *sshTarget) dial(ctx context.Context) (*ssh.Client, net.Conn, error) {
	config, err := t.config()
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	plain, err := new(net.Dialer).DialContext(ctx, "tcp", t.address)
	if err != nil {
		return nil, nil, certctl.Wrap(certctl.Unavailable, err, "the host %s does not answer", t.address)
	}
	if deadline, ok := ctx.Deadline(); ok {
		err = plain.SetDeadline(deadline)
	}
	var conn ssh.Conn
	var channels <-chan ssh.NewChannel
	var requests <-chan *ssh.Request
	if err == nil {
		conn, channels, requests, err = ssh.NewClientConn(plain, t.address, config)
	}
	if err == nil {
		err = plain.SetDeadline(time.Time{})
	}
	if err != nil {
		_ = plain.Close() // what went wrong before says more
		return nil, nil, t.refused(err)
	}
	return ssh.NewClient(conn, channels, requests), plain, nil
}

// refused says what a failed handshake means.
func (t *sshTarget) refused(err error) error {
	var ours *certctl.Error
	if errors.As(err, &ours) {
		return ours
	}
	return certctl.Wrap(certctl.Unavailable, err, "%s does not let %s in: %s", t.address, t.User, certctl.Clip(err.Error(), 300)).
		WithRemedy("does the host know the public half of the key in %s, and its user?", t.PrivateKeyFile)
}

// config is read anew for each connection, so that changed files count.
func (t *sshTarget) config() (*ssh.ClientConfig, error) {
	signer, err := readPrivateKey(t.PrivateKeyFile)
	if err != nil {
		return nil, err
	}
	known, err := t.knownKeys()
	if err != nil {
		return nil, err
	}
	return &ssh.ClientConfig{
		User: t.User, Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)},
		HostKeyAlgorithms: keyAlgorithms(known), HostKeyCallback: t.checkHostKey(known),
	}, nil
}

// maxPrivateKey bounds what is read of a private key's file.
const maxPrivateKey = 64 << 10

func readPrivateKey(path string) (ssh.Signer, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, certctl.Wrap(certctl.Unavailable, err, "the key in %s cannot be read", path)
	}
	if info.Mode().Perm()&0o077 != 0 || info.Size() > maxPrivateKey {
		return nil, certctl.Errorf(certctl.Invalid, "the key in %s may be read by others, or is none: mode %#o", path, info.Mode().Perm()).
			WithRemedy("chmod go= %s", path)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, certctl.Wrap(certctl.Unavailable, err, "the key in %s cannot be read", path)
	}
	signer, err := ssh.ParsePrivateKey(content)
	var locked *ssh.PassphraseMissingError
	if errors.As(err, &locked) {
		return nil, certctl.Errorf(certctl.Invalid, "the key in %s has a passphrase, which nobody is there to type", path).
			WithRemedy("give the proxy a key of its own without one")
	}
	if err != nil {
		return nil, certctl.Errorf(certctl.Invalid, "%s holds no private key of SSH", path)
	}
	return signer, nil
}

// knownKeys are those that the host may have.
func (t *sshTarget) knownKeys() ([]ssh.PublicKey, error) {
	if len(t.hostKeys) > 0 {
		return t.hostKeys, nil
	}
	check, err := knownhosts.New(t.KnownHostsFile)
	if err != nil {
		return nil, certctl.Wrap(certctl.Invalid, err, "%s cannot be read", t.KnownHostsFile)
	}
	// It tells what it would accept when it is shown what nobody has.
	var mismatch *knownhosts.KeyError
	if err := check(t.address, &net.TCPAddr{IP: net.IPv4zero}, noKey{}); !errors.As(err, &mismatch) || len(mismatch.Want) == 0 {
		return nil, certctl.Errorf(certctl.Denied, "%s does not know the host %s", t.KnownHostsFile, t.address).
			WithRemedy("add its key, compared with what the host itself says: ssh-keyscan alone proves nothing")
	}
	var keys []ssh.PublicKey
	for _, known := range mismatch.Want {
		keys = append(keys, known.Key)
	}
	return keys, nil
}

// checkHostKey accepts nothing but the known keys, and none that was revoked.
func (t *sshTarget) checkHostKey(known []ssh.PublicKey) ssh.HostKeyCallback {
	return func(_ string, remote net.Addr, key ssh.PublicKey) error {
		if !slices.ContainsFunc(known, func(k ssh.PublicKey) bool { return bytes.Equal(k.Marshal(), key.Marshal()) }) {
			return certctl.Errorf(certctl.Denied, "%s has the key %s, which is not the one that is known", t.address, ssh.FingerprintSHA256(key)).
				WithRemedy("if the host was set up anew, change what is known; else somebody is between")
		}
		if t.KnownHostsFile == "" {
			return nil
		}
		check, err := knownhosts.New(t.KnownHostsFile)
		if err == nil {
			err = check(t.address, remote, key)
		}
		if err != nil {
			return certctl.Wrap(certctl.Denied, err, "%s does not accept the key of %s", t.KnownHostsFile, t.address)
		}
		return nil
	}
}

// keyAlgorithms asks the host for a key of a type that is known, whatever others
// it has.
func keyAlgorithms(keys []ssh.PublicKey) (algorithms []string) {
	for _, key := range keys {
		if key.Type() == ssh.KeyAlgoRSA {
			algorithms = append(algorithms, ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256)
		} else {
			algorithms = append(algorithms, key.Type())
		}
	}
	return algorithms
}

// noKey is a public key that no host has.
type noKey struct{}

func (noKey) Type() string                        { return "none" }
func (noKey) Marshal() []byte                     { return []byte("none") }
func (noKey) Verify([]byte, *ssh.Signature) error { return errors.New("no key") }
