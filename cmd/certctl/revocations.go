package main

import "net/http"

var revocationColumns = columns{"version", "CERTIFICATE=certificate.name", "serial", "reason", "state", "DUE=due_at", "message"}

// revoking says why something is revoked, and when it is replaced.
type revoking struct {
	Reason  string `help:"${enum}" default:"unspecified" env:"-" enum:"unspecified,keyCompromise,affiliationChanged,superseded,cessationOfOperation,privilegeWithdrawn"`
	Replace string `help:"before: revoke once the new leaf is served; after: revoke now and replace first in line; no: only revoke. Default: after for keyCompromise, before for superseded, no otherwise." env:"-" enum:",before,after,no" default:""`
}

func (r revoking) body() object {
	body := object{"reason": r.Reason}
	setText(body, "replace", r.Replace)
	return body
}

type certRevokeCmd struct {
	nameArg
	revoking
}

func (c certRevokeCmd) Run(s *session) error {
	return s.changeList(item(certificatesPath, c.Name)+"/revoke", c.body(), versionColumns)
}

type versionRevokeCmd struct {
	Version string `arg:"" optional:"" help:"Id of the version; without it, what the flags select."`
	revoking
	selecting
}

func (c versionRevokeCmd) Run(s *session) error {
	if c.Version != "" {
		return s.changeList(item("/api/v1/versions", c.Version)+"/revoke", c.revoking.body(), versionColumns)
	}
	return c.roll(s, "/api/v1/bulk/revoke", c.revoking.body())
}

type revocationsCmd struct {
	List   revocationListCmd   `cmd:"" help:"List revocations and where they stand."`
	Cancel revocationCancelCmd `cmd:"" help:"Cancel one that waits for the replacement of its version."`
}

const revocationsPath = "/api/v1/revocations"

type revocationListCmd struct {
	Certificate string `help:"Only of this certificate." env:"-"`
	State       string `help:"waiting, requested, sent, confirmed, failed, not_supported or cancelled." env:"-"`
	Limit       int    `help:"At most so many; 0 = all." env:"-" default:"100"`
}

func (c revocationListCmd) Run(s *session) error {
	return s.list(revocationsPath, params("certificate", c.Certificate, "state", c.State), c.Limit, revocationColumns)
}

type revocationCancelCmd struct {
	Version string `arg:"" help:"Id of the version."`
}

func (c revocationCancelCmd) Run(s *session) error {
	return s.change(http.MethodPost, item(revocationsPath, c.Version)+"/cancel", nil, waiting{})
}
