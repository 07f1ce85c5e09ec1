package rest

import (
	"bytes"
	"context"
	"strings"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/api/rest/internal/gen"
)

// WorkStore holds orders, versions, deployments and what was set aside.
type WorkStore interface {
	GetOrder(ctx context.Context, actor certctl.Actor, id certctl.ID) (certctl.Order, error)
	ListOrders(ctx context.Context, actor certctl.Actor, filter certctl.OrderFilter) (certctl.Page[certctl.Order], error)
	ListAttempts(ctx context.Context, actor certctl.Actor, order certctl.ID) ([]certctl.Attempt, error)
	CancelOrder(ctx context.Context, actor certctl.Actor, id certctl.ID) (certctl.Order, error)
	GetVersion(ctx context.Context, actor certctl.Actor, id certctl.ID) (certctl.Version, error)
	ListVersions(ctx context.Context, actor certctl.Actor, filter certctl.VersionFilter) (certctl.Page[certctl.Version], error)
	ListDeployments(ctx context.Context, actor certctl.Actor, filter certctl.DeploymentFilter) (certctl.Page[certctl.Deployment], error)
	RetryDeployment(ctx context.Context, actor certctl.Actor, id certctl.ID) (certctl.Deployment, error)
	ListDeadLetters(ctx context.Context, actor certctl.Actor, page certctl.PageRequest) (certctl.Page[certctl.DeadLetter], error)
	ReplayDeadLetter(ctx context.Context, actor certctl.Actor, id certctl.ID) error
	DiscardDeadLetter(ctx context.Context, actor certctl.Actor, id certctl.ID) error
}

// orders lists a page of orders, with their attempts where asked for.
func (s *Server) orders(ctx context.Context, filter certctl.OrderFilter, attempts bool) (gen.OrderList, error) {
	page, err := s.store.ListOrders(ctx, actorOf(ctx), filter)
	if err != nil {
		return gen.OrderList{}, err
	}
	items := each(page.Items, orderOf)
	for i := range items {
		if !attempts {
			break
		}
		if items[i].Attempts, err = s.attempts(ctx, items[i].ID); err != nil {
			return gen.OrderList{}, err
		}
	}
	return gen.OrderList{Items: items, NextCursor: page.Next}, nil
}

func (s *Server) attempts(ctx context.Context, order certctl.ID) ([]gen.Attempt, error) {
	attempts, err := s.store.ListAttempts(ctx, actorOf(ctx), order)
	return each(attempts, attemptOf), err
}

// ListOrders shows one page of orders.
func (s *Server) ListOrders(ctx context.Context, r gen.ListOrdersRequestObject) (gen.ListOrdersResponseObject, error) {
	p := r.Params
	list, err := s.orders(ctx, certctl.OrderFilter{
		PageRequest: pageRequest(p.Cursor, p.Limit), Team: p.Team, Certificate: p.Certificate,
		State: certctl.OrderState(p.State), Live: p.Live,
	}, false)
	return gen.ListOrders200JSONResponse(list), err
}

// ListCertificateOrders shows the orders of one certificate with their attempts.
func (s *Server) ListCertificateOrders(ctx context.Context, r gen.ListCertificateOrdersRequestObject) (gen.ListCertificateOrdersResponseObject, error) {
	list, err := s.orders(ctx, certctl.OrderFilter{
		PageRequest: pageRequest(r.Params.Cursor, r.Params.Limit), Certificate: r.Certificate,
	}, true)
	return gen.ListCertificateOrders200JSONResponse(list), err
}

// GetOrder shows one with its attempts.
func (s *Server) GetOrder(ctx context.Context, r gen.GetOrderRequestObject) (gen.GetOrderResponseObject, error) {
	order, err := s.store.GetOrder(ctx, actorOf(ctx), r.ID)
	if err != nil {
		return nil, err
	}
	out := orderOf(order)
	out.Attempts, err = s.attempts(ctx, order.ID)
	return gen.GetOrder200JSONResponse(out), err
}

// CancelOrder ends an order that nobody wants any more.
func (s *Server) CancelOrder(ctx context.Context, r gen.CancelOrderRequestObject) (gen.CancelOrderResponseObject, error) {
	order, err := s.store.CancelOrder(ctx, actorOf(ctx), r.ID)
	return gen.CancelOrder200JSONResponse(orderOf(order)), err
}

// ListVersions finds versions, by serial number if one is given.
func (s *Server) ListVersions(ctx context.Context, r gen.ListVersionsRequestObject) (gen.ListVersionsResponseObject, error) {
	p := r.Params
	filter := certctl.VersionFilter{PageRequest: pageRequest(p.Cursor, p.Limit), Team: p.Team, Certificate: p.Certificate}
	if p.Serial != "" {
		serial, err := certctl.ParseSerial(p.Serial)
		if err != nil {
			return nil, asField("?serial", err)
		}
		filter.Serial = serial
	}
	page, err := s.store.ListVersions(ctx, actorOf(ctx), filter)
	return gen.ListVersions200JSONResponse{Items: each(page.Items, versionOf), NextCursor: page.Next}, err
}

// ListCertificateVersions shows the versions of one certificate.
func (s *Server) ListCertificateVersions(ctx context.Context, r gen.ListCertificateVersionsRequestObject) (gen.ListCertificateVersionsResponseObject, error) {
	page, err := s.store.ListVersions(ctx, actorOf(ctx), certctl.VersionFilter{
		PageRequest: pageRequest(r.Params.Cursor, r.Params.Limit), Certificate: r.Certificate, Holder: r.Params.Holder,
	})
	return gen.ListCertificateVersions200JSONResponse{Items: each(page.Items, versionOf), NextCursor: page.Next}, err
}

// GetVersion shows one version.
func (s *Server) GetVersion(ctx context.Context, r gen.GetVersionRequestObject) (gen.GetVersionResponseObject, error) {
	version, err := s.store.GetVersion(ctx, actorOf(ctx), r.ID)
	return gen.GetVersion200JSONResponse(versionOf(version)), err
}

// GetVersionChain answers with exactly this version's leaf and chain.
func (s *Server) GetVersionChain(ctx context.Context, r gen.GetVersionChainRequestObject) (gen.GetVersionChainResponseObject, error) {
	version, err := s.store.GetVersion(ctx, actorOf(ctx), r.ID)
	if err != nil {
		return nil, err
	}
	chain := version.Chain.PEM(version.Leaf)
	return gen.GetVersionChain200ApplicationXPemFileResponse{Body: bytes.NewReader(chain), ContentLength: int64(len(chain))}, nil
}

// ListDeployments shows one page of deployments.
func (s *Server) ListDeployments(ctx context.Context, r gen.ListDeploymentsRequestObject) (gen.ListDeploymentsResponseObject, error) {
	p := r.Params
	page, err := s.store.ListDeployments(ctx, actorOf(ctx), certctl.DeploymentFilter{
		PageRequest: pageRequest(p.Cursor, p.Limit), Team: p.Team, Certificate: p.Certificate, Target: p.Target,
		Agent: p.Agent, State: certctl.DeploymentState(p.State),
	})
	return gen.ListDeployments200JSONResponse{Items: each(page.Items, deploymentOf), NextCursor: page.Next}, err
}

// ListCertificateDeployments shows the deployments of one certificate.
func (s *Server) ListCertificateDeployments(ctx context.Context, r gen.ListCertificateDeploymentsRequestObject) (gen.ListCertificateDeploymentsResponseObject, error) {
	page, err := s.store.ListDeployments(ctx, actorOf(ctx), certctl.DeploymentFilter{
		PageRequest: pageRequest(r.Params.Cursor, r.Params.Limit), Certificate: r.Certificate,
	})
	return gen.ListCertificateDeployments200JSONResponse{Items: each(page.Items, deploymentOf), NextCursor: page.Next}, err
}

// RetryDeployment tries one again now.
func (s *Server) RetryDeployment(ctx context.Context, r gen.RetryDeploymentRequestObject) (gen.RetryDeploymentResponseObject, error) {
	deployment, err := s.store.RetryDeployment(ctx, actorOf(ctx), r.ID)
	return gen.RetryDeployment202JSONResponse(deploymentOf(deployment)), err
}

// ListDeadLetters shows what was set aside.
func (s *Server) ListDeadLetters(ctx context.Context, r gen.ListDeadLettersRequestObject) (gen.ListDeadLettersResponseObject, error) {
	page, err := s.store.ListDeadLetters(ctx, actorOf(ctx), pageRequest(r.Params.Cursor, r.Params.Limit))
	items := each(page.Items, func(d certctl.DeadLetter) gen.DeadLetter {
		return gen.DeadLetter{ID: d.ID, Verb: string(d.Verb), Lane: d.Lane, Ids: d.IDs, Reason: d.Reason, CreatedAt: d.At, Message: messageText(d.Message)}
	})
	return gen.ListDeadLetters200JSONResponse{Items: items, NextCursor: page.Next}, err
}

// ReplayDeadLetter tries one again.
func (s *Server) ReplayDeadLetter(ctx context.Context, r gen.ReplayDeadLetterRequestObject) (gen.ReplayDeadLetterResponseObject, error) {
	return gen.ReplayDeadLetter204Response{}, s.store.ReplayDeadLetter(ctx, actorOf(ctx), r.ID)
}

// DiscardDeadLetter forgets one.
func (s *Server) DiscardDeadLetter(ctx context.Context, r gen.DiscardDeadLetterRequestObject) (gen.DiscardDeadLetterResponseObject, error) {
	return gen.DiscardDeadLetter204Response{}, s.store.DiscardDeadLetter(ctx, actorOf(ctx), r.ID)
}

// messageText shows a message that was set aside: whatever came, as text.
func messageText(body []byte) string {
	return certctl.Clip(strings.ToValidUTF8(string(body), "\uFFFD"), 2000)
}
