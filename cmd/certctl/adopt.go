package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/certctl/certctl"
	"go.yaml.in/yaml/v3"
)

// targetAdoptCmd makes what certctl-agent inspect has proposed.
type targetAdoptCmd struct {
	fileArg
	Issuer     string `help:"Issues the certificates that are not known here." env:"-"`
	Profile    string `help:"Their profile." env:"-"`
	RSAProfile string `help:"The profile of those with RSA keys beside others." name:"rsa-profile" env:"-"`
	Policy     string `help:"Their renewal policy." name:"renewal-policy" env:"-"`
	DryRun     bool   `help:"Only say what would be done." name:"dry-run" env:"-"`
}

// proposal is what is read of certctl-agent inspect; see agent/discover.
type proposal struct {
	Targets []struct {
		Name, Agent, Kind string
		Settings          object
		Places            []proposedPlace
	}
	Problems []struct{ Where, Message, Remedy string }
}

type proposedPlace struct {
	Place, Slot, Serial, Fingerprint, Certificate string
	Names                                         []string
}

func (c targetAdoptCmd) Run(s *session) error {
	content, err := readInput(c.File)
	if err != nil {
		return err
	}
	var p proposal
	if err := yaml.Unmarshal(content, &p); err != nil {
		return certctl.Wrap(certctl.Invalid, err, "%s is not what certctl-agent inspect prints", c.File)
	}
	if len(p.Targets) == 0 {
		return certctl.Errorf(certctl.Invalid, "%s proposes no target", c.File).WithRemedy("certctl-agent inspect nginx, on the node, prints one")
	}
	client, ctx, cancel, err := s.connect()
	if err != nil {
		return err
	}
	defer cancel()
	a := &adoption{targetAdoptCmd: c, session: s, client: client, ctx: ctx}
	for _, problem := range p.Problems {
		fmt.Fprintf(s.out, "not taken over: %s: %s\n", problem.Where, problem.Message)
	}
	for _, target := range p.Targets { // all is planned before anything is done
		if err := a.target(target.Name, object{"name": target.Name, "agent": target.Agent, "kind": target.Kind, "settings": target.Settings}); err != nil {
			return err
		}
	}
	for _, target := range p.Targets {
		for _, place := range target.Places {
			if err := a.plan(target.Name, place); err != nil {
				return err
			}
		}
	}
	if len(a.unknown) > 0 {
		return certctl.Errorf(certctl.Conflict, "nothing is known here of the certificates of %s", strings.Join(a.unknown, ", ")).
			WithRemedy("have them issued here: --issuer NAME, and --rsa-profile NAME for those with RSA keys beside others")
	}
	for _, step := range a.steps {
		if err := a.do(step); err != nil {
			return err
		}
	}
	return nil
}

// adoption is one run.
type adoption struct {
	targetAdoptCmd
	*session
	client  *client
	ctx     context.Context //nolint:containedctx // of this run
	unknown []string
	steps   []adoptStep
}

// adoptStep is a request with what it does.
type adoptStep struct {
	text, path string
	body       object
}

// plan finds the certificate of a place: the one whose leaf is served there, one of
// the place's name, or a new one.
func (a *adoption) plan(target string, p proposedPlace) error {
	name := p.Place
	if p.Slot == string(certctl.SlotRSA) {
		name += "-rsa"
	}
	known, id, err := a.served(p)
	if err == nil && id == "" {
		known, id, err = a.named(name, p.Names)
	}
	if err != nil {
		return err
	}
	binding := object{"target": target, "place": p.Place, "slot": p.Slot}
	if id != "" { // several teams may have a certificate of the name
		if bound, err := a.bound(id, target, p); err != nil || bound {
			return err
		}
		a.steps = append(a.steps, adoptStep{"bind " + known + " at " + p.Place, item(certificatesPath, id) + "/bindings", binding})
		return nil
	}
	profile := a.Profile
	if p.Slot == string(certctl.SlotRSA) {
		profile = a.RSAProfile
	}
	if a.Issuer == "" || p.Slot == string(certctl.SlotRSA) && profile == "" {
		a.unknown = append(a.unknown, p.Place)
		return nil
	}
	body := object{"name": name, "issuer": a.Issuer, "bindings": []any{binding}}
	setText(body, "profile", profile)
	setText(body, "renewal_policy", a.Policy)
	addNames(body, p.Names)
	a.steps = append(a.steps, adoptStep{"have " + name + " issued by " + a.Issuer, certificatesPath, body})
	return nil
}

// served is the certificate of which this very leaf is a version.
func (a *adoption) served(p proposedPlace) (name, id string, err error) {
	versions, err := a.client.list(a.ctx, "/api/v1/versions", params("serial", p.Serial), 10)
	if err != nil {
		return "", "", err
	}
	for _, version := range versions {
		if cell(version, "fingerprint_sha256") == p.Fingerprint {
			id = cell(version, "certificate")
			name, err = a.nameOf(id)
			return name, id, err
		}
	}
	return "", "", nil
}

// bound reports whether a certificate is at a place of a target already.
func (a *adoption) bound(id, target string, p proposedPlace) (bool, error) {
	certificate, err := a.client.call(a.ctx, http.MethodGet, item(certificatesPath, id), nil, nil)
	if err != nil {
		return false, err
	}
	bindings, _ := certificate["bindings"].([]any)
	for _, b := range bindings {
		if cell(b, "target.name") == target && cell(b, "place") == p.Place && cell(b, "slot") == p.Slot {
			fmt.Fprintf(a.out, "%s is bound at %s already\n", cell(certificate, "name"), p.Place)
			return true, nil
		}
	}
	return false, nil
}

func (a *adoption) nameOf(id string) (string, error) {
	certificate, err := a.client.call(a.ctx, http.MethodGet, item(certificatesPath, id), nil, nil)
	return cell(certificate, "name"), err
}

// named is a certificate of the name, if it is for the same names.
func (a *adoption) named(name string, names []string) (known, id string, err error) {
	certificate, err := a.client.call(a.ctx, http.MethodGet, item(certificatesPath, name), nil, nil)
	var failure *apiError
	switch {
	case errors.As(err, &failure) && failure.Status == http.StatusNotFound:
		return "", "", nil
	case err != nil:
		return "", "", err
	}
	want := object{}
	addNames(want, names)
	for field, list := range want {
		if have := cell(certificate, field); have != strings.Join(list.([]string), ",") { //nolint:forcetypeassert // addNames's own
			return "", "", certctl.Errorf(certctl.Conflict, "the certificate %s is for %s, and what is served for %s", name, have, strings.Join(names, ",")).
				WithRemedy("rename one of them: change the place in the proposal")
		}
	}
	return name, cell(certificate, "id"), nil
}

// target plans to make a target, unless there is one that is the same. One of the name
// may be another: names are given in order, and a daemon may have got addresses.
func (a *adoption) target(name string, body object) error {
	there, err := a.client.call(a.ctx, http.MethodGet, item(targetsPath, name), nil, nil)
	var failure *apiError
	switch {
	case errors.As(err, &failure) && failure.Status == http.StatusNotFound:
		a.steps = append(a.steps, adoptStep{"make the target " + name, targetsPath, body})
		return nil
	case err != nil:
		return err
	}
	for field, have := range map[string]any{"agent": cell(there, "agent.name"), "kind": there["kind"], "settings": there["settings"]} {
		same, err := sameJSON(have, body[field])
		if err != nil {
			return err
		}
		if !same {
			return certctl.Errorf(certctl.Conflict, "there is a target %s already, which differs in its %s from what is proposed: nothing was done", name, field).
				WithRemedy("compare it with: certctl targets get %s; give the proposed one another name, or update the one that is there", name)
		}
	}
	return nil
}

// sameJSON compares what came as JSON with what came as YAML.
func sameJSON(a, b any) (bool, error) {
	var texts [2][]byte
	for i, value := range []any{a, b} {
		text, err := json.Marshal(value)
		if err != nil {
			return false, certctl.Wrap(certctl.Invalid, err, "the settings of a target are not JSON")
		}
		texts[i] = text
	}
	return bytes.Equal(texts[0], texts[1]), nil
}

func (a *adoption) do(step adoptStep) error {
	if a.DryRun {
		fmt.Fprintln(a.out, "would", step.text)
		return nil
	}
	_, err := a.client.call(a.ctx, http.MethodPost, step.path, nil, step.body)
	if err != nil {
		return err
	}
	fmt.Fprintln(a.out, step.text)
	return nil
}

// addNames puts names into the fields of their types.
func addNames(body object, names []string) {
	for _, name := range names {
		field := "dns_names"
		switch {
		case strings.Contains(name, "://"):
			field = "uris"
		case strings.Contains(name, "@"):
			field = "email_addresses"
		case strings.Trim(name, "0123456789.") == "" || strings.Contains(name, ":"):
			field = "ip_addresses"
		}
		list, _ := body[field].([]string)
		body[field] = append(list, name)
	}
}
