package main

import (
	"net/http"
)

var (
	orderColumns      = columns{"id", "state", "wait", "DUE=due_at", "origin", "message"}
	versionColumns    = columns{"id", "serial", "not_before", "not_after", "origin", "REVOKED=revoked_at", "REASON=revocation_reason"}
	deploymentColumns = columns{"id", "TARGET=target.name", "state", "reason", "tries", "DUE=due_at", "message"}
)

type ordersCmd struct {
	List   orderListCmd   `cmd:"" help:"List orders."`
	Get    orderGetCmd    `cmd:"" help:"Show one with its attempts."`
	Cancel orderCancelCmd `cmd:"" help:"Cancel one."`
}

type orderListCmd struct {
	Certificate string `help:"Only of this certificate." env:"-"`
	State       string `help:"Only in this state." env:"-"`
	Live        bool   `help:"Only unfinished ones." env:"-"`
	Limit       int    `help:"At most so many; 0 = all." env:"-" default:"100"`
}

func (c orderListCmd) Run(s *session) error {
	query := params("certificate", c.Certificate, "state", c.State)
	if c.Live {
		query.Set("live", "true")
	}
	return s.list("/api/v1/orders", query, c.Limit, orderColumns)
}

type orderGetCmd struct{ nameArg }

func (c orderGetCmd) Run(s *session) error { return s.getOrder(c.Name) }

type orderCancelCmd struct{ nameArg }

func (c orderCancelCmd) Run(s *session) error {
	return s.change(http.MethodPost, item("/api/v1/orders", c.Name)+"/cancel", nil, waiting{})
}

type versionsCmd struct {
	List   versionListCmd   `cmd:"" help:"List versions."`
	Get    versionGetCmd    `cmd:"" help:"Show one."`
	Revoke versionRevokeCmd `cmd:"" help:"Revoke one, or all that flags select."`
}

type versionListCmd struct {
	Certificate string `help:"Only of this certificate." env:"-"`
	Serial      string `help:"With this serial number, in any usual form." env:"-"`
	Limit       int    `help:"At most so many; 0 = all." env:"-" default:"100"`
}

func (c versionListCmd) Run(s *session) error {
	return s.list("/api/v1/versions", params("certificate", c.Certificate, "serial", c.Serial), c.Limit, versionColumns)
}

type versionGetCmd struct{ nameArg }

func (c versionGetCmd) Run(s *session) error { return s.get("/api/v1/versions", c.Name) }

type deploymentsCmd struct {
	List  deploymentListCmd  `cmd:"" help:"List deployments."`
	Retry deploymentRetryCmd `cmd:"" help:"Try one again now."`
}

type deploymentListCmd struct {
	Certificate string `help:"Only of this certificate." env:"-"`
	Target      string `help:"Only on this target." env:"-"`
	Agent       string `help:"Only on this agent." env:"-"`
	State       string `help:"Only in this state." env:"-"`
	Limit       int    `help:"At most so many; 0 = all." env:"-" default:"100"`
}

func (c deploymentListCmd) Run(s *session) error {
	query := params("certificate", c.Certificate, "target", c.Target, "agent", c.Agent, "state", c.State)
	return s.list("/api/v1/deployments", query, c.Limit, deploymentColumns)
}

type deploymentRetryCmd struct{ nameArg }

func (c deploymentRetryCmd) Run(s *session) error {
	return s.change(http.MethodPost, item("/api/v1/deployments", c.Name)+"/retry", nil, waiting{})
}

// Issuers, profiles and renewal policies are described by files: they have too
// many settings for flags, and belong under version control.
type (
	describedList   struct{}
	describedGet    struct{ nameArg }
	describedCreate struct{ fileArg }
	describedUpdate struct {
		nameArg
		fileArg
	}
	describedDelete struct{ nameArg }
)

// create posts the object in a file.
func (s *session) create(collection, file string) error {
	body, err := readObject(file)
	if err != nil {
		return err
	}
	return s.change(http.MethodPost, collection, body, waiting{})
}

// replace puts the object in a file.
func (s *session) replace(collection, name, file string) error {
	body, err := readObject(file)
	if err != nil {
		return err
	}
	return s.change(http.MethodPut, item(collection, name), body, waiting{})
}

type issuersCmd struct {
	List   issuerListCmd   `cmd:"" help:"List them."`
	Get    issuerGetCmd    `cmd:"" help:"Show one."`
	Create issuerCreateCmd `cmd:"" help:"Make one from a file."`
	Update issuerUpdateCmd `cmd:"" help:"Replace one's settings from a file."`
	Pause  issuerPauseCmd  `cmd:"" help:"Ask it for nothing; what is due waits."`
	Resume issuerResumeCmd `cmd:"" help:"Ask it again."`
	Delete issuerDeleteCmd `cmd:"" help:"Archive one that nothing uses."`
}

type (
	issuerListCmd   describedList
	issuerGetCmd    describedGet
	issuerUpdateCmd describedUpdate
	issuerPauseCmd  struct{ nameArg }
	issuerResumeCmd struct{ nameArg }
	issuerDeleteCmd describedDelete
)

const issuersPath = "/api/v1/issuers"

func (issuerListCmd) Run(s *session) error {
	return s.list(issuersPath, params(), 0, columns{"name", "kind", "trust", "health", "paused", "CREATED=created_at"})
}

func (c issuerPauseCmd) Run(s *session) error {
	return s.change(http.MethodPost, item(issuersPath, c.Name)+"/pause", nil, waiting{})
}

func (c issuerResumeCmd) Run(s *session) error {
	return s.change(http.MethodPost, item(issuersPath, c.Name)+"/resume", nil, waiting{})
}

func (c issuerGetCmd) Run(s *session) error { return s.get(issuersPath, c.Name) }

// issuerCreateCmd also takes the roots of a CA in one's own network from their file,
// so that the description need not repeat them.
type issuerCreateCmd struct {
	fileArg
	CABundle string `help:"PEM file with the roots of the CA's server: the setting ca_bundle." name:"ca-bundle" env:"-" placeholder:"FILE"`
	ifMissing
}

func (c issuerCreateCmd) Run(s *session) error {
	body, err := readObject(c.File)
	if err != nil {
		return err
	}
	if c.CABundle != "" {
		roots, err := readInput(c.CABundle)
		if err != nil {
			return err
		}
		settings, ok := body["settings"].(object)
		if !ok {
			settings = object{}
			body["settings"] = settings
		}
		settings["ca_bundle"] = string(roots)
	}
	name, _ := body["name"].(string)
	if there, err := c.exists(s, issuersPath, name); there || err != nil {
		return err
	}
	return s.change(http.MethodPost, issuersPath, body, waiting{})
}

func (c issuerUpdateCmd) Run(s *session) error { return s.replace(issuersPath, c.Name, c.File) }

func (c issuerDeleteCmd) Run(s *session) error { return s.remove(issuersPath, c.Name) }

type profilesCmd struct {
	List   profileListCmd   `cmd:"" help:"List them."`
	Get    profileGetCmd    `cmd:"" help:"Show one."`
	Create profileCreateCmd `cmd:"" help:"Make one from a file."`
	Update profileUpdateCmd `cmd:"" help:"Replace one's settings from a file."`
	Delete profileDeleteCmd `cmd:"" help:"Archive one that nothing uses."`
}

type (
	profileListCmd   describedList
	profileGetCmd    describedGet
	profileCreateCmd describedCreate
	profileUpdateCmd describedUpdate
	profileDeleteCmd describedDelete
)

const profilesPath = "/api/v1/profiles"

func (profileListCmd) Run(s *session) error {
	return s.list(profilesPath, params(), 0, columns{"name", "validity", "KEYS=key_algorithms", "USAGE=extended_key_usages", "description"})
}

func (c profileGetCmd) Run(s *session) error { return s.get(profilesPath, c.Name) }

func (c profileCreateCmd) Run(s *session) error { return s.create(profilesPath, c.File) }

func (c profileUpdateCmd) Run(s *session) error { return s.replace(profilesPath, c.Name, c.File) }

func (c profileDeleteCmd) Run(s *session) error { return s.remove(profilesPath, c.Name) }

type policiesCmd struct {
	List   policyListCmd   `cmd:"" help:"List them."`
	Get    policyGetCmd    `cmd:"" help:"Show one."`
	Create policyCreateCmd `cmd:"" help:"Make one from a file."`
	Update policyUpdateCmd `cmd:"" help:"Replace one's settings from a file."`
	Delete policyDeleteCmd `cmd:"" help:"Archive one that nothing uses."`
}

type (
	policyListCmd   describedList
	policyGetCmd    describedGet
	policyCreateCmd describedCreate
	policyUpdateCmd describedUpdate
	policyDeleteCmd describedDelete
)

const policiesPath = "/api/v1/renewal-policies"

func (policyListCmd) Run(s *session) error {
	return s.list(policiesPath, params(), 0, columns{"name", "auto_renew", "fraction", "before", "jitter", "description"})
}

func (c policyGetCmd) Run(s *session) error { return s.get(policiesPath, c.Name) }

func (c policyCreateCmd) Run(s *session) error { return s.create(policiesPath, c.File) }

func (c policyUpdateCmd) Run(s *session) error { return s.replace(policiesPath, c.Name, c.File) }

func (c policyDeleteCmd) Run(s *session) error { return s.remove(policiesPath, c.Name) }
