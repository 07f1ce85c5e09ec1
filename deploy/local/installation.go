package local

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
)

// Installation is a whole certctl on this machine: a private PostgreSQL, one
// server with all roles, one agent and an nginx that it manages. `./task up`,
// the end-to-end tests and the benchmarks run the same one.
//
// Its fields are read by Start; its methods belong to one goroutine.
type Installation struct {
	// Binaries is the folder with certctl-server and certctl-agent.
	Binaries string
	// Dir holds all state. It must be reachable for PostgreSQL's user.
	Dir string
	// Listen is the API's address; empty: a free loopback port, kept.
	Listen string
	// DatabaseURL is a PostgreSQL to use instead of a private one.
	DatabaseURL string
	// NATSURL is a NATS to use instead of the embedded one.
	NATSURL string
	// Durable is whether commits survive a crash of the machine.
	Durable bool
	// ServerEnv is added to the server's settings and wins.
	ServerEnv []string
	// AgentPolicy are lines that are added to the policy of each agent.
	AgentPolicy string

	Postgres *Postgres // nil with DatabaseURL
	Server   *Server
	Agent    *Agent
	Nginx    *Nginx
	API      *API // as the first admin

	stack Stack
	ports map[string]string
}

// Start starts everything that is not running and enrols the agent. When it
// fails, Stop ends what was started.
func (i *Installation) Start(ctx context.Context) error {
	if err := os.MkdirAll(i.Dir, 0o711); err != nil { // PostgreSQL's user passes through
		return fmt.Errorf("make the installation's folder: %w", err)
	}
	if err := i.choosePorts(); err != nil {
		return err
	}
	for _, start := range []func(context.Context) error{i.startDatabase, i.startServer, i.startNginx, i.startAgent} {
		if err := start(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Stop stops everything in reverse order.
func (i *Installation) Stop(ctx context.Context) error { return i.stack.Stop(ctx) }

// Wait returns nil when ctx is done, or says which part ended by itself.
func (i *Installation) Wait(ctx context.Context) error { return i.stack.Wait(ctx) }

// NginxAddress is where the managed nginx serves TLS.
func (i *Installation) NginxAddress() string { return i.ports["nginx"] }

// choosePorts gives each listener an address that later starts use again: it
// stands in configurations, and the one of the revocation lists in certificates.
func (i *Installation) choosePorts() error {
	i.ports = map[string]string{}
	for _, name := range []string{"api", "nats", "pki", "nginx"} {
		port, err := KeptPort(filepath.Join(i.Dir, "ports", name))
		if err != nil {
			return err
		}
		i.ports[name] = Loopback(port)
	}
	if i.Listen == "" {
		i.Listen = i.ports["api"]
	}
	return nil
}

func (i *Installation) startDatabase(ctx context.Context) error {
	if i.DatabaseURL != "" {
		return nil
	}
	const database = "certctl"
	i.Postgres = &Postgres{Databases: []string{database}, Dir: filepath.Join(i.Dir, "postgres"), Durable: i.Durable}
	if err := i.Postgres.Start(ctx); err != nil {
		return err
	}
	i.stack.Push(i.Postgres)
	i.DatabaseURL = i.Postgres.DSN(database)
	return nil
}

func (i *Installation) startServer(ctx context.Context) error {
	bus := "CERTCTL_NATS_LISTEN=" + i.ports["nats"]
	if i.NATSURL != "" {
		bus = "CERTCTL_NATS_URL=" + i.NATSURL
	}
	i.Server = &Server{
		Binary: filepath.Join(i.Binaries, "certctl-server"), Dir: filepath.Join(i.Dir, "server"),
		DatabaseURL: i.DatabaseURL, Listen: i.Listen,
		Env: append([]string{
			bus, "CERTCTL_PKI_LISTEN=" + i.ports["pki"], "CERTCTL_PKI_URL=http://" + i.ports["pki"],
			"CERTCTL_ADMIN_KEY_FILE=" + filepath.Join(i.Dir, "admin.key"), "CERTCTL_CA_FILE=" + filepath.Join(i.Dir, "ca.crt"),
		}, i.ServerEnv...),
		AdminKeyFile: filepath.Join(i.Dir, "admin.key"), CAFile: filepath.Join(i.Dir, "ca.crt"),
	}
	if err := i.Server.Start(ctx); err != nil {
		return err
	}
	i.stack.Push(i.Server)
	var err error
	i.API, err = i.Server.API()
	return err
}

func (i *Installation) startNginx(ctx context.Context) error {
	dir := filepath.Join(i.Dir, "nginx")
	i.Nginx = &Nginx{Dir: dir, Config: NginxConfig(dir, filepath.Join(dir, "tls", "*", "current", "*.conf"))}
	if err := i.Nginx.Start(ctx); err != nil {
		return err
	}
	i.stack.Push(i.Nginx)
	return nil
}

func (i *Installation) startAgent(ctx context.Context) error {
	agent, err := i.NewAgent("local")
	if err != nil {
		return err
	}
	i.Agent = agent
	if err := i.Enrol(ctx, agent); err != nil {
		return err
	}
	if err := agent.Start(ctx); err != nil {
		return err
	}
	i.stack.Push(agent)
	return nil
}

// NewAgent describes an agent whose policy lets it work on this installation's
// nginx and below its own folder.
func (i *Installation) NewAgent(name string) (*Agent, error) {
	dir := filepath.Join(i.Dir, "agent-"+name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the agent's folder: %w", err)
	}
	binary, err := FindNginx()
	if err != nil {
		return nil, err
	}
	nginx := filepath.Join(i.Dir, "nginx")
	policy := filepath.Join(dir, "policy.yaml")
	content := fmt.Sprintf("kinds: [nginx, files]\ndirectories: [%q, %q]\nconfig_roots: [%q]\ncommands:\n  - [%q, \"...\"]\n",
		filepath.Join(nginx, "tls"), filepath.Join(dir, "live"), nginx, binary)
	if err := os.WriteFile(policy, []byte(content+i.AgentPolicy), 0o600); err != nil {
		return nil, fmt.Errorf("write the agent's policy: %w", err)
	}
	return &Agent{Binary: filepath.Join(i.Binaries, "certctl-agent"), Dir: dir, AgentName: name, PolicyFile: policy}, nil
}

// Enrol makes an agent of a machine that is none yet.
func (i *Installation) Enrol(ctx context.Context, agent *Agent) error {
	enrolled, err := agent.Enrolled()
	if enrolled || err != nil {
		return err
	}
	var token struct {
		Token         string `json:"token"`
		CAFingerprint string `json:"ca_fingerprint"`
	}
	request := map[string]any{"uses": 1, "expires_in": "10m", "names": []string{agent.AgentName}}
	if err := i.API.Call(ctx, http.MethodPost, "/api/v1/agents/join-tokens", request, &token); err != nil {
		return err
	}
	return agent.Enrol(ctx, i.Server.URL(), token.Token, token.CAFingerprint)
}

// EnsureTarget makes the nginx a target of its agent, unless it is one.
func (i *Installation) EnsureTarget(ctx context.Context, name string) error {
	err := i.API.Call(ctx, http.MethodGet, "/api/v1/targets/"+name, nil, nil)
	if !IsStatus(err, http.StatusNotFound) {
		return err
	}
	settings, err := NginxTarget(i.Nginx, i.NginxAddress())
	if err != nil {
		return err
	}
	return i.API.Call(ctx, http.MethodPost, "/api/v1/targets", map[string]any{
		"name": name, "agent": i.Agent.AgentName, "kind": "nginx", "settings": settings,
	}, nil)
}

// IsStatus reports whether err is an answer of the API with this status.
func IsStatus(err error, status int) bool {
	var failure *StatusError
	return errors.As(err, &failure) && failure.Status == status
}
