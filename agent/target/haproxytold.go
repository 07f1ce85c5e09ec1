package target

import (
	"bytes"
	"context"
	"encoding/pem"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/certctl/certctl"
)

// Bounds of what HAProxy and the agent say to each other. HAProxy takes a command
// into one buffer, of 16 KiB unless its configuration says otherwise.
const (
	maxHAProxyAnswer  = 4 << 20
	maxHAProxyPayload = 15 << 10
)

// haproxyCLI is HAProxy's runtime API at its stats socket, of level admin.
type haproxyCLI struct{ socket string }

// do sends one command, which may hold a key, and returns the answer. HAProxy takes
// one a connection.
func (c haproxyCLI) do(ctx context.Context, command string) (string, error) {
	conn, err := dialControl(ctx, "unix", c.socket)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := answersForRoot(conn, c.socket, listenerOf); err != nil {
		return "", err
	}
	if _, err := io.WriteString(conn, command+"\n"); err != nil {
		return "", err
	}
	answer, err := io.ReadAll(io.LimitReader(conn, maxHAProxyAnswer))
	return string(answer), err
}

// certificates lists what HAProxy has in memory, by the names of its files, and the
// one of which a change has been begun and not ended: HAProxy has one at a time.
func (c haproxyCLI) certificates(ctx context.Context) (loaded []string, changing string, err error) {
	answer, err := c.do(ctx, "show ssl cert")
	if err != nil {
		return nil, "", err
	}
	if !strings.Contains(answer, "# filename") {
		return nil, "", haproxySaid(answer).WithRemedy("does the line \"stats socket\" of its configuration say \"level admin\"?")
	}
	for line := range strings.Lines(answer) {
		line = strings.TrimRight(line, "\r\n")
		switch {
		case line == "" || strings.HasPrefix(line, "#"):
		case strings.HasPrefix(line, "*"):
			changing = line[1:]
		default:
			loaded = append(loaded, line)
		}
	}
	return loaded, changing, nil
}

// serial is of the leaf that HAProxy has under a name; "": it says none.
func (c haproxyCLI) serial(ctx context.Context, name string) (certctl.Serial, error) {
	answer, err := c.do(ctx, "show ssl cert "+name)
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(answer) {
		if text, ok := strings.CutPrefix(line, "Serial:"); ok {
			return certctl.ParseSerial(strings.TrimSpace(text))
		}
	}
	return "", nil
}

// replace has HAProxy take a bundle under a name, for the connections that come
// from now on. What it refuses leaves the one before in force.
func (c haproxyCLI) replace(ctx context.Context, name string, bundle []byte) error {
	for _, step := range []struct{ command, success string }{
		// An empty line ends what is sent, and PEM has none.
		{"set ssl cert " + name + " <<\n" + string(bytes.TrimSpace(bundle)) + "\n", "Transaction "},
		{"commit ssl cert " + name, "Success!"},
	} {
		answer, err := c.do(ctx, step.command)
		if err == nil && strings.Contains(answer, step.success) {
			continue
		}
		if err == nil {
			err = haproxySaid(answer)
		}
		_, _ = c.do(ctx, "abort ssl cert "+name) // where nothing was begun there is nothing to end
		return err
	}
	return nil
}

func haproxySaid(answer string) *certctl.Error {
	return certctl.Errorf(certctl.Conflict, "HAProxy: %s", certctl.Clip(strings.TrimSpace(answer), maxMessage))
}

// tell has a running HAProxy take what differs from what it has. It is no success
// when there is something that only a reload brings: a place that HAProxy has not
// loaded, one that is gone, or a bundle that is too long to be sent.
func (h *haproxy) tell(ctx context.Context) (told bool, err error) {
	loaded, changing, err := h.cli.certificates(ctx)
	if err != nil {
		return false, err
	}
	names, all, err := h.ours(loaded)
	if err != nil || !all {
		return false, err
	}
	if changing != "" {
		if !slices.Contains(names, changing) {
			return false, certctl.Errorf(certctl.Conflict, "HAProxy is in the middle of somebody else's change of %s", changing).
				WithRemedy("end it with \"commit ssl cert\" or \"abort ssl cert\" at the socket of HAProxy")
		}
		// Left by an agent that was killed. Its next words might be about another.
		if _, err := h.cli.do(ctx, "abort ssl cert "+changing); err != nil {
			return false, err
		}
	}
	for _, name := range names {
		if told, err := h.tellOne(ctx, name); err != nil || !told {
			return false, err
		}
	}
	return true, nil
}

// tellOne sends a bundle, unless HAProxy has it.
func (h *haproxy) tellOne(ctx context.Context, name string) (told bool, err error) {
	bundle, err := os.ReadFile(name)
	if err != nil {
		return false, err
	}
	digest := certctl.DigestOf(bundle)
	if h.told[name] == digest {
		has, err := h.cli.serial(ctx, name)
		if err != nil {
			return false, err
		}
		if has != "" && has == bundleSerial(bundle) {
			return true, nil
		}
	}
	delete(h.told, name)
	if len(bundle) > maxHAProxyPayload {
		return false, nil
	}
	if err := h.cli.replace(ctx, name, bundle); err != nil {
		return false, err
	}
	h.told[name] = digest
	return true, nil
}

// bundleSerial is of the first certificate of a bundle; "" when there is none.
func bundleSerial(bundle []byte) certctl.Serial {
	for block, rest := pem.Decode(bundle); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		facts, err := certctl.ParseLeaf(block.Bytes)
		if err != nil {
			return ""
		}
		return facts.Serial
	}
	return ""
}

// ours returns the names under which HAProxy has loaded the bundles of places, and
// whether these are all places, and no other ones.
func (h *haproxy) ours(loaded []string) (names []string, all bool, err error) {
	places, err := installedPlaces(h.Directory)
	if err != nil {
		return nil, false, err
	}
	all = true
	for _, current := range places {
		found := false
		name := filepath.Base(filepath.Dir(current)) + ".pem"
		for _, candidate := range []string{filepath.Join(current, fileBundle), filepath.Join(h.links, name)} {
			if slices.Contains(loaded, candidate) {
				names, found = append(names, candidate), true
			}
		}
		all = all && found
	}
	for _, name := range loaded {
		if below(name, h.Directory) || h.links != "" && below(name, h.links) {
			_, err := os.Stat(name)
			all = all && err == nil
		}
	}
	return names, all, nil
}
