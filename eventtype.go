package certctl

// EventType says what an event is about.
type EventType struct {
	Name  EventName
	Title string // what happened, in words
}

// Aggregates lists every kind of object that events are about.
var Aggregates = []Aggregate{
	AggregateCertificate, AggregateAgent, AggregateTarget, AggregateIssuer, AggregateProfile, AggregatePolicy,
	AggregateRollout, AggregateChannel, AggregateAccess, AggregateSystem,
}

// EventTypes lists every event, in the order of docs/events.md.
var EventTypes = []EventType{
	{EventCertificateCreated, "certificate requested"},
	{EventCertificateUpdated, "certificate changed"},
	{EventCertificateImported, "certificate imported"},
	{EventCertificateBound, "certificate bound to a target"},
	{EventCertificateUnbound, "certificate unbound from a target"},
	{EventCertificatePaused, "certificate paused"},
	{EventCertificateResumed, "certificate resumed"},
	{EventCertificateRedeployed, "certificate is installed once more"},
	{EventCertificateRolledBack, "certificate rolled back to an earlier leaf"},
	{EventCertificateArchived, "certificate archived"},
	{EventCertificateExpiring, "certificate expires soon"},
	{EventCertificateIssued, "certificate issued"},
	{EventCertificateRecalled, "the CA wants the certificate replaced at once"},
	{EventRenewalMoved, "the CA has moved the renewal"},
	{EventRecordMissing, "a validation record is not published as it should be"},
	{EventRecordSettled, "a validation record is in order, or not needed any more"},
	{EventRecordExpiring, "a validation record ends soon"},
	{EventTestRequested, "test of a certificate requested"},
	{EventCertificateTested, "certificate could be issued: its test has passed"},
	{EventTestFailed, "certificate could not be issued: its test has failed"},

	{EventOrderCreated, "order created"},
	{EventOrderAwaitingCSR, "order waits for its CSR"},
	{EventOrderReady, "order ready for its CA"},
	{EventOrderDelayed, "order delayed"},
	{EventOrderSwitched, "order goes to another issuer"},
	{EventOrderRefused, "order refused"},
	{EventOrderCancelled, "order cancelled"},

	{EventVersionOrphaned, "a leaf was issued that nobody waits for"},
	{EventVersionRecovered, "a leaf was found again after a restore"},
	{EventVersionRevoked, "leaf revoked"},
	{EventRevocationConfirmed, "revocation confirmed by the CA"},
	{EventRevocationWaiting, "revocation waits for the replacement"},
	{EventRevocationCancelled, "revocation cancelled"},

	{EventDeploymentVerified, "new leaf verified as served"},
	{EventDeploymentInstalled, "new leaf installed"},
	{EventDeploymentRolled, "installation rolled back"},
	{EventDeploymentFailed, "installation failed"},
	{EventDeploymentDrifted, "installed files were changed by somebody"},

	{EventAgentEnrolled, "agent enrolled"},
	{EventAgentApproved, "agent approved"},
	{EventAgentConflict, "two machines claim to be one agent"},
	{EventAgentResolved, "conflict of an agent resolved"},
	{EventAgentRetired, "agent retired"},
	{EventKeyErasureRequested, "erasure of a compromised key requested"},
	{EventKeyErasureDelayed, "erasure of a compromised key delayed"},
	{EventKeyErased, "compromised key erased"},
	{EventKeyRefused, "a node refused to seal a shared key for another one"},

	{EventTargetCreated, "target created"},
	{EventTargetUpdated, "target changed"},
	{EventTargetArchived, "target archived"},
	{EventTargetTestRequested, "test of a target requested"},
	{EventTargetTested, "target tested by its agent"},

	{EventIssuerCreated, "issuer created"},
	{EventIssuerUpdated, "issuer changed"},
	{EventIssuerArchived, "issuer archived"},
	{EventIssuerPaused, "issuer paused"},
	{EventIssuerResumed, "issuer resumed"},
	{EventIssuerDown, "issuer does not answer"},
	{EventIssuerUp, "issuer answers again"},
	{EventIssuerAccount, "account registered at a CA"},
	{EventAuthorityCreated, "CA certificate made"},
	{EventAuthorityActivated, "CA certificate begins to sign"},
	{EventAuthorityRetired, "CA certificate retired"},

	{EventProfileCreated, "profile created"},
	{EventProfileUpdated, "profile changed"},
	{EventProfileArchived, "profile archived"},
	{EventPolicyCreated, "renewal policy created"},
	{EventPolicyUpdated, "renewal policy changed"},
	{EventPolicyArchived, "renewal policy archived"},

	{EventRolloutCreated, "rollout created"},
	{EventRolloutWave, "wave of a rollout started"},
	{EventRolloutHalted, "rollout halted: too much of a wave failed"},
	{EventRolloutStopped, "rollout stopped"},
	{EventRolloutResumed, "rollout resumed"},
	{EventRolloutCompleted, "rollout completed"},
	{EventRolloutCancelled, "rollout cancelled"},
	{EventGuardHeld, "a change would have too much re-issued at once: it is held"},
	{EventGuardReleased, "held change released"},
	{EventGuardEased, "nothing is held any more"},
	{EventFreezeCreated, "freeze created"},
	{EventFreezeEnded, "freeze ended"},

	{EventPrincipalCreated, "principal created"},
	{EventPrincipalUpdated, "principal changed"},
	{EventAPIKeyCreated, "API key created"},
	{EventAPIKeyRevoked, "API key revoked"},
	{EventJoinTokenCreated, "join token created"},
	{EventJoinTokenRevoked, "join token revoked"},
	{EventReaderCreated, "reader of the event stream created"},
	{EventReaderRevoked, "reader of the event stream revoked"},
	{EventRequestDenied, "request denied"},
	{EventReportDenied, "statement of an agent denied"},

	{EventChannelCreated, "channel created"},
	{EventChannelUpdated, "channel changed"},
	{EventChannelArchived, "channel archived"},
	{EventChannelTested, "test of a channel"},
	{EventNotificationFailed, "notification given up"},
	{EventNotificationReplayed, "notification replayed"},
	{EventNotificationDiscarded, "notification discarded"},

	{EventDeadLettered, "work given up"},
	{EventDeadLetterReplayed, "given-up work replayed"},
	{EventDeadLetterDiscarded, "given-up work discarded"},
	{EventSystemStarted, "installation started"},
	{EventRecoveryBegun, "recovery after a restore begun"},
	{EventRecoveryFinished, "recovery after a restore finished"},
	{EventEventsDropped, "old events dropped"},
}

// Title says what happened, in words.
func (n EventName) Title() string {
	for _, t := range EventTypes {
		if t.Name == n {
			return t.Title
		}
	}
	return string(n)
}

// Known reports whether there is such an event.
func (n EventName) Known() bool { return n.Title() != string(n) }
