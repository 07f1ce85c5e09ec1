package chaos

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/certctl/certctl/deploy/local"
)

// web is an nginx on the node of the first agent, and the target that it is.
type web struct {
	nginx   *local.Nginx
	address string
	target  string
	folder  string // of its places
}

// serveNginx starts an nginx and makes it a target.
func (s *stand) serveNginx(ctx context.Context) (*web, error) {
	port, err := local.FreePort()
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(s.Dir, "nginx") // the agents' policies allow it
	w := &web{
		nginx:   &local.Nginx{Dir: dir, Config: local.NginxConfig(dir, filepath.Join(dir, "tls", "*", "current", "*.conf"))},
		address: local.Loopback(port), target: "web", folder: filepath.Join(dir, "tls"),
	}
	if err := w.nginx.Start(ctx); err != nil {
		return nil, err
	}
	s.Stack.Push(w.nginx)
	settings, err := local.NginxTarget(w.nginx, w.address)
	if err != nil {
		return nil, err
	}
	return w, s.addTarget(ctx, w.target, "nginx", settings)
}

// addTarget makes a target of the first agent.
func (s *stand) addTarget(ctx context.Context, name, kind string, settings map[string]any) error {
	return s.load.call(ctx, http.MethodPost, "/api/v1/targets", map[string]any{
		"name": name, "agent": s.Agents[0].AgentName, "kind": kind, "settings": settings,
	}, nil)
}

// served is the fingerprint of the leaf that nginx serves for a name, or why
// there is none.
func (w *web) served(ctx context.Context, name string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	dialer := tls.Dialer{Config: &tls.Config{ServerName: name, InsecureSkipVerify: true}} //nolint:gosec // fingerprints are compared
	conn, err := dialer.DialContext(ctx, "tcp", w.address)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	state := conn.(*tls.Conn).ConnectionState()
	sum := sha256.Sum256(state.PeerCertificates[0].Raw)
	return hex.EncodeToString(sum[:]), nil
}

// settles is served once it is what it should be, or after ten seconds: nginx's
// workers of before a reload answer for some moments more.
func (w *web) settles(ctx context.Context, name, want string) (now string, err error) {
	deadline := time.NewTimer(10 * time.Second)
	defer deadline.Stop()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		if now, err = w.served(ctx, name); now == want {
			return now, err
		}
		select {
		case <-ticker.C:
		case <-deadline.C:
			return now, err
		}
	}
}

// nodeFault is something that goes wrong on a node while it installs.
type nodeFault struct {
	about  string
	breaks func() error
	heals  func() error
	down   bool // nothing is served meanwhile
}

// breakNode lets the renewal of a certificate meet each fault. The old leaf must
// be served, the reason be told, nothing be left behind, and the new leaf be
// served once the cause is gone.
func breakNode(ctx context.Context, s *stand) error {
	folder := filepath.Join(s.Dir, "nginx", "tls")
	if err := os.MkdirAll(folder, 0o755); err != nil { //nolint:gosec // what the agent would make
		return err
	}
	if err := syscall.Mount("certctl-chaos", folder, "tmpfs", 0, "size=512k,mode=0755"); err != nil {
		return fmt.Errorf("mount a small file system, which needs root: %w", err)
	}
	s.Stack.Push(mount(folder))
	web, err := s.serveNginx(ctx)
	if err != nil {
		return err
	}
	name, err := s.load.submitTo(ctx, web.target, web.folder)
	if err != nil {
		return err
	}
	if err := s.load.within(ctx, name); err != nil {
		return err
	}
	faults := nodeFaults(ctx, web)
	for range s.times(3, 1) {
		for _, i := range s.random.Perm(len(faults)) {
			if err := s.meets(ctx, web, name, faults[i]); err != nil {
				return fmt.Errorf("%s: %w", faults[i].about, err)
			}
		}
	}
	return nil
}

// mount is a file system that ends with the fleet.
type mount string

// Name is the name used in messages.
func (m mount) Name() string { return "mount at " + string(m) }

// Done is never closed: a mount does not end by itself.
func (m mount) Done() <-chan struct{} { return nil }

// Stop takes it away, also from under those who still use it.
func (m mount) Stop(context.Context) error { return syscall.Unmount(string(m), syscall.MNT_DETACH) }

func nodeFaults(ctx context.Context, web *web) []nodeFault {
	filler := filepath.Join(web.folder, ".filler")
	remount := func(flags uintptr) func() error {
		return func() error { return syscall.Mount("", web.folder, "", syscall.MS_REMOUNT|flags, "size=512k") }
	}
	signal := func(sig syscall.Signal) func() error {
		return func() error { return syscall.Kill(web.nginx.PID(), sig) }
	}
	return []nodeFault{
		{about: "the disk is full", breaks: func() error { return fill(filler) }, heals: func() error { return os.Remove(filler) }},
		{about: "the target's folder is read-only", breaks: remount(syscall.MS_RDONLY), heals: remount(0)},
		{about: "nginx hangs in its reload", breaks: signal(syscall.SIGSTOP), heals: signal(syscall.SIGCONT)},
		{
			about: "nginx does not come back", down: true,
			breaks: func() error { web.nginx.Kill(); return nil }, heals: func() error { return web.nginx.Start(ctx) },
		},
	}
}

// fill writes until there is no room.
func fill(path string) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	for size := 64 << 10; size > 0; {
		if _, err := file.Write(make([]byte, size)); err != nil {
			size /= 2
		}
	}
	return file.Close()
}

// meets lets one renewal meet one fault.
func (s *stand) meets(ctx context.Context, web *web, name string, f nodeFault) error {
	host := name + ".example.com"
	old, err := web.served(ctx, host)
	if err != nil {
		return err
	}
	s.fault("%s", f.about)
	if err := f.breaks(); err != nil {
		return err
	}
	s.load.renews(name)
	if err := s.load.call(ctx, http.MethodPost, "/api/v1/certificates/"+name+"/renew", map[string]any{}, nil); err != nil {
		return err
	}
	failed, err := s.failedDeployment(ctx, name)
	if err != nil {
		return err
	}
	s.logf("the API says: %s, %s: %s", failed.State, failed.Reason, failed.Message)
	if now, err := web.served(ctx, host); !f.down && now != old {
		s.problem("%s: %s is served and not the old leaf (%v)", f.about, now, err)
	}
	if err := f.heals(); err != nil {
		return err
	}
	if now, err := web.settles(ctx, host, old); now != old {
		s.problem("%s: afterwards %s is served and not the old leaf (%v)", f.about, now, err)
	}
	if err := s.noTemporaryFiles(web.folder); err != nil {
		return err
	}
	return s.heals(ctx, web, name, failed)
}

// heals asks for a deployment to be tried again, instead of waiting for its due
// time, and waits until the newest leaf is served.
func (s *stand) heals(ctx context.Context, web *web, name string, failed deployment) error {
	healed := time.Now()
	if err := s.load.call(ctx, http.MethodPost, "/api/v1/deployments/"+failed.ID+"/retry", nil, nil); err != nil {
		return err
	}
	if err := s.load.within(ctx, name); err != nil {
		return err
	}
	s.report.recoveries = append(s.report.recoveries, time.Since(healed))
	var list struct {
		Items []version `json:"items"`
	}
	if err := s.load.call(ctx, http.MethodGet, "/api/v1/certificates/"+name+"/versions", nil, &list); err != nil {
		return err
	}
	if now, err := web.settles(ctx, name+".example.com", list.Items[0].Fingerprint); now != list.Items[0].Fingerprint {
		s.problem("%s is served and not the newest, %s (%v)", now, list.Items[0].Fingerprint, err)
	}
	return nil
}

// deployment is what is read of one.
type deployment struct {
	ID      string `json:"id"`
	State   string `json:"state"`
	Reason  string `json:"reason"`
	Message string `json:"message"`
}

// failedDeployment waits until the newest deployment of a certificate is known to
// have failed, with its reason.
func (s *stand) failedDeployment(ctx context.Context, name string) (failed deployment, err error) {
	var list struct {
		Items []deployment `json:"items"`
	}
	found := s.await(ctx, time.Minute, func() bool {
		if err = s.load.call(ctx, http.MethodGet, "/api/v1/certificates/"+name+"/deployments", nil, &list); err != nil {
			return false
		}
		for _, d := range list.Items {
			if d.State == "rolled_back" || d.State == "failed" {
				failed = d
				return d.Message != ""
			}
		}
		return false
	})
	if !found && err == nil {
		err = fmt.Errorf("no deployment of %s is known to have failed, with a reason: %+v", name, list.Items)
	}
	return failed, err
}

// noTemporaryFiles notes what an interrupted installation has left.
func (s *stand) noTemporaryFiles(folder string) error {
	return filepath.WalkDir(folder, func(path string, _ fs.DirEntry, err error) error {
		if os.IsNotExist(err) {
			return nil // it was tidied away meanwhile
		}
		if name := filepath.Base(path); strings.HasSuffix(name, ".tmp") || strings.HasSuffix(name, ".new") {
			s.problem("%s was left behind", path)
		}
		return err
	})
}
