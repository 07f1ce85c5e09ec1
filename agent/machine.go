package agent

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"

	"github.com/certctl/certctl"
)

// machineIDFile is where the system says which machine this is (machine-id(5)).
const machineIDFile = "/etc/machine-id"

// machineID names the machine the same way at every start: two machines with a
// copy of one state directory give two names, which the server notices.
//
// It is an HMAC of the system's machine id, since machine-id(5) asks not to send
// the id itself. Where the system has none (containers), a random one is kept in
// the state directory. Host names, addresses and hardware serials are left out
// on purpose: they change when a container moves, and a changed name stops the
// agent until a person has looked; copies of such a directory are told apart by
// their sessions.
func machineID(dir, systemFile string) (string, error) {
	raw, err := os.ReadFile(systemFile)
	id := strings.TrimSpace(string(raw))
	if err != nil || !isMachineID(id) {
		if id, err = madeMachineID(filepath.Join(dir, "machine-id")); err != nil {
			return "", err
		}
	}
	mac := hmac.New(sha256.New, []byte(id))
	mac.Write([]byte("certctl/v1/machine"))
	return hex.EncodeToString(mac.Sum(nil)[:16]), nil
}

func madeMachineID(path string) (string, error) {
	if raw, err := os.ReadFile(path); err == nil && isMachineID(strings.TrimSpace(string(raw))) {
		return strings.TrimSpace(string(raw)), nil
	}
	var random [16]byte
	_, _ = rand.Read(random[:]) // never fails (crypto/rand)
	id := hex.EncodeToString(random[:])
	if err := writeDurable(path, []byte(id+"\n")); err != nil {
		return "", certctl.Wrap(certctl.Internal, err, "a machine id cannot be kept")
	}
	return id, nil
}

// isMachineID reports whether s has the form of machine-id(5) and is not the
// "uninitialized" or zero one of an image that has not booted yet.
func isMachineID(s string) bool {
	decoded, err := hex.DecodeString(s)
	return err == nil && len(decoded) == 16 && strings.Trim(s, "0") != ""
}
