package store

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"

	"github.com/certctl/certctl"
	"github.com/jackc/pgx/v5"
)

// Names of what a request that names nothing gets.
const (
	defaultProfile = "server"
	defaultPolicy  = "default"
)

// planSubmissions checks requests against everything that they refer to.
func (t *tx) planSubmissions(ctx context.Context, subs []*submission) error {
	for _, team := range teamsOf(subs) {
		var ours []*submission
		for _, sub := range subs {
			if sub.Team == team {
				ours = append(ours, sub)
			}
		}
		id, name, err := t.ownerTeam(ctx, team)
		if certctl.ErrorCode(err) == certctl.Invalid {
			for _, sub := range ours {
				sub.err = err
			}
			continue
		}
		if err != nil {
			return err
		}
		refs, err := t.gather(ctx, name, ours)
		if err != nil {
			return err
		}
		for _, sub := range ours {
			sub.teamID, sub.team = id, name
			sub.err = t.plan(sub, refs)
		}
	}
	return nil
}

func teamsOf(subs []*submission) []string {
	var teams []string
	for _, sub := range subs {
		if !slices.Contains(teams, sub.Team) {
			teams = append(teams, sub.Team)
		}
	}
	return teams
}

// gathered is everything that the requests of a team refer to.
type gathered struct {
	profiles, policies, issuers, targets map[string]found
	profileBodies                        map[certctl.ID]profileRef
	boundTargets                         map[certctl.ID]boundTarget
	blocked                              map[certctl.Digest]string
	limits                               map[certctl.ID]certctl.Issuer
}

// gather looks up what requests refer to, each kind at once, and keeps all of it
// from being archived meanwhile.
func (t *tx) gather(ctx context.Context, team string, subs []*submission) (*gathered, error) {
	profiles, policies, issuers, targets := map[string]bool{}, map[string]bool{}, map[string]bool{}, map[string]bool{}
	var spkis []certctl.Digest
	for _, sub := range subs {
		sub.Profile, sub.RenewalPolicy = orElse(sub.Profile, defaultProfile), orElse(sub.RenewalPolicy, defaultPolicy)
		profiles[sub.Profile], policies[sub.RenewalPolicy] = true, true
		for _, issuer := range sub.Issuers {
			issuers[issuer] = true
		}
		for _, binding := range sub.Bindings {
			targets[binding.Target] = true
		}
		if sub.CSR != nil {
			spkis = append(spkis, sub.CSR.SPKI)
		}
	}
	var err error
	g := &gathered{}
	for _, kind := range []struct {
		kind certctl.ObjectKind
		refs map[string]bool
		to   *map[string]found
	}{
		{certctl.ObjectProfile, profiles, &g.profiles},
		{certctl.ObjectRenewalPolicy, policies, &g.policies},
		{certctl.ObjectIssuer, issuers, &g.issuers},
		{certctl.ObjectTarget, targets, &g.targets},
	} {
		if len(kind.refs) == 0 {
			continue
		}
		if *kind.to, err = t.find(ctx, referring, kind.kind, t.scope(team), sortedRefs(kind.refs)...); err != nil {
			return nil, err
		}
	}
	if g.profileBodies, err = t.profileRefs(ctx, g.profiles); err != nil {
		return nil, err
	}
	if g.boundTargets, err = t.withAgents(ctx, g.targets); err != nil {
		return nil, err
	}
	if g.limits, err = t.issuerLimits(ctx, foundIDs(g.issuers)); err != nil {
		return nil, err
	}
	g.blocked, err = t.blockedKeys(ctx, spkis)
	return g, err
}

func orElse(value, otherwise string) string {
	if value == "" {
		return otherwise
	}
	return value
}

func sortedRefs(set map[string]bool) []string {
	refs := make([]string, 0, len(set))
	for ref := range set {
		refs = append(refs, ref)
	}
	slices.Sort(refs)
	return refs
}

func (t *tx) profileRefs(ctx context.Context, all map[string]found) (map[certctl.ID]profileRef, error) {
	profiles, err := t.profilesByID(ctx, foundIDs(all))
	refs := make(map[certctl.ID]profileRef, len(profiles))
	for id, profile := range profiles {
		encoded, err := json.Marshal(snapshotOf(profile))
		if err != nil {
			return nil, err
		}
		refs[id] = profileRef{profile, string(encoded)}
	}
	return refs, err
}

// withAgents adds to targets the agents that they are on.
func (t *tx) withAgents(ctx context.Context, all map[string]found) (map[certctl.ID]boundTarget, error) {
	bound := map[certctl.ID]boundTarget{}
	if len(all) == 0 {
		return bound, nil
	}
	byID := make(map[certctl.ID]found, len(all))
	for _, f := range all {
		byID[f.id] = f
	}
	rows, err := t.Query(ctx, `
		select target.id, agent.id, agent.name, agent.state from target join agent on agent.id = target.agent_id
		where target.id = any($1)`, foundIDs(all))
	if err != nil {
		return nil, err
	}
	var id certctl.ID
	var b boundTarget
	_, err = pgx.ForEachRow(rows, []any{&id, &b.agent, &b.agentName, &b.agentState}, func() error {
		b.found = byID[id]
		bound[id] = b
		return nil
	})
	return bound, err
}

func foundIDs(all map[string]found) []certctl.ID {
	set := make(map[certctl.ID]bool, len(all))
	for _, f := range all {
		set[f.id] = true
	}
	return keysOf(set)
}

// blockedKeys returns which of the keys must never be certified again, and why.
func (t *tx) blockedKeys(ctx context.Context, spkis []certctl.Digest) (map[certctl.Digest]string, error) {
	blocked := map[certctl.Digest]string{}
	if len(spkis) == 0 {
		return blocked, nil
	}
	rows, err := t.Query(ctx, `select spki, reason from blocked_key where spki = any($1)`, spkis)
	if err != nil {
		return nil, err
	}
	var spki certctl.Digest
	var reason string
	_, err = pgx.ForEachRow(rows, []any{&spki, &reason}, func() error {
		blocked[spki] = reason
		return nil
	})
	return blocked, err
}

// plan checks one request and fills in what it leaves out. The error carries
// every field that is wrong.
func (t *tx) plan(sub *submission, g *gathered) error {
	own := certctl.Object{Kind: certctl.ObjectCertificate, Team: sub.team, Owner: sub.Owner, Labels: sub.Labels}
	if err := certctl.Authorize(t.actor.Principal, certctl.VerbCreate, own); err != nil {
		return err
	}
	var bad certctl.FieldErrors
	bad.AddError("/name", certctl.CheckObjectName(sub.Name))
	bad.AddError("", certctl.CheckLabels(sub.Labels))
	planKeys(sub, &bad)
	names, err := sub.Names.Normalize()
	bad.AddError("", err)
	sub.Names = names
	if sub.Origin == "" {
		sub.Origin = certctl.OriginAPI
	}
	if err := t.planRefs(sub, g, &bad); err != nil {
		return err
	}
	planSharing(sub, g, &bad)
	if !sub.imported || len(sub.issuers) > 0 {
		bad.AddError("", sub.profile.CheckNames(sub.Names))
	}
	if sub.CSR != nil {
		bad.AddError("/csr", sub.profile.CheckKey(sub.CSR.Algorithm))
		if reason, blocked := g.blocked[sub.CSR.SPKI]; blocked {
			bad.Add("/csr", "%s", blockedKey(reason))
		}
	}
	if err := bad.Err(); err != nil {
		return err
	}
	sub.planHolders(t.now)
	sub.planStatus()
	return nil
}

func blockedKey(reason string) string {
	return fmt.Sprintf("this key is blocked (%s): make a new one", reason)
}

// planKeys settles where the private keys come from, and the names with it.
func planKeys(sub *submission, bad *certctl.FieldErrors) {
	switch {
	case sub.KeyMode == "" && sub.CSR != nil:
		sub.KeyMode = certctl.KeyModeCSR
	case sub.KeyMode == "":
		sub.KeyMode = certctl.KeyModeAgent
	}
	switch {
	case sub.KeyMode == certctl.KeyModeImported && !sub.imported:
		bad.Add("/key_mode", "imported keys come with the import of a certificate")
	case sub.KeyMode == certctl.KeyModeAgent && sub.CSR != nil:
		bad.Add("/csr", "with key mode agent, nodes make the keys and the requests")
	case !slices.Contains([]certctl.KeyMode{certctl.KeyModeAgent, certctl.KeyModeCSR, certctl.KeyModeImported}, sub.KeyMode):
		bad.Add("/key_mode", "must be agent, csr or imported")
	case sub.KeyMode == certctl.KeyModeCSR && len(sub.Bindings) > 0:
		bad.Add("/targets/0", "the client keeps its key, so there is nothing that a target could be given: use key mode agent")
	}
	if sub.CSR != nil && len(sub.Issuers) == 0 {
		bad.Add("/issuer", "a certificate request needs an issuer")
	}
	if sub.Sharing == certctl.SharingShared && sub.KeyMode == certctl.KeyModeCSR {
		bad.Add("/sharing", "the client holds the one key: no agent shares it")
	}
	if sub.CSR == nil || sub.CSR.Names.Len() == 0 {
		return
	}
	if sub.Names.Len() == 0 {
		sub.Names = sub.CSR.Names
	} else if names, err := sub.Names.Normalize(); err == nil && !names.Equal(sub.CSR.Names) {
		bad.Add("/csr", "it names %v, but the certificate is for %v", sub.CSR.Names.Strings(), names.Strings())
	}
}

// planRefs takes what the request refers to out of what was gathered. A
// reference that the actor may not use is an error of its own.
func (t *tx) planRefs(sub *submission, g *gathered, bad *certctl.FieldErrors) error {
	pick := func(all map[string]found, verb certctl.Verb, kind certctl.ObjectKind, field, ref string) (found, error) {
		f, err := t.referred(all, verb, kind, field, ref)
		if certctl.ErrorCode(err) == certctl.Invalid {
			bad.AddError("", err)
			return found{}, nil
		}
		return f, err
	}
	profile, err := pick(g.profiles, certctl.VerbRead, certctl.ObjectProfile, "/profile", sub.Profile)
	if err != nil {
		return err
	}
	sub.profile = g.profileBodies[profile.id]
	if sub.policy, err = pick(g.policies, certctl.VerbRead, certctl.ObjectRenewalPolicy, "/renewal_policy", sub.RenewalPolicy); err != nil {
		return err
	}
	for i, ref := range sub.Issuers {
		issuer, err := pick(g.issuers, certctl.VerbRead, certctl.ObjectIssuer, sub.issuerField(i), ref)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(sub.issuers, func(f found) bool { return f.id == issuer.id }) {
			bad.Add(sub.issuerField(i), "is given twice")
		}
		sub.issuers = append(sub.issuers, issuer)
	}
	for i, request := range sub.Bindings {
		field := "/targets/" + strconv.Itoa(i)
		target, err := pick(g.targets, certctl.VerbUpdate, certctl.ObjectTarget, field, request.Target)
		if err != nil {
			return err
		}
		binding, err := planBinding(request, sub.Name, g.boundTargets[target.id])
		bad.AddError(field, err)
		sub.bindings = append(sub.bindings, binding)
	}
	return nil
}

// planBinding fills in what a binding's request leaves out.
func planBinding(request certctl.BindingRequest, certificate string, target boundTarget) (plannedBinding, error) {
	b := plannedBinding{target: target, place: orElse(request.Place, certificate), slot: request.Slot}
	if b.slot == "" {
		b.slot = certctl.SlotDefault
	}
	var bad certctl.FieldErrors
	if err := certctl.CheckPlace(b.place); err != nil && request.Place != "" {
		bad.Add("/place", "%s", certctl.ErrorMessage(err))
	}
	if !slices.Contains([]certctl.Slot{certctl.SlotDefault, certctl.SlotRSA, certctl.SlotECDSA}, b.slot) {
		bad.Add("/slot", "must be default, rsa or ecdsa")
	}
	if target.agentState == certctl.AgentRetired {
		bad.Add("", "the agent %s of the target %s is retired", target.agentName, target.name)
	}
	return b, bad.Err()
}
