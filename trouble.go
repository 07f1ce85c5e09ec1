package certctl

import "encoding/json"

// Trouble is what an event begins or ends: a state that lasts. On-call services
// open an incident for it and close it again; a channel that was told of it is
// not told again all the time, and is told of its end.
type Trouble struct {
	Key  string // unlike that of all other troubles of the object; "" with Ends: all of them
	Ends bool
	// Again tells of it each time: it is another stage of the trouble.
	Again bool
}

// Topics of troubles.
const (
	troubleExpiry     = "expiry"
	troubleRecord     = "record"
	troubleOrder      = "order"
	troubleDeployment = "deployment"
	troubleDrift      = "drift"
	troubleConflict   = "conflict"
	troubleDown       = "down"
	troubleHalted     = "halted"
	troubleGuard      = "guard"
	troubleWork       = "work"
)

// troubles are the topics that events begin and end.
var troubles = map[EventName]struct {
	begins string
	ends   []string
}{
	EventCertificateExpiring: {begins: troubleExpiry},
	EventRecordMissing:       {begins: troubleRecord},
	EventRecordExpiring:      {begins: troubleRecord},
	EventRecordSettled:       {ends: []string{troubleRecord}},
	EventOrderDelayed:        {begins: troubleOrder},
	EventOrderAwaitingCSR:    {begins: troubleOrder},
	EventOrderRefused:        {begins: troubleOrder},
	EventOrderCancelled:      {ends: []string{troubleOrder}},
	EventCertificateIssued:   {ends: []string{troubleOrder, troubleWork}},
	EventDeploymentFailed:    {begins: troubleDeployment},
	EventDeploymentRolled:    {begins: troubleDeployment},
	EventDeploymentVerified:  {ends: []string{troubleDeployment, troubleDrift, troubleExpiry}},
	EventDeploymentInstalled: {ends: []string{troubleDeployment, troubleDrift, troubleExpiry}},
	EventDeploymentDrifted:   {begins: troubleDrift},
	EventAgentConflict:       {begins: troubleConflict},
	EventAgentResolved:       {ends: []string{troubleConflict}},
	EventIssuerDown:          {begins: troubleDown},
	EventIssuerUp:            {ends: []string{troubleDown}},
	EventRolloutHalted:       {begins: troubleHalted},
	EventRolloutResumed:      {ends: []string{troubleHalted}},
	EventGuardHeld:           {begins: troubleGuard},
	EventGuardReleased:       {ends: []string{troubleGuard}},
	EventGuardEased:          {ends: []string{troubleGuard}},
	EventDeadLettered:        {begins: troubleWork},
	EventDeadLetterReplayed:  {ends: []string{troubleWork}},
	EventDeadLetterDiscarded: {ends: []string{troubleWork}},
	EventAgentRetired:        {ends: []string{""}},
	EventCertificateArchived: {ends: []string{""}},
	EventIssuerArchived:      {ends: []string{""}},
	EventRolloutCancelled:    {ends: []string{""}},
	EventRolloutCompleted:    {ends: []string{""}},
}

// Troubles returns what the event begins or ends, the beginning alone where it is
// one. Those of deployments are told apart by target, those of validation records by
// issuer and record; the end of a leaf is averted once a newer one is served somewhere
// or, where certctl installs nothing, issued.
func (e Event) Troubles() []Trouble {
	of, known := troubles[e.Name]
	if !known {
		return nil
	}
	var data struct {
		Target     ID         `json:"target"`
		HolderKind HolderKind `json:"holder_kind"`
		Issuer     string     `json:"issuer"`
		Record     string     `json:"record"`
	}
	if err := json.Unmarshal(e.Data, &data); err != nil {
		return nil
	}
	key := func(topic string) string {
		switch topic {
		case troubleDeployment, troubleDrift:
			return topic + "/" + data.Target.String()
		case troubleRecord:
			return topic + "/" + data.Issuer + "/" + data.Record
		}
		return topic
	}
	if of.begins != "" {
		if e.Name == EventOrderDelayed && e.Outcome != OutcomeFailure {
			return nil // it waits for what it should wait for
		}
		return []Trouble{{Key: key(of.begins), Again: e.Name == EventCertificateExpiring || e.Name == EventRecordExpiring}}
	}
	var out []Trouble
	for _, topic := range of.ends {
		if topic == "" {
			return []Trouble{{Ends: true}}
		}
		out = append(out, Trouble{Key: key(topic), Ends: true})
	}
	if e.Name == EventCertificateIssued && data.HolderKind == HolderClient {
		out = append(out, Trouble{Key: troubleExpiry, Ends: true})
	}
	return out
}
