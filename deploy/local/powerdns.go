package local

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
)

// PowerDNS is a private PowerDNS with its HTTP API. Its fields are read by Start.
type PowerDNS struct {
	// Dir is a folder for the configuration, the zones and the log.
	Dir string
	// Listen is the address for DNS, API the one for HTTP.
	Listen, API string
	// Key is what the API asks for.
	Key string
}

const powerDNSConfig = `launch=lmdb
lmdb-filename=%[1]s/zones.lmdb
socket-dir=%[1]s
local-address=%[2]s
local-port=%[3]s
api=yes
api-key=%[6]s
webserver=yes
webserver-address=%[4]s
webserver-port=%[5]s
webserver-allow-from=127.0.0.0/8
cache-ttl=0
negquery-cache-ttl=0
query-cache-ttl=0
zone-cache-refresh-interval=0
dnsupdate=yes
allow-dnsupdate-from=127.0.0.0/8
guardian=no
daemon=no
`

// Start starts PowerDNS and returns when its API takes connections. Stop it with
// the process that is returned.
func (p *PowerDNS) Start(ctx context.Context) (*Process, error) {
	program, err := FindPowerDNS()
	if err != nil {
		return nil, err
	}
	address, port, _ := strings.Cut(p.Listen, ":")
	api, apiPort, _ := strings.Cut(p.API, ":")
	config := fmt.Appendf(nil, powerDNSConfig, p.Dir, address, port, api, apiPort, p.Key)
	if err := os.WriteFile(filepath.Join(p.Dir, "pdns.conf"), config, 0o600); err != nil {
		return nil, fmt.Errorf("prepare PowerDNS: %w", err)
	}
	process, err := Start(Command{Args: []string{program, "--config-dir=" + p.Dir}, LogFile: filepath.Join(p.Dir, "output.log"), Name: "PowerDNS"})
	if err != nil {
		return nil, err
	}
	if err := process.Ready(ctx, Accepts("tcp", p.API)); err != nil {
		process.Kill()
		return nil, err
	}
	return process, nil
}

// Do asks the API, below /api/v1/servers/localhost, and decodes the answer into
// answer unless that is nil.
func (p *PowerDNS) Do(ctx context.Context, method, path string, body, answer any) error {
	encoded, err := json.Marshal(body)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, method, "http://"+p.API+"/api/v1/servers/localhost"+path, bytes.NewReader(encoded))
	if err != nil {
		return err
	}
	request.Header.Set("X-API-Key", p.Key)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	said, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode/100 != 2 {
		return fmt.Errorf("%s %s: %s: %s", method, path, response.Status, said)
	}
	if answer == nil {
		return nil
	}
	return json.Unmarshal(said, answer)
}

// FindPowerDNS returns PowerDNS's path, when its backend for LMDB is there, too.
func FindPowerDNS() (string, error) {
	found, err := filepath.Glob("/usr/lib/*/pdns/liblmdbbackend.so")
	if err != nil || len(found) == 0 {
		return "", fmt.Errorf("PowerDNS's backend for LMDB is not installed: apt-get install pdns-backend-lmdb")
	}
	return findDaemon("pdns_server", "pdns-backend-lmdb")
}
