package remote

import (
	"bytes"
	"encoding/json"
	"net"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/agent/probe"
)

// decode reads settings strictly.
func decode(raw json.RawMessage, into any) error {
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return certctl.InvalidField("/settings", "%s", certctl.Clip(err.Error(), 200))
	}
	return nil
}

// checkPath notes a path that is not absolute and clean.
func checkPath(bad *certctl.FieldErrors, field, path string) {
	if !filepath.IsAbs(path) || filepath.Clean(path) != path {
		bad.Add("/settings/"+field, "must be an absolute path without . and ..")
	}
}

// checkListen notes what is no address to probe.
func checkListen(bad *certctl.FieldErrors, addresses []string) {
	for i, address := range addresses {
		if _, err := probe.ParseAddress(address); err != nil {
			bad.Add("/settings/listen/"+strconv.Itoa(i), "%s", certctl.ErrorMessage(err))
		}
	}
}

// checkArgv notes what is no argument vector for another host.
func checkArgv(bad *certctl.FieldErrors, field string, argv []string) {
	if len(argv) == 0 {
		return
	}
	checkPath(bad, field+"/0", argv[0])
	for i, arg := range argv {
		if strings.ContainsFunc(arg, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			bad.Add("/settings/"+field+"/"+strconv.Itoa(i), "must have no control characters")
		}
	}
}

// hostPort adds the port that an address lacks; "" for what is no address.
func hostPort(address, port string) string {
	host, given, err := net.SplitHostPort(address)
	if err != nil {
		host, given, err = net.SplitHostPort(address + ":" + port)
	}
	if n, badPort := strconv.ParseUint(given, 10, 16); err != nil || host == "" || badPort != nil || n == 0 || strings.ContainsAny(host, "/@* ") {
		return ""
	}
	return net.JoinHostPort(host, given)
}
