package certctl

import (
	"encoding/json"
	"time"
)

// Severity says how much an event wants a person.
type Severity int

// The severities, in order.
const (
	SeverityInfo     Severity = iota + 1 // all is well; for the record
	SeverityWarning                      // somebody should look at it some day
	SeverityError                        // something does not work and does not repair itself
	SeverityCritical                     // clients will see it soon
)

var severityNames = map[Severity]string{
	SeverityInfo: "info", SeverityWarning: "warning", SeverityError: "error", SeverityCritical: "critical",
}

// String returns info, warning, error or critical.
func (s Severity) String() string { return severityNames[s] }

// ParseSeverity reads what String gives.
func ParseSeverity(text string) (Severity, error) {
	for severity, name := range severityNames {
		if name == text {
			return severity, nil
		}
	}
	return 0, Errorf(Invalid, "%q is none of info, warning, error, critical", Clip(text, 40))
}

// severities of the events that are more than information, whatever their outcome.
var severities = map[EventName]Severity{
	EventOrderAwaitingCSR:    SeverityWarning,
	EventTestFailed:          SeverityWarning,
	EventRecordMissing:       SeverityWarning,
	EventRevocationWaiting:   SeverityWarning,
	EventDeploymentDrifted:   SeverityWarning,
	EventReportDenied:        SeverityWarning,
	EventKeyErasureDelayed:   SeverityWarning,
	EventOrderRefused:        SeverityError,
	EventVersionOrphaned:     SeverityError,
	EventCertificateRecalled: SeverityError,
	EventDeploymentRolled:    SeverityError,
	EventDeploymentFailed:    SeverityError,
	EventAgentConflict:       SeverityError,
	EventIssuerDown:          SeverityError,
	EventRolloutHalted:       SeverityError,
	EventGuardHeld:           SeverityError,
	EventKeyRefused:          SeverityError,
	EventDeadLettered:        SeverityError,
	EventNotificationFailed:  SeverityError,
}

// What is left of a leaf or a validation record when its end is an error, and when it is critical.
const (
	expiryError    = 7 * Day
	expiryCritical = Day
)

// Severity is how much the event wants a person. That of a leaf that ends follows
// from the time that is left; failures of what is tried again are warnings.
func (e Event) Severity() Severity {
	if e.Name == EventCertificateExpiring {
		return expirySeverity(e)
	}
	if e.Name == EventRecordExpiring {
		return recordSeverity(e)
	}
	if severity, ok := severities[e.Name]; ok {
		return severity
	}
	if e.Name == EventOrderDelayed && e.Outcome == OutcomeFailure {
		return SeverityWarning
	}
	return SeverityInfo
}

func expirySeverity(e Event) Severity {
	var data struct {
		NotAfter time.Time `json:"not_after"`
	}
	if err := json.Unmarshal(e.Data, &data); err != nil || data.NotAfter.IsZero() {
		return SeverityError // nobody knows how long it has
	}
	switch left := data.NotAfter.Sub(e.Time); {
	case left <= expiryCritical:
		return SeverityCritical
	case left <= expiryError:
		return SeverityError
	}
	return SeverityWarning
}

// recordSeverity is that of a validation record that ends: what is served goes on
// without it, and the next renewal does not.
func recordSeverity(e Event) Severity {
	var data struct {
		Until time.Time `json:"until"`
	}
	if err := json.Unmarshal(e.Data, &data); err != nil || data.Until.Sub(e.Time) <= expiryError {
		return SeverityError
	}
	return SeverityWarning
}
