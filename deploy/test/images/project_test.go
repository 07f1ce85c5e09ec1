//go:build engine

package images

import (
	"strings"
	"time"
)

// project is one start of Compose files.
type project struct {
	*engine
	files []string
}

// project runs files with variables until the test ends.
func (e *engine) project(name string, env []string, files ...string) *project {
	e.t.Helper()
	in := *e
	in.env = append(append([]string{}, e.env...), env...)
	p := &project{engine: &in, files: files}
	e.t.Cleanup(func() {
		if e.t.Failed() {
			logs, _ := p.tryCompose("logs", "--no-color", "--tail", "30")
			e.t.Logf("%s: %s", name, logs)
		}
		_, _ = p.tryCompose("--profile", "*", "down", "-v", "--timeout", "5")
	})
	return p
}

func (p *project) tryCompose(args ...string) (string, error) {
	return p.try("docker", append(append([]string{"compose"}, p.files...), args...)...)
}

func (p *project) compose(args ...string) string {
	p.t.Helper()
	out, err := p.tryCompose(args...)
	must(p.t, err)
	return out
}

// certctl runs the command line as the first admin.
func (p *project) certctl(args ...string) string {
	p.t.Helper()
	return p.compose(append([]string{"run", "--rm", "--no-deps", "-T", "certificate"}, args...)...)
}

// verified waits until a target serves the newest leaf of a certificate.
func (p *project) verified(certificate, target string) {
	p.t.Helper()
	var last string
	p.t.Cleanup(func() {
		if p.t.Failed() {
			p.t.Logf("the status of %s: %s", certificate, last)
		}
	})
	p.until(certificate+" is verified", 3*time.Minute, func() bool {
		last, _ = p.tryCompose("run", "--rm", "--no-deps", "-T", "certificate", "certificates", "status", certificate)
		return strings.Contains(last, "verified on "+target)
	})
}

// inside runs a command in the engine's network.
func (e *engine) inside(args ...string) string {
	e.t.Helper()
	return e.run("nsenter", append([]string{"--net=/run/netns/" + e.namespace}, args...)...)
}

// serves holds what is served at an address against the chain in the API.
func (p *project) serves(certificate, address, name string) {
	p.t.Helper()
	chain := p.certctl("certificates", "chain", certificate)
	shown := p.inside("openssl", "s_client", "-connect", address, "-servername", name, "-showcerts")
	begin, end := strings.Index(shown, "-----BEGIN"), strings.Index(shown, "-----END")
	if begin < 0 || end < begin || !strings.HasPrefix(chain, shown[begin:end]) {
		p.t.Errorf("served: %s\nin the API: %s", shown, chain)
	}
}
