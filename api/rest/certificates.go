package rest

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/api/rest/internal/gen"
)

// CertificateStore holds what should exist.
type CertificateStore interface {
	SubmitCertificate(ctx context.Context, actor certctl.Actor, request certctl.CertificateRequest, idem certctl.Idempotency) (certctl.Submitted, error)
	SubmitCertificates(ctx context.Context, actor certctl.Actor, requests []certctl.CertificateRequest) ([]certctl.SubmitResult, error)
	GetCertificate(ctx context.Context, actor certctl.Actor, ref string) (certctl.Certificate, error)
	ListCertificates(ctx context.Context, actor certctl.Actor, filter certctl.CertificateFilter) (certctl.Page[certctl.Certificate], error)
	UpdateCertificate(ctx context.Context, actor certctl.Actor, ref string, patch certctl.CertificatePatch) (certctl.Certificate, error)
	ArchiveCertificate(ctx context.Context, actor certctl.Actor, ref string) error
	RenewCertificate(ctx context.Context, actor certctl.Actor, ref string, request certctl.RenewRequest, idem certctl.Idempotency) ([]certctl.Order, error)
	SubmitCSR(ctx context.Context, actor certctl.Actor, ref string, csr *certctl.CSR) (certctl.Order, error)
	ImportCertificate(ctx context.Context, actor certctl.Actor, request certctl.ImportRequest) (certctl.Certificate, error)
	BindTarget(ctx context.Context, actor certctl.Actor, ref string, binding certctl.BindingRequest) (certctl.Certificate, error)
	UnbindTarget(ctx context.Context, actor certctl.Actor, ref, target string, remove bool) (certctl.Certificate, error)
	RedeployCertificate(ctx context.Context, actor certctl.Actor, ref, target string) ([]certctl.Deployment, error)
	RollBackCertificate(ctx context.Context, actor certctl.Actor, ref string, request certctl.RollbackRequest) ([]certctl.Deployment, error)
	CurrentVersions(ctx context.Context, actor certctl.Actor, ref string) ([]certctl.HolderVersion, error)
}

// CreateCertificate records a submission. Its 201 comes after the commit.
func (s *Server) CreateCertificate(ctx context.Context, r gen.CreateCertificateRequestObject) (gen.CreateCertificateResponseObject, error) {
	request, err := certificateRequest(*r.Body)
	if err != nil {
		return nil, err
	}
	idem, err := idempotency(r.Params.IdempotencyKey, "createCertificate", r.Body)
	if err != nil {
		return nil, err
	}
	made, err := s.store.SubmitCertificate(ctx, actorOf(ctx), request, idem)
	if err != nil {
		return nil, err
	}
	certificate := made.Certificate
	body, err := s.submitted(ctx, made)
	if err != nil {
		return nil, err
	}
	return gen.CreateCertificate201JSONResponse{Body: body, Headers: gen.CreateCertificate201ResponseHeaders{
		Location: "/api/v1/certificates/" + certificate.ID.String(), ETag: etag(certificate.Revision),
	}}, nil
}

// CreateCertificates records many submissions; a bad one fails alone.
func (s *Server) CreateCertificates(ctx context.Context, r gen.CreateCertificatesRequestObject) (gen.CreateCertificatesResponseObject, error) {
	items := make([]gen.BulkItem, len(r.Body.Items))
	requests := make([]certctl.CertificateRequest, 0, len(items))
	places := make([]int, 0, len(items))
	for i, item := range r.Body.Items {
		request, err := certificateRequest(item)
		if err != nil {
			items[i].Problem = problemOf(err, "")
			continue
		}
		request.Origin = certctl.OriginBulk
		requests, places = append(requests, request), append(places, i)
	}
	results, err := s.store.SubmitCertificates(ctx, actorOf(ctx), requests)
	if err != nil {
		return nil, err
	}
	for i, result := range results {
		if result.Err != nil {
			items[places[i]].Problem = problemOf(result.Err, "")
			continue
		}
		items[places[i]].Certificate = certificateOf(result.Certificate)
	}
	return gen.CreateCertificates200JSONResponse{Items: items}, nil
}

// GetCertificate shows one with its whole status.
func (s *Server) GetCertificate(ctx context.Context, r gen.GetCertificateRequestObject) (gen.GetCertificateResponseObject, error) {
	certificate, err := s.store.GetCertificate(ctx, actorOf(ctx), r.Certificate)
	if err != nil {
		return nil, err
	}
	body, err := s.certificateWithStatus(ctx, certificate)
	if err != nil {
		return nil, err
	}
	return gen.GetCertificate200JSONResponse{Body: body, Headers: gen.GetCertificate200ResponseHeaders{ETag: etag(certificate.Revision)}}, nil
}

// ListCertificates shows one page.
func (s *Server) ListCertificates(ctx context.Context, r gen.ListCertificatesRequestObject) (gen.ListCertificatesResponseObject, error) {
	p := r.Params
	labels, err := labelFilter(p.Label)
	if err != nil {
		return nil, err
	}
	page, err := s.store.ListCertificates(ctx, actorOf(ctx), certctl.CertificateFilter{
		PageRequest: pageRequest(p.Cursor, p.Limit), Team: p.Team, Status: certctl.CertificateStatus(p.Status),
		Issuer: p.Issuer, Agent: p.Agent, Target: p.Target, Label: labels, Name: p.Name, Query: p.Q,
		ExpiresBefore: p.ExpiresBefore, Archived: p.Archived,
	})
	if err != nil {
		return nil, err
	}
	return gen.ListCertificates200JSONResponse{Items: each(page.Items, certificateOf), NextCursor: page.Next}, nil
}

// UpdateCertificate changes one; see certctl.CertificatePatch.
func (s *Server) UpdateCertificate(ctx context.Context, r gen.UpdateCertificateRequestObject) (gen.UpdateCertificateResponseObject, error) {
	current, err := s.store.GetCertificate(ctx, actorOf(ctx), r.Certificate)
	if err != nil {
		return nil, err
	}
	patch, err := certificatePatch(*r.Body, current)
	if err != nil {
		return nil, err
	}
	if patch.IfRevision, err = ifMatch(r.Params.IfMatch); err != nil {
		return nil, err
	}
	changed, err := s.store.UpdateCertificate(ctx, actorOf(ctx), current.ID.String(), patch)
	if err != nil {
		return nil, err
	}
	body, err := s.certificateWithStatus(ctx, changed)
	if err != nil {
		return nil, err
	}
	return gen.UpdateCertificate200JSONResponse{Body: body, Headers: gen.UpdateCertificate200ResponseHeaders{ETag: etag(changed.Revision)}}, nil
}

// ArchiveCertificate ends the management of one.
func (s *Server) ArchiveCertificate(ctx context.Context, r gen.ArchiveCertificateRequestObject) (gen.ArchiveCertificateResponseObject, error) {
	if err := s.store.ArchiveCertificate(ctx, actorOf(ctx), r.Certificate); err != nil {
		return nil, err
	}
	return gen.ArchiveCertificate204Response{}, nil
}

// RenewCertificate orders a new leaf now.
func (s *Server) RenewCertificate(ctx context.Context, r gen.RenewCertificateRequestObject) (gen.RenewCertificateResponseObject, error) {
	idem, err := idempotency(r.Params.IdempotencyKey, "renewCertificate/"+r.Certificate, r.Body)
	if err != nil {
		return nil, err
	}
	orders, err := s.store.RenewCertificate(ctx, actorOf(ctx), r.Certificate, renewRequest(r.Body), idem)
	if err != nil {
		return nil, err
	}
	return gen.RenewCertificate202JSONResponse{Items: each(orders, orderOf)}, nil
}

// SubmitCSR serves the next cycle of a certificate whose client holds the key.
func (s *Server) SubmitCSR(ctx context.Context, r gen.SubmitCSRRequestObject) (gen.SubmitCSRResponseObject, error) {
	csr, err := certctl.ParseCSR([]byte(r.Body.CSR))
	if err != nil {
		return nil, asField("/csr", err)
	}
	order, err := s.store.SubmitCSR(ctx, actorOf(ctx), r.Certificate, csr)
	if err != nil {
		return nil, err
	}
	return gen.SubmitCSR202JSONResponse{Body: orderOf(order), Headers: gen.SubmitCSR202ResponseHeaders{Location: orderURL(order.ID)}}, nil
}

// BindTarget installs the certificate on one more target.
func (s *Server) BindTarget(ctx context.Context, r gen.BindTargetRequestObject) (gen.BindTargetResponseObject, error) {
	changed, err := s.store.BindTarget(ctx, actorOf(ctx), r.Certificate, bindingRequest(*r.Body))
	if err != nil {
		return nil, err
	}
	body, err := s.certificateWithStatus(ctx, changed)
	return gen.BindTarget200JSONResponse{Body: body, Headers: gen.BindTarget200ResponseHeaders{ETag: etag(changed.Revision)}}, err
}

// UnbindTarget stops installing it there.
func (s *Server) UnbindTarget(ctx context.Context, r gen.UnbindTargetRequestObject) (gen.UnbindTargetResponseObject, error) {
	changed, err := s.store.UnbindTarget(ctx, actorOf(ctx), r.Certificate, r.Target, r.Params.Remove)
	if err != nil {
		return nil, err
	}
	body, err := s.certificateWithStatus(ctx, changed)
	return gen.UnbindTarget200JSONResponse{Body: body, Headers: gen.UnbindTarget200ResponseHeaders{ETag: etag(changed.Revision)}}, err
}

// RedeployCertificate installs the current leaf once more.
func (s *Server) RedeployCertificate(ctx context.Context, r gen.RedeployCertificateRequestObject) (gen.RedeployCertificateResponseObject, error) {
	target := ""
	if r.Body != nil {
		target = r.Body.Target
	}
	deployments, err := s.store.RedeployCertificate(ctx, actorOf(ctx), r.Certificate, target)
	return gen.RedeployCertificate202JSONResponse{Items: each(deployments, deploymentOf)}, err
}

// RollBackCertificate goes back to an earlier leaf.
func (s *Server) RollBackCertificate(ctx context.Context, r gen.RollBackCertificateRequestObject) (gen.RollBackCertificateResponseObject, error) {
	var request certctl.RollbackRequest
	if r.Body != nil {
		request = certctl.RollbackRequest{Version: r.Body.Version, Holder: r.Body.Holder, Force: r.Body.Force}
	}
	deployments, err := s.store.RollBackCertificate(ctx, actorOf(ctx), r.Certificate, request)
	return gen.RollBackCertificate202JSONResponse{Items: each(deployments, deploymentOf)}, err
}

// maxWait bounds how long a request may wait for a leaf.
const maxWait = time.Minute

// GetCertificateChain answers with the newest leaf and its chain, waiting for
// the first one if asked to.
func (s *Server) GetCertificateChain(ctx context.Context, r gen.GetCertificateChainRequestObject) (gen.GetCertificateChainResponseObject, error) {
	wait, err := waitTime(r.Params.Wait)
	if err != nil {
		return nil, err
	}
	version, err := s.awaitVersion(ctx, r.Certificate, r.Params.Holder, wait)
	if err != nil {
		return nil, err
	}
	chain := version.Chain.PEM(version.Leaf)
	return gen.GetCertificateChain200ApplicationXPemFileResponse{Body: bytes.NewReader(chain), ContentLength: int64(len(chain))}, nil
}

// awaitVersion looks at each change of the certificate until it has a leaf of
// its current revision, or time is up.
func (s *Server) awaitVersion(ctx context.Context, ref string, holder certctl.ID, wait time.Duration) (certctl.Version, error) {
	certificate, err := s.store.GetCertificate(ctx, actorOf(ctx), ref)
	if err != nil {
		return certctl.Version{}, err
	}
	deadline := time.NewTimer(wait)
	defer deadline.Stop()
	changes, stop := s.Feed.Watch(certificate.ID)
	defer stop()
	for {
		version, err := s.newest(ctx, certificate, holder)
		if err == nil || certctl.ErrorCode(err) != certctl.Unavailable {
			return version, err
		}
		select {
		case <-changes:
		case <-time.After(time.Second): // another replica may have made the change
		case <-deadline.C:
			return certctl.Version{}, err
		case <-ctx.Done():
			return certctl.Version{}, err
		}
	}
}

// newest picks the version that is asked for: Unavailable while there is none
// yet, Conflict when several holders have one and none is named.
func (s *Server) newest(ctx context.Context, certificate certctl.Certificate, holder certctl.ID) (certctl.Version, error) {
	all, err := s.store.CurrentVersions(ctx, actorOf(ctx), certificate.ID.String())
	if err != nil {
		return certctl.Version{}, err
	}
	if holder.IsZero() && len(all) > 1 {
		several := certctl.Errorf(certctl.Conflict, "%d holders have a version of %s", len(all), certificate.Name).
			WithRemedy("name one: ?holder=%s", all[0].Holder.ID)
		for _, one := range all {
			several.Fields = append(several.Fields, certctl.FieldError{Field: "?holder", Message: one.Holder.ID.String()})
		}
		return certctl.Version{}, several
	}
	for _, one := range all {
		if (holder.IsZero() || one.Holder.ID == holder) && !one.Version.ID.IsZero() {
			return one.Version, nil
		}
	}
	missing := certctl.Errorf(certctl.Unavailable, "%s has no certificate yet: %s", certificate.Name, certificate.Status).
		WithRemedy("wait for it with ?wait=10s, or see /api/v1/certificates/%s", certificate.Name)
	missing.RetryAfter = time.Second
	return certctl.Version{}, missing
}

func waitTime(text string) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	wait, err := time.ParseDuration(text)
	if err != nil || wait < 0 || wait > maxWait {
		return 0, certctl.InvalidField("?wait", "%s", fmt.Sprintf("must be a duration of at most %s, such as 10s", maxWait))
	}
	return wait, nil
}
