package handlers

import (
	"context"
	"crypto/ed25519"
	"time"

	"github.com/certctl/certctl"
	"github.com/rs/zerolog"
)

// ReportStore records what agents say.
type ReportStore interface {
	AgentStore
	RecordReports(ctx context.Context, reports []certctl.AgentReport) ([]certctl.ReportAnswer, error)
}

// Reports takes the reports of agents: CSRs, receipts, refusals. It answers a
// report after the commit that records it, so that an agent may forget what it
// said once it has the answer.
type Reports struct {
	verifier verifier
	store    ReportStore
	log      zerolog.Logger
}

// NewReports returns the handler of one installation.
func NewReports(installation certctl.ID, fleet ed25519.PublicKey, store ReportStore, log zerolog.Logger) *Reports {
	return &Reports{
		verifier: newVerifier(installation, fleet, store),
		store:    store, log: log,
	}
}

// retryReport is how long an agent waits when its report could not be recorded.
const retryReport = certctl.Duration(5 * time.Second)

// Answer records a batch of reports in one transaction and answers each.
func (r *Reports) Answer(ctx context.Context, statements []certctl.Statement) []certctl.ReportAnswer {
	answers := make([]certctl.ReportAnswer, len(statements))
	_, refused, err := r.verifier.verify(ctx, statements)
	if err != nil {
		return r.unavailable(answers, err)
	}
	var reports []certctl.AgentReport
	var places []int
	for i, s := range statements {
		report, err := decodeReport(s, refused[i])
		if err != nil {
			r.log.Warn().Err(err).Stringer("agent", s.Agent).Str("kind", certctl.Clip(s.Kind, 40)).Msg("report refused")
			answers[i] = certctl.ReportAnswer{Final: true, Message: certctl.ErrorMessage(err)}
			continue
		}
		reports, places = append(reports, report), append(places, i)
	}
	if len(reports) == 0 {
		return answers
	}
	recorded, err := r.store.RecordReports(ctx, reports)
	if err != nil {
		return r.unavailable(answers, err)
	}
	for i, place := range places {
		answers[place] = recorded[i]
	}
	return answers
}

// unavailable asks the agents to repeat everything later: nothing was recorded.
func (r *Reports) unavailable(answers []certctl.ReportAnswer, err error) []certctl.ReportAnswer {
	r.log.Error().Err(err).Int("reports", len(answers)).Msg("reports could not be recorded")
	for i := range answers {
		answers[i] = certctl.ReportAnswer{Message: certctl.ErrorMessage(err), RetryAfter: retryReport}
	}
	return answers
}

// decodeReport reads a statement's body, which refused says whether it may.
func decodeReport(s certctl.Statement, refused error) (certctl.AgentReport, error) {
	report := certctl.AgentReport{Statement: s}
	if refused != nil {
		return report, refused
	}
	switch s.Kind {
	case certctl.ReportCSR:
		var body certctl.CSRReport
		if err := s.Decode(&body); err != nil {
			return report, err
		}
		if body.Order != s.Object {
			return report, certctl.Errorf(certctl.Denied, "the report names another order than its statement")
		}
		csr, err := certctl.ParseCSR(body.CSR)
		report.CSR, report.Shared = csr, &certctl.SharedReport{Sealed: body.Sealed, Refused: body.Refused}
		return report, err
	case certctl.ReportShared:
		report.Shared = new(certctl.SharedReport)
		return report, s.Decode(report.Shared)
	case certctl.ReportReceipt:
		report.Receipt = new(certctl.Receipt)
		if err := s.Decode(report.Receipt); err != nil {
			return report, err
		}
		if report.Receipt.Deployment != s.Object {
			return report, certctl.Errorf(certctl.Denied, "the receipt names another deployment than its statement")
		}
		report.Next = nextCSR(report.Receipt)
		return report, nil
	case certctl.ReportInventory:
		report.Inventory = new(certctl.InventoryReport)
		if err := s.Decode(report.Inventory); err != nil {
			return report, err
		}
		if s.Object != s.Agent || len(report.Inventory.Items) > certctl.MaxInventory {
			return report, certctl.Errorf(certctl.Denied, "the inventory is another agent's, or larger than what is asked for")
		}
		return report, nil
	case certctl.ReportTested:
		report.Tested = new(certctl.TestReport)
		if err := s.Decode(report.Tested); err != nil {
			return report, err
		}
		if len(report.Tested.Steps) == 0 {
			return report, certctl.Errorf(certctl.Denied, "the report of a test says nothing")
		}
		return report, nil
	case certctl.ReportHeld:
		report.Held = true
		return report, nil
	case certctl.ReportRefusal, certctl.ReportForgotten, certctl.ReportErased:
		report.Refusal = new(certctl.Refusal)
		return report, s.Decode(report.Refusal)
	}
	return report, certctl.Errorf(certctl.Invalid, "unknown kind of report %q", certctl.Clip(s.Kind, 40))
}

// nextCSR reads the request that came with a receipt. One that cannot be read
// is as none: what was installed is true all the same, and the next renewal asks
// for a key.
func nextCSR(r *certctl.Receipt) *certctl.CSR {
	if len(r.NextCSR) == 0 {
		return nil
	}
	csr, err := certctl.ParseCSR(r.NextCSR)
	if err != nil {
		return nil
	}
	return csr
}
