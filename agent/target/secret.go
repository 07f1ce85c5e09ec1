package target

import (
	"io"
	"os"
	"strings"

	"github.com/certctl/certctl"
)

// maxSecret bounds what is read of a file with a password.
const maxSecret = 4 << 10

// readSecret reads a password from a file of this node, without the end of its line.
func readSecret(path string) (string, error) {
	in, err := os.Open(path)
	if err != nil {
		return "", certctl.Wrap(certctl.Unavailable, err, "the password in %s cannot be read", path)
	}
	defer in.Close()
	content, err := io.ReadAll(io.LimitReader(in, maxSecret+1))
	if err != nil {
		return "", certctl.Wrap(certctl.Unavailable, err, "the password in %s cannot be read", path)
	}
	secret := strings.TrimRight(string(content), "\r\n")
	if secret == "" || len(content) > maxSecret {
		return "", certctl.Errorf(certctl.Invalid, "%s holds no password", path)
	}
	return secret, nil
}
