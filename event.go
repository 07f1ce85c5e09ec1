package certctl

import (
	"encoding/json"
	"time"
)

// Aggregate is the kind of object that an event is about.
type Aggregate string

const (
	AggregateCertificate Aggregate = "certificate"
	AggregateAgent       Aggregate = "agent"
	AggregateTarget      Aggregate = "target"
	AggregateIssuer      Aggregate = "issuer"
	AggregateProfile     Aggregate = "profile"
	AggregatePolicy      Aggregate = "renewal_policy"
	AggregateAccess      Aggregate = "access" // principals, keys, tokens, refused requests
	AggregateSystem      Aggregate = "system"
)

// Event says who did what to which object, with what outcome. It is written in
// the transaction of the change that it announces, never changed, and is both
// what downstream automation replays and the audit log. Data holds ids, names,
// times, serials, fingerprints and error codes only: free text, settings and
// CSRs are fetched from the API, where roles apply.
type Event struct {
	ID        ID              `json:"id"`
	Time      time.Time       `json:"time"`
	Team      string          `json:"team"`
	Aggregate Aggregate       `json:"aggregate"`
	Object    ID              `json:"object"`
	Sequence  int64           `json:"sequence"` // per object, from 1, without gaps
	Name      EventName       `json:"name"`
	Actor     string          `json:"actor"` // the principal's name
	ActorKind PrincipalKind   `json:"actor_kind"`
	Outcome   string          `json:"outcome"` // success, failure, denied
	RequestID string          `json:"request_id,omitempty"`
	Trace     string          `json:"-"`
	Data      json.RawMessage `json:"data"`
	Encoded   []byte          `json:"-"` // what Canonical returns, where Seal has made it
}

// EventName is an event's stable name, past tense.
type EventName string

const (
	EventCertificateCreated    EventName = "certificate_created"
	EventCertificateUpdated    EventName = "certificate_updated"
	EventCertificateArchived   EventName = "certificate_archived"
	EventCertificatePaused     EventName = "certificate_paused"
	EventCertificateRedeployed EventName = "certificate_redeployed"
	EventCertificateRolledBack EventName = "certificate_rolled_back"
	EventCertificateResumed    EventName = "certificate_resumed"
	EventCertificateBound      EventName = "certificate_bound"
	EventCertificateUnbound    EventName = "certificate_unbound"
	EventOrderCreated          EventName = "order_created"
	EventOrderAwaitingCSR      EventName = "order_awaiting_csr"
	EventOrderReady            EventName = "order_ready"
	EventOrderDelayed          EventName = "order_delayed" // an attempt failed, or a wait began
	EventOrderRefused          EventName = "order_refused"
	EventOrderCancelled        EventName = "order_cancelled"
	EventCertificateIssued     EventName = "certificate_issued"
	EventCertificateImported   EventName = "certificate_imported"
	EventVersionOrphaned       EventName = "version_orphaned"
	EventVersionRevoked        EventName = "version_revoked"
	EventRevocationConfirmed   EventName = "revocation_confirmed"
	EventDeploymentVerified    EventName = "deployment_verified"
	EventDeploymentInstalled   EventName = "deployment_installed"
	EventDeploymentRolled      EventName = "deployment_rolled_back"
	EventDeploymentDrifted     EventName = "deployment_drifted" // somebody changed the files
	EventDeploymentFailed      EventName = "deployment_failed"
	EventAgentEnrolled         EventName = "agent_enrolled"
	EventAgentApproved         EventName = "agent_approved"
	EventAgentConflict         EventName = "agent_conflict"
	EventAgentResolved         EventName = "agent_conflict_resolved"
	EventAgentRetired          EventName = "agent_retired"
	EventTargetCreated         EventName = "target_created"
	EventTargetUpdated         EventName = "target_updated"
	EventTargetArchived        EventName = "target_archived"
	EventIssuerCreated         EventName = "issuer_created"
	EventIssuerUpdated         EventName = "issuer_updated"
	EventIssuerArchived        EventName = "issuer_archived"
	EventAuthorityCreated      EventName = "authority_created"
	EventAuthorityActivated    EventName = "authority_activated"
	EventProfileCreated        EventName = "profile_created"
	EventProfileUpdated        EventName = "profile_updated"
	EventProfileArchived       EventName = "profile_archived"
	EventPolicyCreated         EventName = "renewal_policy_created"
	EventPolicyUpdated         EventName = "renewal_policy_updated"
	EventPolicyArchived        EventName = "renewal_policy_archived"
	EventPrincipalCreated      EventName = "principal_created"
	EventPrincipalUpdated      EventName = "principal_updated"
	EventAPIKeyCreated         EventName = "api_key_created"
	EventAPIKeyRevoked         EventName = "api_key_revoked"
	EventJoinTokenCreated      EventName = "join_token_created"
	EventJoinTokenRevoked      EventName = "join_token_revoked"
	EventReaderCreated         EventName = "reader_created"
	EventReaderRevoked         EventName = "reader_revoked"
	EventRequestDenied         EventName = "request_denied"
	EventReportDenied          EventName = "report_denied" // a statement whose signature or holder was wrong
	EventDeadLettered          EventName = "dead_lettered"
	EventDeadLetterReplayed    EventName = "dead_letter_replayed"
	EventDeadLetterDiscarded   EventName = "dead_letter_discarded"
	EventSystemStarted         EventName = "system_started"
	EventFreezeCreated         EventName = "freeze_created"
	EventFreezeEnded           EventName = "freeze_ended"
	EventIssuerDown            EventName = "issuer_down"
	EventIssuerUp              EventName = "issuer_up"
	EventOrderSwitched         EventName = "order_issuer_switched"
	EventIssuerPaused          EventName = "issuer_paused"
	EventIssuerResumed         EventName = "issuer_resumed"
)

const (
	EventRevocationWaiting   EventName = "revocation_waiting" // until the version is replaced
	EventRevocationCancelled EventName = "revocation_cancelled"
)

// Events of the platform's own keeping.
const (
	EventEventsDropped EventName = "events_dropped" // old ones, after their retention
)

// AggregateRollout is that of mass changes.
const AggregateRollout Aggregate = "rollout"

const (
	EventRolloutCreated   EventName = "rollout_created"
	EventRolloutWave      EventName = "rollout_wave_started"
	EventRolloutHalted    EventName = "rollout_halted"
	EventRolloutStopped   EventName = "rollout_stopped"
	EventRolloutResumed   EventName = "rollout_resumed"
	EventRolloutCompleted EventName = "rollout_completed"
	EventRolloutCancelled EventName = "rollout_cancelled"
)

// Of shared keys.
const (
	EventKeyRefused EventName = "key_refused" // a member would not seal it for another one
)

const (
	EventGuardHeld     EventName = "guard_held"     // a change would have too much re-issued at once
	EventGuardReleased EventName = "guard_released" // by a person
	EventGuardEased    EventName = "guard_eased"    // it holds nothing any more
)

// Outcomes of an event.
const (
	OutcomeSuccess = "success"
	OutcomeFailure = "failure"
	OutcomeDenied  = "denied"
)

// Canonical returns the bytes that are stored, hashed and published: the
// event's JSON with its fields in declaration order.
func (e Event) Canonical() ([]byte, error) {
	if e.Encoded != nil {
		return e.Encoded, nil
	}
	b, err := json.Marshal(e)
	if err != nil {
		return nil, Wrap(Internal, err, "the event %s cannot be encoded", e.Name)
	}
	return b, nil
}

// Seal returns what Canonical does, and keeps it for whoever publishes the event:
// it must not be changed any more.
func (e *Event) Seal() ([]byte, error) {
	b, err := e.Canonical()
	e.Encoded = b
	return b, err
}

// EventFilter selects events; zero fields select all.
type EventFilter struct {
	After     ID // exclusive: Last-Event-ID
	Team      string
	Aggregate Aggregate
	Object    ID
	Name      EventName
	Actor     string
	Since     time.Time
	Until     time.Time
	Limit     int
	Newest    bool // newest first
}

// What a CA says about the time of a renewal (ARI).
const (
	EventRenewalMoved        EventName = "renewal_moved"
	EventCertificateRecalled EventName = "certificate_recalled" // its CA wants it replaced at once
)
