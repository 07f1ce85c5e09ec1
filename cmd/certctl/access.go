package main

import (
	"net/http"
	"os"

	"github.com/certctl/certctl"
)

type agentsCmd struct {
	List    agentListCmd    `cmd:"" help:"List agents."`
	Get     agentGetCmd     `cmd:"" help:"Show one."`
	Approve agentApproveCmd `cmd:"" help:"Let one in that waits."`
	Resolve agentResolveCmd `cmd:"" help:"Say which machine is the right one after a conflict."`
	Retire  agentRetireCmd  `cmd:"" help:"Retire one for good; installed files stay."`
}

const agentsPath = "/api/v1/agents"

type agentListCmd struct {
	State    string `help:"pending, active, conflict or retired." env:"-"`
	Presence string `help:"online, offline or never." env:"-"`
}

func (c agentListCmd) Run(s *session) error {
	return s.list(agentsPath, params("state", c.State, "presence", c.Presence), 0,
		columns{"name", "state", "presence", "LAST CONTACT=last_contact", "version", "KINDS=capabilities", "reason"})
}

type agentGetCmd struct{ nameArg }

func (c agentGetCmd) Run(s *session) error { return s.get(agentsPath, c.Name) }

type agentApproveCmd struct{ nameArg }

func (c agentApproveCmd) Run(s *session) error {
	return s.change(http.MethodPost, item(agentsPath, c.Name)+"/approve", nil, waiting{})
}

type agentResolveCmd struct {
	nameArg
	MachineID string `help:"Machine id of the right one." required:"" env:"-"`
}

func (c agentResolveCmd) Run(s *session) error {
	return s.change(http.MethodPost, item(agentsPath, c.Name)+"/resolve", object{"machine_id": c.MachineID}, waiting{})
}

type agentRetireCmd struct {
	nameArg
	Force       bool `help:"Even when only it serves something." env:"-"`
	Compromised bool `help:"Its machine is in somebody else's hands: revoke what it has keys for, and replace these elsewhere." env:"-"`
}

func (c agentRetireCmd) Run(s *session) error {
	path := item(agentsPath, c.Name) + "/retire"
	switch {
	case c.Compromised:
		path += "?compromised=true"
	case c.Force:
		path += "?force=true"
	}
	return s.change(http.MethodPost, path, nil, waiting{})
}

type joinTokensCmd struct {
	List   tokenListCmd   `cmd:"" help:"List join tokens."`
	Create tokenCreateCmd `cmd:"" help:"Make one; it is shown this once."`
	Revoke tokenRevokeCmd `cmd:"" help:"Revoke one."`
}

const tokensPath = "/api/v1/agents/join-tokens"

type tokenListCmd struct{}

func (tokenListCmd) Run(s *session) error {
	return s.list(tokensPath, params(), 0, columns{"id", "prefix", "USES LEFT=uses_left", "EXPIRES=expires_at", "approve", "fleet", "names", "REVOKED=revoked_at"})
}

type tokenCreateCmd struct {
	Uses     int      `help:"How many machines may use it." default:"1" env:"-"`
	Expires  string   `help:"For how long." default:"1h" env:"-" name:"expires-in"`
	Names    []string `help:"Patterns that names must match." env:"-" sep:","`
	Networks []string `help:"Networks that machines must come from." env:"-" sep:","`
	Manual   bool     `help:"Each machine waits for approval." env:"-"`
	Replace  bool     `help:"An existing name may be taken over." env:"-"`
}

func (c tokenCreateCmd) Run(s *session) error {
	body := object{"uses": c.Uses, "expires_in": c.Expires, "replace": c.Replace, "approve": "auto"}
	if c.Manual {
		body["approve"] = "manual"
	}
	set(body, "names", c.Names)
	set(body, "networks", c.Networks)
	return s.change(http.MethodPost, tokensPath, body, waiting{})
}

type tokenRevokeCmd struct{ nameArg }

func (c tokenRevokeCmd) Run(s *session) error { return s.remove(tokensPath, c.Name) }

type principalsCmd struct {
	List    principalListCmd    `cmd:"" help:"List principals."`
	Create  principalCreateCmd  `cmd:"" help:"Make one."`
	Disable principalDisableCmd `cmd:"" help:"Disable one: its keys stop working."`
}

const principalsPath = "/api/v1/principals"

type principalListCmd struct{}

func (principalListCmd) Run(s *session) error {
	return s.list(principalsPath, params(), 0, columns{"name", "kind", "team", "roles", "DISABLED=disabled_at"})
}

type principalCreateCmd struct {
	nameArg
	Kind string   `help:"user or service." default:"service" enum:"user,service" env:"-"`
	Team string   `help:"Team that it belongs to; none: all." env:"-"`
	Role []string `help:"viewer, operator, admin, auditor or agent-enroller." required:"" env:"-" sep:","`
}

func (c principalCreateCmd) Run(s *session) error {
	body := object{"name": c.Name, "kind": c.Kind, "roles": c.Role}
	setText(body, "team", c.Team)
	return s.change(http.MethodPost, principalsPath, body, waiting{})
}

type principalDisableCmd struct{ nameArg }

func (c principalDisableCmd) Run(s *session) error {
	return s.change(http.MethodPatch, item(principalsPath, c.Name), object{"disabled": true}, waiting{})
}

type apiKeysCmd struct {
	List   keyListCmd   `cmd:"" help:"List keys."`
	Create keyCreateCmd `cmd:"" help:"Make one; it is shown this once."`
	Revoke keyRevokeCmd `cmd:"" help:"Revoke one."`
}

const keysPath = "/api/v1/api-keys"

type keyListCmd struct {
	Principal string `help:"Only of this principal." env:"-"`
}

func (c keyListCmd) Run(s *session) error {
	return s.list(keysPath, params("principal", c.Principal), 0, columns{"id", "PRINCIPAL=principal.name", "name", "prefix", "LAST USED=last_used_at", "EXPIRES=expires_at", "REVOKED=revoked_at"})
}

type keyCreateCmd struct {
	nameArg
	Principal string `help:"Whose key it is." required:"" env:"-"`
	Expires   string `help:"For how long, such as 90d; for ever if absent." env:"-" name:"expires-in"`
	KeyOut    string `help:"Write the key into this file instead of showing it." env:"-" placeholder:"FILE" name:"key-out"`
}

func (c keyCreateCmd) Run(s *session) error {
	body := object{"principal": c.Principal, "name": c.Name}
	setText(body, "expires_in", c.Expires)
	client, ctx, cancel, err := s.connect()
	if err != nil {
		return err
	}
	defer cancel()
	answer, err := client.call(ctx, http.MethodPost, keysPath, nil, body)
	if err != nil {
		return err
	}
	if c.KeyOut != "" {
		key, _ := answer["key"].(string)
		if err := os.WriteFile(c.KeyOut, []byte(key+"\n"), 0o600); err != nil {
			return certctl.Wrap(certctl.Invalid, err, "%s cannot be written; the key %v was made and should be revoked", c.KeyOut, answer["id"])
		}
		delete(answer, "key")
	}
	return s.showOne(answer)
}

type keyRevokeCmd struct{ nameArg }

func (c keyRevokeCmd) Run(s *session) error { return s.remove(keysPath, c.Name) }

type whoamiCmd struct{}

func (whoamiCmd) Run(s *session) error {
	client, ctx, cancel, err := s.connect()
	if err != nil {
		return err
	}
	defer cancel()
	answer, err := client.call(ctx, http.MethodGet, "/api/v1/whoami", nil, nil)
	if err != nil {
		return err
	}
	return s.showOne(answer)
}
