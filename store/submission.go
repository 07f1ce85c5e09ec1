package store

import (
	"slices"
	"strconv"
	"time"

	"github.com/certctl/certctl"
)

// submission is one request on its way into the tables. Its Names, Labels and
// defaults are filled in as it is planned; err is set when it cannot be met.
type submission struct {
	certctl.CertificateRequest
	id       certctl.ID
	teamID   certctl.ID
	team     string
	profile  profileRef
	policy   found
	issuers  []found
	bindings []plannedBinding
	holders  []plannedHolder
	imported bool       // its leaf exists: no order
	holder   certctl.ID // of an import, when its key is sealed for it
	status   statusRow
	orders   []certctl.Order // as they were made
	request  *certctl.Actor  // who asked, where several requests share the transaction
	err      error

	sharingChosen bool // the request says it
}

// profileRef is a profile with its encoding, which orders keep as a snapshot.
type profileRef struct {
	certctl.Profile
	encoded string
}

// plannedBinding is a binding that is to be made.
type plannedBinding struct {
	id     certctl.ID
	target boundTarget
	place  string
	slot   certctl.Slot
	holder certctl.ID
}

// boundTarget is a target with the agent that it is on.
type boundTarget struct {
	found
	agent      certctl.ID
	agentName  string
	agentState certctl.AgentState
}

// plannedHolder is a holder that is to be made.
type plannedHolder struct {
	id        certctl.ID
	kind      certctl.HolderKind
	agent     certctl.ID
	agentName string
	members   []certctl.ID // of a shared one
}

// field names the request's reference to its i-th issuer.
func (s *submission) issuerField(i int) string {
	if len(s.Issuers) == 1 {
		return "/issuer"
	}
	return "/issuers/" + strconv.Itoa(i)
}

func (s *submission) issuerIDs() []certctl.ID {
	ids := make([]certctl.ID, len(s.issuers))
	for i, issuer := range s.issuers {
		ids[i] = issuer.id
	}
	return ids
}

// urgency of the first orders: a person waits, unless the request is one of many.
func (s *submission) urgency() certctl.Urgency {
	if s.Origin == certctl.OriginBulk {
		return certctl.UrgencyBulk
	}
	return certctl.UrgencyNow
}

// planHolders decides who will hold the keys: the client, or each agent that a
// target of the certificate is on, or all of them together.
func (s *submission) planHolders(now time.Time) {
	if s.KeyMode != certctl.KeyModeAgent {
		s.holders = []plannedHolder{{id: s.holder, kind: certctl.HolderClient}}
		if s.holder.IsZero() {
			s.holders[0].id = certctl.NewID(now)
		}
	}
	for i := range s.bindings {
		b := &s.bindings[i]
		b.id = certctl.NewID(now).WithOrder(i)
		if s.KeyMode != certctl.KeyModeAgent {
			b.holder = s.holders[0].id
			continue
		}
		if s.Sharing == certctl.SharingShared {
			b.holder = s.joinHolder(b.target.agent, now)
			continue
		}
		for _, h := range s.holders {
			if h.agent == b.target.agent {
				b.holder = h.id
			}
		}
		if b.holder.IsZero() {
			b.holder = certctl.NewID(now).WithOrder(i)
			s.holders = append(s.holders, plannedHolder{id: b.holder, kind: certctl.HolderAgent, agent: b.target.agent, agentName: b.target.agentName})
		}
	}
}

// joinHolder makes an agent a member of the shared holder, and returns that.
func (s *submission) joinHolder(agent certctl.ID, now time.Time) certctl.ID {
	if len(s.holders) == 0 {
		s.holders = []plannedHolder{{id: certctl.NewID(now), kind: certctl.HolderShared}}
	}
	h := &s.holders[0]
	if !slices.Contains(h.members, agent) {
		h.members = append(h.members, agent)
	}
	return h.id
}

// planStatus computes the status that the certificate begins with.
func (s *submission) planStatus() {
	s.status = statusRow{facts: certctl.CertificateFacts{Monitored: len(s.issuers) == 0}, holders: len(s.holders)}
	if len(s.issuers) > 0 && len(s.holders) > 0 {
		last := s.holders[len(s.holders)-1]
		state, wait := startOf(s.profile.Approval, s.CSR != nil, last.kind)
		s.status.order, s.status.wait, s.status.awaiting = string(state), string(wait), "agent "+last.agentName
		if last.kind == certctl.HolderShared {
			s.status.awaiting = "one of its agents"
		}
	}
	s.status.decide()
}

// result is the certificate as it was recorded.
func (s *submission) result(now time.Time) certctl.Certificate {
	c := certctl.Certificate{
		ID: s.id, Team: s.team, Name: s.Name, Names: s.Names, Revision: 1,
		Profile:       certctl.Ref{ID: s.profile.ID, Name: s.profile.Name},
		RenewalPolicy: s.policy.ref(), KeyMode: s.KeyMode, Sharing: s.Sharing, Owner: s.Owner, Labels: s.Labels,
		Status: s.status.status, StatusReason: s.status.reason, CreatedAt: now, UpdatedAt: now,
	}
	for _, issuer := range s.issuers {
		c.Issuers = append(c.Issuers, issuer.ref())
	}
	for _, b := range s.bindings {
		c.Bindings = append(c.Bindings, certctl.Binding{ID: b.id, Certificate: s.id, Target: b.target.ref(), Agent: b.target.agent,
			Place: b.place, Slot: b.slot, CreatedAt: now})
	}
	return c
}

// submitted is the certificate as it was recorded, with what belongs to it.
func (s *submission) submitted(now time.Time) certctl.Submitted {
	made := certctl.Submitted{Certificate: s.result(now), Orders: s.orders}
	for _, h := range s.holders {
		holder := certctl.Holder{ID: h.id, Certificate: s.id, Kind: h.kind}
		if !h.agent.IsZero() {
			holder.Members = []certctl.Ref{{ID: h.agent, Name: h.agentName}}
		}
		made.Shared = made.Shared || h.kind == certctl.HolderShared
		made.Holders = append(made.Holders, certctl.HolderVersion{Holder: holder})
	}
	return made
}

// eventData is what the event of its creation says.
func (s *submission) eventData() map[string]any {
	targets := make([]certctl.ID, len(s.bindings))
	for i, b := range s.bindings {
		targets[i] = b.target.id
	}
	return map[string]any{
		"certificate": s.id, "name": s.Name, "revision": 1, "issuers": s.issuerIDs(),
		"profile": s.profile.ID, "key_mode": s.KeyMode, "targets": targets,
	}
}
