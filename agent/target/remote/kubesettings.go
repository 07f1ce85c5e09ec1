package remote

import (
	"encoding/json"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/agent/target"
	"github.com/certctl/certctl/agent/target/remote/kube"
)

var kubernetesSecretKind = target.Descriptor{
	Kind: "kubernetes-secret", Title: "Secrets of Kubernetes", Hitless: true, Rollback: true, Probe: true, Parse: parseKubernetesSecret,
}

// Bounds of wait_seconds.
const (
	defaultWait = 120
	maxWait     = 600
)

// kubernetesSettings are the settings of a target of kind kubernetes-secret: a
// namespace. Each place is the Secret of its name.
type kubernetesSettings struct {
	// Server is https://host:port; default: that of the cluster that the proxy runs in.
	Server string `json:"server,omitempty"`
	// CAFile and TokenFile are files of this node; default: those of its pod's account.
	CAFile    string `json:"ca_file,omitempty"`
	TokenFile string `json:"token_file,omitempty"`
	Namespace string `json:"namespace"`
	// Adopt lets a Secret be overwritten that another has made.
	Adopt bool `json:"adopt,omitempty"`
	// CA also writes ca.crt: the last certificate of the chain.
	CA bool `json:"ca,omitempty"`
	// Listen are addresses to probe from this node; without one "loaded" is how it is verified.
	Listen []string `json:"listen,omitempty"`
	// WaitSeconds is how long what serves the Secret may take to notice.
	WaitSeconds int `json:"wait_seconds,omitempty"`
}

// label and subdomain are what Kubernetes calls so (RFC 1123).
var (
	label     = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)
	subdomain = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)
)

// kubernetesOpener is what the settings say, with the server's address.
type kubernetesOpener struct {
	kubernetesSettings
	address string
}

func parseKubernetesSecret(raw json.RawMessage) (target.Opener, error) {
	k := &kubernetesOpener{kubernetesSettings: kubernetesSettings{
		Server: "https://kubernetes.default.svc", CAFile: kube.AccountDir + "/ca.crt", TokenFile: kube.AccountDir + "/token", WaitSeconds: defaultWait,
	}}
	if err := decode(raw, &k.kubernetesSettings); err != nil {
		return nil, err
	}
	var bad certctl.FieldErrors
	server, err := url.Parse(k.Server)
	if err == nil && server.Scheme == "https" && server.User == nil && server.RawQuery == "" && server.Fragment == "" {
		k.address = hostPort(server.Host, "443")
	}
	if k.address == "" {
		bad.Add("/settings/server", "must be https://host:port")
	}
	checkPath(&bad, "ca_file", k.CAFile)
	checkPath(&bad, "token_file", k.TokenFile)
	if !label.MatchString(k.Namespace) {
		bad.Add("/settings/namespace", "must be the name of a namespace")
	}
	checkListen(&bad, k.Listen)
	if k.WaitSeconds < 1 || k.WaitSeconds > maxWait {
		bad.Add("/settings/wait_seconds", "must be from 1 to %d", maxWait)
	}
	return k, bad.Err()
}

// Open holds the settings against the node's policy. Kubernetes is asked nothing yet.
func (k *kubernetesOpener) Open(name string, env target.Env) (target.Opened, error) {
	if err := allow(env.Policy, k.address, k.CAFile, k.TokenFile); err != nil {
		return nil, err
	}
	if env.StateDir == "" {
		return nil, certctl.Errorf(certctl.Internal, "there is no folder for the state of targets")
	}
	if err := os.MkdirAll(env.StateDir, 0o700); err != nil {
		return nil, certctl.Wrap(certctl.Internal, err, "the folder for the state of targets cannot be made")
	}
	what := certctl.DigestOf([]byte(k.address + "\n" + k.Namespace)).String()[:32]
	return &secrets{
		name: name, settings: k.kubernetesSettings, env: env, state: filepath.Join(env.StateDir, what),
		api:   &kube.Client{Server: k.Server, CAFile: k.CAFile, TokenFile: k.TokenFile, Namespace: k.Namespace},
		probe: target.Prober{Addresses: k.Listen, Patience: time.Duration(k.WaitSeconds) * time.Second},
	}, nil
}
