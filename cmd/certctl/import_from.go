package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/cmd/internal/movein"
)

// What has become of an account or a certificate.
const (
	moveMade    = "imported"
	moveWould   = "would import"
	moveThere   = "there"
	moveSkipped = "skipped"
	moveFailed  = "failed"
)

type certImportFromCmd struct {
	Client        string `arg:"" enum:"certbot,acme.sh,lego" help:"certbot, acme.sh or lego."`
	Dir           string `arg:"" help:"Its folder, such as /etc/letsencrypt." type:"path"`
	DryRun        bool   `help:"Print what would be done." env:"-"`
	Team          string `help:"Team that owns what is made." env:"-"`
	Profile       string `help:"Profile of the certificates." env:"-"`
	RenewalPolicy string `help:"Their renewal policy." env:"-"`
	Expired       bool   `help:"Also certificates that have ended." env:"-"`
	Directory     string `help:"URL of the CA's directory, which lego does not keep." env:"-" placeholder:"URL"`
	Account       string `help:"Which of several accounts, where the client does not say." env:"-"`
	CABundle      string `help:"PEM file with the roots of a private CA's server." env:"-" placeholder:"FILE" name:"ca-bundle"`
	Private       bool   `help:"The CA is in a private network." env:"-" name:"allow-private-networks"`
}

// mover is one run of the command.
type mover struct {
	certImportFromCmd
	ctx    context.Context
	client *client
	bundle string
	items  []any
	toDo   []string
	usable map[string]bool // issuers that are there
	failed bool
}

func (c certImportFromCmd) Run(s *session) error {
	found, err := movein.Read(c.Client, c.Dir, movein.Options{Directory: c.Directory, Account: c.Account})
	if err != nil {
		return err
	}
	client, ctx, cancel, err := s.connect()
	if err != nil {
		return err
	}
	defer cancel()
	m := &mover{certImportFromCmd: c, ctx: ctx, client: client, usable: map[string]bool{}}
	if c.CABundle != "" {
		pem, err := os.ReadFile(c.CABundle)
		if err != nil {
			return certctl.Wrap(certctl.Invalid, err, "the file %s cannot be read", c.CABundle)
		}
		m.bundle = string(pem)
	}
	for _, problem := range found.Problems {
		m.note("", problem.What, moveFailed, problem.Why)
	}
	if err := m.move(movein.PlanOf(c.Client, found)); err != nil {
		return err
	}
	if err := m.show(s); err != nil {
		return err
	}
	if m.failed {
		return certctl.Errorf(certctl.Unavailable, "not everything is imported: see the lines that say %s", moveFailed).
			WithRemedy("correct what they name and run this again: what is there already is left alone")
	}
	return nil
}

// move makes what is not there yet.
func (m *mover) move(plan movein.Plan) error {
	for _, issuer := range plan.Issuers {
		if err := m.issuer(issuer); err != nil {
			return err
		}
	}
	for _, certificate := range plan.Imports {
		if err := m.certificate(certificate); err != nil {
			return err
		}
	}
	return nil
}

func (m *mover) note(kind, name, action, text string) {
	m.items = append(m.items, object{"kind": kind, "name": name, "action": action, "note": text})
	m.failed = m.failed || action == moveFailed
}

// issuer makes one of an account. One of that name is left alone, if it is at the
// same server.
func (m *mover) issuer(i *movein.Issuer) error {
	there, err := m.get(issuersPath, i.Name)
	switch {
	case err != nil:
		return err
	case there != nil && directoryOf(there) != i.Account.Directory && directoryOf(there) != movein.ShortName(i.Account.Directory):
		m.note("issuer", i.Name, moveFailed, "there is one of that name at another server: rename it")
		return nil
	case there != nil:
		m.note("issuer", i.Name, moveThere, "")
	case m.DryRun:
		m.note("issuer", i.Name, moveWould, "the account "+i.Account.ID+" at "+i.Account.Directory)
	default:
		body := object{"name": i.Name, "kind": "acme", "settings": m.settings(i), "secrets": object{certctl.SecretAccountKey: string(i.Account.Key)}}
		setText(body, "team", m.Team)
		if failed, err := m.post(issuersPath, body); failed != "" || err != nil {
			m.note("issuer", i.Name, moveFailed, failed)
			return err
		}
		m.note("issuer", i.Name, moveMade, "the account "+i.Account.ID+" at "+i.Account.Directory)
	}
	m.usable[i.Name] = true
	if there == nil {
		m.toDo = append(m.toDo, i.ToDo...)
	}
	return nil
}

func (m *mover) settings(i *movein.Issuer) object {
	settings := object{"directory": i.Account.Directory, "terms_of_service_agreed": true, "challenges": i.Rules}
	set(settings, "contact", i.Account.Contact)
	setText(settings, "preferred_chain", i.Chain)
	setText(settings, "ca_bundle", m.bundle)
	if m.Private {
		settings["allow_private_networks"] = true
	}
	return settings
}

// certificate takes one in. One of that name, and a leaf that is known under
// another, is left alone.
func (m *mover) certificate(c *movein.Import) error {
	there, err := m.get(certificatesPath, c.Name)
	switch {
	case err != nil:
		return err
	case there != nil:
		m.note("certificate", c.Name, moveThere, "")
		return nil
	case !m.usable[c.Issuer]:
		m.note("certificate", c.Name, moveFailed, "its issuer "+c.Issuer+" is not there")
		return nil
	case !m.Expired && !c.NotAfter.After(time.Now()):
		m.note("certificate", c.Name, moveSkipped, "it has ended: --expired takes it and has it renewed at once")
		return nil
	case m.DryRun:
		m.note("certificate", c.Name, moveWould, "renewed by "+c.Issuer)
	default:
		body := object{
			"name": c.Name, "certificate": c.Chain, "private_key": string(c.Key), "issuer": c.Issuer, "issued_by_issuer": true,
		}
		setText(body, "team", m.Team)
		setText(body, "profile", m.Profile)
		setText(body, "renewal_policy", m.RenewalPolicy)
		failed, err := m.post(certificatesPath+"/import", body)
		if err != nil {
			return err
		}
		if failed != "" {
			m.note("certificate", c.Name, moveFailed, failed)
			return nil
		}
		m.note("certificate", c.Name, moveMade, "renewed by "+c.Issuer)
	}
	m.toDo = append(m.toDo, "install it where it is used, and have it renewed there: certctl certificates bind "+c.Name+" TARGET")
	m.toDo = append(m.toDo, c.ToDo...)
	if c.Hook != "" {
		m.toDo = append(m.toDo, m.Client+" ran a hook after each renewal of "+c.Name+": a target reloads its daemon itself; do what else the hook did another way")
	}
	return nil
}

// get reads an object; nil: there is none.
func (m *mover) get(collection, name string) (object, error) {
	answer, err := m.client.call(m.ctx, http.MethodGet, item(collection, name), nil, nil)
	var failure *apiError
	if errors.As(err, &failure) && failure.Status == http.StatusNotFound {
		return nil, nil
	}
	return answer, err
}

// post makes an object. What the server refuses is the sentence that it says; the
// others are tried nevertheless.
func (m *mover) post(path string, body object) (refusal string, err error) {
	_, err = m.client.call(m.ctx, http.MethodPost, path, nil, body)
	var failure *apiError
	if errors.As(err, &failure) && slices.Contains([]int{http.StatusConflict, http.StatusUnprocessableEntity, http.StatusBadRequest}, failure.Status) {
		return failure.Detail, nil
	}
	return "", err
}

func directoryOf(issuer object) string { return cell(issuer, "settings.directory") }

// stop is how each client is kept from renewing. It is printed and never done.
var stop = map[string]string{
	movein.Certbot: "keep certbot from renewing: systemctl disable --now certbot.timer (snap.certbot.renew.timer of a snap; without systemd remove /etc/cron.d/certbot)",
	movein.AcmeSh:  "keep acme.sh from renewing: acme.sh --uninstall-cronjob",
	movein.Lego:    "keep lego from renewing: remove its line with crontab -e, or disable the timer that runs it",
}

// show prints what was done, and what is left for a person.
func (m *mover) show(s *session) error {
	if len(m.toDo) > 0 {
		m.toDo = append(m.toDo, "renewals make keys as the profile says: certctl profiles list", stop[m.Client])
	}
	if s.globals.Output != "table" {
		return s.showOne(object{"items": m.items, "to_do": m.toDo})
	}
	if err := s.show(m.items, columns{"kind", "name", "action", "note"}); err != nil {
		return err
	}
	if len(m.toDo) > 0 {
		fmt.Fprintln(s.out, "\nStill to do:")
	}
	for _, line := range m.toDo {
		fmt.Fprintln(s.out, " -", line)
	}
	return nil
}
