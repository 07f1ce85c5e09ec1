package local

import (
	"fmt"
	"path/filepath"
)

// serverBlock is what the agent renders into each generation of the target;
// nginx includes it, and serves every name of the certificate.
const serverBlock = `server {
    listen %s ssl;
    server_name{{range .Names}} {{.}}{{end}};
    ssl_certificate     {{.Fullchain}};
    ssl_certificate_key {{.Key}};
    location / { return 200 "served by certctl\n"; }
}
`

// NginxTarget returns the settings of a target of kind nginx for this nginx,
// serving TLS at address.
func NginxTarget(n *Nginx, address string) (map[string]any, error) {
	binary, err := FindNginx()
	if err != nil {
		return nil, err
	}
	return map[string]any{
		"directory":    filepath.Join(n.Dir, "tls"),
		"config":       n.ConfigFile(),
		"binary":       binary,
		"pid_file":     n.PIDFile(),
		"listen":       []string{address},
		"server_block": fmt.Sprintf(serverBlock, address),
	}, nil
}
