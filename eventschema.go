package certctl

import "strings"

// EventField is one of those that an event's data may hold.
type EventField struct {
	Name string
	Kind FieldKind
}

// FieldKind says what a field of an event's data is in JSON.
type FieldKind string

const (
	FieldID     FieldKind = "id"     // a UUID
	FieldIDs    FieldKind = "ids"    // a list of them
	FieldTime   FieldKind = "time"   // RFC 3339, UTC
	FieldNumber FieldKind = "number" // of things, or a share
	FieldFlag   FieldKind = "flag"   // true or false
	FieldText   FieldKind = "text"   // a name, a serial, a fingerprint, a code; an id that may be empty
	FieldTexts  FieldKind = "texts"  // a list of them
)

// About says which kinds of objects an event is about: one, but for what is told
// of the object whose work was given up.
func (n EventName) About() []Aggregate { return eventSchemas[n].about }

// Fields says what an event's data may hold. No field is always there: readers
// take what they find, and ignore what they do not know.
func (n EventName) Fields() []EventField {
	var fields []EventField
	for _, text := range strings.Fields(eventSchemas[n].fields) {
		name, kind, _ := strings.Cut(text, ":")
		fields = append(fields, EventField{name, FieldKind(kind)})
	}
	return fields
}

// eventSchema is what an event is about, and its fields as name:kind. Fields are
// added, and neither removed nor given another kind.
type eventSchema struct {
	about  []Aggregate
	fields string
}

var (
	ofCertificate = []Aggregate{AggregateCertificate}
	ofAgent       = []Aggregate{AggregateAgent}
	ofTarget      = []Aggregate{AggregateTarget}
	ofIssuer      = []Aggregate{AggregateIssuer}
	ofProfile     = []Aggregate{AggregateProfile}
	ofPolicy      = []Aggregate{AggregatePolicy}
	ofRollout     = []Aggregate{AggregateRollout}
	ofChannel     = []Aggregate{AggregateChannel}
	ofAccess      = []Aggregate{AggregateAccess}
	ofSystem      = []Aggregate{AggregateSystem}
)

var eventSchemas = map[EventName]eventSchema{
	EventCertificateCreated:    {ofCertificate, "certificate:id name:text issuers:ids key_mode:text profile:id revision:number targets:ids"},
	EventCertificateUpdated:    {ofCertificate, "certificate:id name:text changed:texts key_mode:text revision:number"},
	EventCertificateImported:   {ofCertificate, "certificate:id name:text fingerprint:text not_after:time serial:text version:id with_key:flag"},
	EventCertificateBound:      {ofCertificate, "certificate:id name:text place:text slot:text target:id"},
	EventCertificateUnbound:    {ofCertificate, "certificate:id name:text remove:flag target:id"},
	EventCertificatePaused:     {ofCertificate, "certificate:id name:text"},
	EventCertificateResumed:    {ofCertificate, "certificate:id name:text"},
	EventCertificateRedeployed: {ofCertificate, "certificate:id name:text targets:number"},
	EventCertificateRolledBack: {ofCertificate, "certificate:id name:text from:id holder:id serial:text to:id"},
	EventCertificateArchived:   {ofCertificate, "certificate:id name:text"},
	EventCertificateExpiring:   {ofCertificate, "certificate:id name:text holder:id not_after:time order:id serial:text threshold:text version:id wait:text"},
	EventCertificateIssued:     {ofCertificate, "certificate:id name:text authority:text fingerprint:text holder:id holder_kind:text issuer:id not_after:time order:id serial:text spki:text version:id"},
	EventCertificateRecalled:   {ofCertificate, "certificate:id name:text holder:id issuer:id renew_at:time serial:text version:id window_end:time window_start:time"},
	EventRenewalMoved:          {ofCertificate, "certificate:id name:text holder:id issuer:id renew_at:time serial:text version:id window_end:time window_start:time"},
	EventRecordMissing:         {ofCertificate, "certificate:id name:text issuer:id record:text state:text until:time"},
	EventRecordSettled:         {ofCertificate, "certificate:id name:text issuer:id record:text state:text until:time"},
	EventRecordExpiring:        {ofCertificate, "certificate:id name:text issuer:id record:text state:text threshold:text until:time"},
	EventTestRequested:         {ofCertificate, "certificate:id name:text issuer:id test:id"},
	EventCertificateTested:     {ofCertificate, "certificate:id name:text code:text issuer:id test:id"},
	EventTestFailed:            {ofCertificate, "certificate:id name:text code:text issuer:id test:id"},
	EventOrderCreated:          {ofCertificate, "certificate:id name:text holder:id issuer:id next_key_discarded:text order:id origin:text override:flag reason:text revision:number state:text"},
	EventOrderAwaitingCSR:      {ofCertificate, "certificate:id name:text approved:flag code:text holder:id order:id state:text"},
	EventOrderReady:            {ofCertificate, "certificate:id name:text approved:flag handed_over:flag holder:id order:id"},
	EventOrderDelayed:          {ofCertificate, "certificate:id name:text attempt:number code:text holder:id issuer:id order:id retry_at:time"},
	EventOrderSwitched:         {ofCertificate, "certificate:id name:text down_since:time from:id holder:id order:id to:id"},
	EventOrderRefused:          {ofCertificate, "certificate:id name:text attempt:number code:text holder:id issuer:id order:id"},
	EventOrderCancelled:        {ofCertificate, "certificate:id holder:id order:id state:text"},
	EventVersionOrphaned:       {ofCertificate, "certificate:id name:text authority:text fingerprint:text holder:id holder_kind:text issuer:id not_after:time order:id serial:text spki:text version:id"},
	EventVersionRecovered:      {ofCertificate, "certificate:id name:text agent:id binding:id fingerprint:text holder:id not_after:time serial:text version:id"},
	EventVersionRevoked:        {ofCertificate, "certificate:id authority:text fingerprint:text not_after:time reason:text serial:text spki:text version:id"},
	EventRevocationConfirmed:   {ofCertificate, "certificate:id fingerprint:text issuer:id reason:text serial:text state:text version:id"},
	EventRevocationWaiting:     {ofCertificate, "certificate:id fingerprint:text reason:text serial:text version:id"},
	EventRevocationCancelled:   {ofCertificate, "certificate:id fingerprint:text serial:text version:id"},
	EventDeploymentVerified:    {ofCertificate, "certificate:id name:text agent:id binding:id deployment:id fingerprint:text next_key:text target:id target_name:text version:id"},
	EventDeploymentInstalled:   {ofCertificate, "certificate:id name:text agent:id binding:id deployment:id fingerprint:text next_key:text target:id target_name:text version:id"},
	EventDeploymentRolled:      {ofCertificate, "certificate:id name:text agent:id binding:id code:text deployment:id fingerprint:text retry_at:time target:id target_name:text version:id"},
	EventDeploymentFailed:      {ofCertificate, "certificate:id name:text agent:id binding:id code:text deployment:id fingerprint:text retry_at:time target:id target_name:text version:id"},
	EventDeploymentDrifted:     {ofCertificate, "certificate:id name:text binding:id deployment:id target:id version:id"},
	EventAgentEnrolled:         {ofAgent, "name:text agent:id approved:flag replaced:flag token:id"},
	EventAgentApproved:         {ofAgent, "name:text agent:id"},
	EventAgentConflict:         {ofAgent, "name:text agent:id code:text"},
	EventAgentResolved:         {ofAgent, "name:text agent:id"},
	EventAgentRetired:          {ofAgent, "name:text agent:id certificates:number compromised:flag keys:number"},
	EventKeyErasureRequested:   {ofAgent, "name:text agent:id erasure:id spki:text"},
	EventKeyErasureDelayed:     {ofAgent, "name:text agent:id code:text erasure:id retry_at:time spki:text"},
	EventKeyErased:             {ofAgent, "name:text agent:id erasure:id spki:text"},
	EventKeyRefused:            {ofCertificate, "certificate:id name:text agent:id by:id code:text holder:id"},
	EventTargetCreated:         {ofTarget, "name:text agent:id kind:text"},
	EventTargetUpdated:         {ofTarget, "name:text revision:number"},
	EventTargetArchived:        {ofTarget, "name:text target:id"},
	EventTargetTestRequested:   {ofTarget, "name:text agent:id target:id test:id"},
	EventTargetTested:          {ofTarget, "name:text agent:id failed:flag target:id test:id"},
	EventIssuerCreated:         {ofIssuer, "name:text kind:text"},
	EventIssuerUpdated:         {ofIssuer, "name:text"},
	EventIssuerArchived:        {ofIssuer, "name:text"},
	EventIssuerPaused:          {ofIssuer, "name:text"},
	EventIssuerResumed:         {ofIssuer, "name:text"},
	EventIssuerDown:            {ofIssuer, "name:text outages:number"},
	EventIssuerUp:              {ofIssuer, "name:text"},
	EventIssuerAccount:         {ofIssuer, "name:text account:id"},
	EventAuthorityCreated:      {ofIssuer, "name:text authority:id issuer:id not_after:time state:text"},
	EventAuthorityActivated:    {ofIssuer, "name:text authority:id issuer:id not_after:time"},
	EventAuthorityRetired:      {ofIssuer, "name:text authority:id issuer:id"},
	EventProfileCreated:        {ofProfile, "name:text"},
	EventProfileUpdated:        {ofProfile, "name:text"},
	EventProfileArchived:       {ofProfile, "name:text"},
	EventPolicyCreated:         {ofPolicy, "name:text"},
	EventPolicyUpdated:         {ofPolicy, "name:text"},
	EventPolicyArchived:        {ofPolicy, "name:text"},
	EventRolloutCreated:        {ofRollout, "deadline:time items:number reason:text replace:text replaced:number rollout:id waves:number"},
	EventRolloutWave:           {ofRollout, "items:number rollout:id wave:number"},
	EventRolloutHalted:         {ofRollout, "failed:number items:number rollout:id wave:number"},
	EventRolloutStopped:        {ofRollout, "rollout:id wave:number"},
	EventRolloutResumed:        {ofRollout, "rollout:id wave:number"},
	EventRolloutCompleted:      {ofRollout, "done:number failed:number items:number open:number rollout:id skipped:number"},
	EventRolloutCancelled:      {ofRollout, "rollout:id wave:number"},
	EventGuardHeld:             {ofSystem, "fleet:number keys:number release:text share:number"},
	EventGuardReleased:         {ofSystem, "fleet:number keys:number release:text share:number"},
	EventGuardEased:            {ofSystem, "fleet:number keys:number release:text share:number"},
	EventFreezeCreated:         {ofSystem, "name:text ends_at:time freeze:id hard:flag starts_at:time"},
	EventFreezeEnded:           {ofSystem, "name:text freeze:id"},
	EventPrincipalCreated:      {ofAccess, "name:text kind:text principal:id roles:texts"},
	EventPrincipalUpdated:      {ofAccess, "name:text disabled:flag principal:id roles:texts"},
	EventAPIKeyCreated:         {ofAccess, "name:text expires_at:time key:id prefix:text principal:id"},
	EventAPIKeyRevoked:         {ofAccess, "name:text key:id principal:id replaced_by:id"},
	EventJoinTokenCreated:      {ofAccess, "approve:flag expires_at:time fleet:text prefix:text replace:flag token:id uses:number"},
	EventJoinTokenRevoked:      {ofAccess, "prefix:text token:id"},
	EventReaderCreated:         {ofAccess, "name:text expires_at:time filters:texts reader:id"},
	EventReaderRevoked:         {ofAccess, "name:text reader:id"},
	EventRequestDenied:         {ofAccess, "kind:text operation:text principal:id verb:text"},
	EventReportDenied:          {ofAgent, "name:text agent:id kind:text object:id"},
	EventChannelCreated:        {ofChannel, "name:text kind:text"},
	EventChannelUpdated:        {ofChannel, "name:text"},
	EventChannelArchived:       {ofChannel, "name:text"},
	EventChannelTested:         {ofChannel, "name:text"},
	EventNotificationFailed:    {ofChannel, "name:text code:text event:id notification:id"},
	EventNotificationReplayed:  {ofChannel, "name:text event:id notification:id"},
	EventNotificationDiscarded: {ofChannel, "name:text event:id notification:id"},
	EventDeadLettered:          {[]Aggregate{AggregateCertificate, AggregateSystem}, "certificate:id code:text dead_letter:id lane:text order:id verb:text"},
	EventDeadLetterReplayed:    {ofSystem, "dead_letter:id lane:text verb:text"},
	EventDeadLetterDiscarded:   {ofSystem, "dead_letter:id lane:text verb:text"},
	EventSystemStarted:         {ofSystem, "first:flag installation:id"},
	EventRecoveryBegun:         {ofSystem, "as_of:time events:number installation:id recovery:id stream:text"},
	EventRecoveryFinished:      {ofSystem, "agents:number by_hand:flag installation:id recovery:id unheard:ids"},
	EventEventsDropped:         {ofSystem, "before:time events:number installation:id"},
}
