//go:build engine

package images

import (
	"strings"
	"time"
)

// testACMENginx has Pebble ask nginx for the proof, and nginx the API.
func testACMENginx(e *engine) {
	p := e.project("acme-nginx", nil, "-f", "examples/acme-nginx/compose.yml")
	p.compose("up", "-d")
	p.verified("shop", "web")
	p.serves("shop", "127.0.0.1:9443", "shop.example.test")
	if chain := p.inside("openssl", "s_client", "-connect", "127.0.0.1:9443", "-servername", "shop.example.test"); !strings.Contains(chain, "Pebble") {
		p.t.Errorf("not of Pebble: %s", chain)
	}
}

// testACMEWildcard has certctl write TXT records into a zone of Knot's, where Pebble
// looks for them. None stays.
func testACMEWildcard(e *engine) {
	p := e.project("acme-wildcard-dns01", nil, "-f", "examples/acme-wildcard-dns01/compose.yml")
	p.compose("up", "-d")
	p.verified("web", "web")
	p.serves("web", "127.0.0.1:9443", "any.example.test")
	p.until("the zone has no TXT record", time.Minute, func() bool {
		zone := p.compose("exec", "-T", "dns", "knotc", "-s", "/storage/knot.sock", "zone-read", "example.test")
		return strings.Contains(zone, "SOA") && !strings.Contains(zone, "TXT")
	})
}

// testPrivateCAHAProxy renews once, too: HAProxy is reloaded without a restart.
func testPrivateCAHAProxy(e *engine) {
	e.run("docker", "build", "-q", "-f", "examples/private-ca-haproxy/Dockerfile", "-t", "certctl-example-haproxy:dev", ".")
	p := e.project("private-ca-haproxy", nil, "-f", "examples/private-ca-haproxy/compose.yml")
	p.compose("up", "-d")
	p.renews("shop.internal", "www.shop.internal")
	p.notRestarted("certctl-private-ca-haproxy-haproxy-1")
}

// testPrivateCATraefik has a program of ours in Traefik's place: what is shown is
// that a change of the files is told by a touch, and how the file names them.
func testPrivateCATraefik(e *engine) {
	e.run("docker", "build", "-q", "-f", "examples/private-ca-traefik/Dockerfile", "-t", "certctl-example-traefik:dev", ".")
	p := e.project("private-ca-traefik", nil, "-f", "examples/private-ca-traefik/compose.yml")
	p.compose("up", "-d")
	p.renews("shop.internal", "www.shop.internal")
	p.notRestarted("certctl-private-ca-traefik-traefik-1")
	if page := p.inside("curl", "-sSk", "--resolve", "shop.internal:9443:127.0.0.1", "https://shop.internal:9443/"); !strings.Contains(page, "the shop") {
		p.t.Errorf("behind Traefik: %s", page)
	}
}

// testStepCAHAProxy has step-ca ask HAProxy for the proof, and HAProxy certctl.
func testStepCAHAProxy(e *engine) {
	e.run("docker", "build", "-q", "-f", "examples/private-ca-haproxy/Dockerfile", "-t", "certctl-example-haproxy:dev", ".")
	p := e.project("step-ca-haproxy", nil, "-f", "examples/step-ca-haproxy/compose.yml")
	p.compose("up", "-d")
	p.renews("shop.internal", "www.shop.internal")
	p.notRestarted("certctl-step-ca-haproxy-haproxy-1")
	if chain := p.inside("openssl", "s_client", "-connect", "127.0.0.1:9443", "-servername", "shop.internal"); !strings.Contains(chain, "certctl example Intermediate CA") {
		p.t.Errorf("not of step-ca: %s", chain)
	}
}

// renews waits for the certificate web to be served, renews it, and sees the other
// one served for both names.
func (p *project) renews(names ...string) {
	p.t.Helper()
	p.verified("web", "web")
	p.serves("web", "127.0.0.1:9443", names[0])
	first := p.certctl("certificates", "chain", "web")
	p.certctl("certificates", "renew", "web", "--wait")
	p.verified("web", "web")
	if p.certctl("certificates", "chain", "web") == first {
		p.t.Error("not renewed")
	}
	for _, name := range names {
		p.serves("web", "127.0.0.1:9443", name)
	}
}

// notRestarted holds a container to its first start.
func (p *project) notRestarted(container string) {
	p.t.Helper()
	if restarts := p.run("docker", "inspect", "-f", "{{.RestartCount}}", container); restarts != "0" {
		p.t.Errorf("%s was restarted %s times", container, restarts)
	}
}

// testMultiIssuer stops the first CA. What would have been ordered there comes from
// the second.
func testMultiIssuer(e *engine) {
	p := e.project("multi-issuer", nil, "-f", "examples/multi-issuer/compose.yml")
	p.compose("up", "-d")
	p.verified("web", "web")
	p.certctl("policies", "create", "-f", "/impatient.yaml")
	p.compose("stop", "pebble")
	names := []string{"a", "b", "c", "d", "e"}
	for _, name := range names {
		p.certctl("certificates", "create", name, "-d", name+".example.test", "--issuer", "pebble,second",
			"--renewal-policy", "impatient", "--target", "web")
	}
	p.until("all are active", 6*time.Minute, func() bool {
		active, _ := p.tryCompose("run", "--rm", "--no-deps", "-T", "certificate", "certificates", "list", "--status", "active")
		return strings.Count(active, "example.test") == len(names)+1
	})
	for _, name := range names {
		p.serves(name, "127.0.0.1:9443", name+".example.test")
	}
	if moved := p.certctl("events", "list", "--name", "order_issuer_switched"); strings.Count(moved, "order_issuer_switched") != len(names) {
		p.t.Errorf("moved to the second: %s", moved)
	}
}
