package certctl

import (
	"slices"
	"time"
)

// PrincipalKind says what kind of actor a principal is.
type PrincipalKind string

const (
	PrincipalUser     PrincipalKind = "user"
	PrincipalService  PrincipalKind = "service"
	PrincipalAgent    PrincipalKind = "agent"
	PrincipalProtocol PrincipalKind = "protocol"
	PrincipalSystem   PrincipalKind = "system"
)

// Role is a named row of permitted verbs.
type Role string

const (
	RoleViewer        Role = "viewer"
	RoleOperator      Role = "operator"
	RoleAdmin         Role = "admin"
	RoleAuditor       Role = "auditor"
	RoleAgentEnroller Role = "agent-enroller"
)

// Roles lists every role.
var Roles = []Role{RoleViewer, RoleOperator, RoleAdmin, RoleAuditor, RoleAgentEnroller}

// Principal is who acts: a user, a service, an agent, a protocol account, or
// the system itself.
type Principal struct {
	ID         ID
	Kind       PrincipalKind
	Name       string
	Team       string // the team it belongs to; admins of the default team see all
	Roles      []Role
	DisabledAt time.Time
}

// APIKey is a bearer credential of a principal. The key itself is shown once
// and stored as a SHA-256 hash.
type APIKey struct {
	ID         ID
	Principal  Ref
	Name       string
	Prefix     string // first characters, to tell keys apart
	CreatedAt  time.Time
	ExpiresAt  time.Time
	LastUsedAt time.Time
	RevokedAt  time.Time
}

// Verb is what somebody wants to do to an object.
type Verb string

const (
	VerbRead   Verb = "read"
	VerbCreate Verb = "create"
	VerbUpdate Verb = "update"
	VerbDelete Verb = "delete"
	VerbIssue  Verb = "issue"  // submit, renew, send a CSR
	VerbRevoke Verb = "revoke" // revoke
	VerbEnroll Verb = "enroll" // make join tokens, approve agents
	VerbRetire Verb = "retire"
	VerbAudit  Verb = "audit" // read the event log as a whole
)

// ObjectKind is a kind of object that authorisation knows.
type ObjectKind string

const (
	ObjectCertificate   ObjectKind = "certificate"
	ObjectAgent         ObjectKind = "agent"
	ObjectTarget        ObjectKind = "target"
	ObjectIssuer        ObjectKind = "issuer"
	ObjectProfile       ObjectKind = "profile"
	ObjectRenewalPolicy ObjectKind = "renewal_policy"
	ObjectJoinToken     ObjectKind = "join_token"
	ObjectAPIKey        ObjectKind = "api_key"
	ObjectPrincipal     ObjectKind = "principal"
	ObjectEvent         ObjectKind = "event"
	ObjectDeadLetter    ObjectKind = "dead_letter"
	ObjectSystem        ObjectKind = "system"
	ObjectFreeze        ObjectKind = "freeze"
)

// Object is what authorisation may look at.
type Object struct {
	Kind   ObjectKind
	Team   string
	Owner  string
	Labels map[string]string
}

// permissions are the roles as rows of verbs, per kind of object; the entry for
// "" holds for every kind without one of its own.
var permissions = map[Role]map[ObjectKind][]Verb{
	RoleViewer:  {"": {VerbRead}, ObjectAPIKey: nil, ObjectPrincipal: nil, ObjectJoinToken: nil},
	RoleAuditor: {"": {VerbRead}, ObjectEvent: {VerbRead, VerbAudit}},
	RoleOperator: {
		"":                {VerbRead},
		ObjectCertificate: {VerbRead, VerbCreate, VerbUpdate, VerbDelete, VerbIssue, VerbRevoke},
		ObjectTarget:      {VerbRead, VerbCreate, VerbUpdate, VerbDelete},
		ObjectAgent:       {VerbRead, VerbUpdate},
		ObjectDeadLetter:  {VerbRead, VerbUpdate, VerbDelete},
		ObjectFreeze:      {VerbRead, VerbCreate, VerbDelete},
		ObjectChannel:     {VerbRead, VerbCreate, VerbUpdate, VerbDelete},
		ObjectAPIKey:      nil, ObjectPrincipal: nil, ObjectJoinToken: {VerbRead},
	},
	RoleAgentEnroller: {ObjectAgent: {VerbRead, VerbEnroll}, ObjectJoinToken: {VerbRead, VerbCreate, VerbEnroll, VerbDelete}},
}

// Allowed is the one authorisation decision: may p do verb to object? Every
// entry point, and every object that a request names, passes through it.
func Allowed(p Principal, verb Verb, object Object) bool {
	if !p.DisabledAt.IsZero() {
		return false
	}
	if object.Team != "" && p.Team != "" && p.Team != object.Team {
		return false
	}
	for _, role := range p.Roles {
		if role == RoleAdmin {
			return true
		}
		verbs, own := permissions[role][object.Kind]
		if !own {
			verbs = permissions[role][""]
		}
		if slices.Contains(verbs, verb) {
			return true
		}
	}
	return false
}

// Authorize returns nil or a Denied error that says which role is missing.
func Authorize(p Principal, verb Verb, object Object) error {
	if Allowed(p, verb, object) {
		return nil
	}
	return Errorf(Denied, "%s may not %s this %s", p.Name, verb, object.Kind).
		WithRemedy("ask an admin of team %q for a role that may", object.Team)
}

// DefaultTeam owns every object that names no other.
const DefaultTeam = "default"

// Actor is on whose behalf a change is made: the principal, and what ties the
// change to the request that caused it.
type Actor struct {
	Principal Principal
	RequestID string
	Trace     string // W3C traceparent, or empty
}

// SystemActor acts when nobody asked: sweeps, dispatch, start-up.
func SystemActor(role string) Actor {
	return Actor{Principal: Principal{Kind: PrincipalSystem, Name: "system/" + role, Roles: []Role{RoleAdmin}}}
}
