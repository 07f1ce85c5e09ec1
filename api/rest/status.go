package rest

import (
	"context"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/api/rest/internal/gen"
)

// expiring is how long before its end a certificate is called so.
const expiring = 30 * certctl.Day

// shownOrders is how many orders a status lists, the newest first.
const shownOrders = 5

// shownAttempts is how many attempts of an order a status lists, the newest.
const shownAttempts = 3

// certificateWithStatus shows a certificate with the whole chain: orders, why
// they wait and until when, deployments and what the daemons said.
func (s *Server) certificateWithStatus(ctx context.Context, c certctl.Certificate) (gen.Certificate, error) {
	out, actor := certificateOf(c), actorOf(ctx)
	orders, err := s.store.ListOrders(ctx, actor, certctl.OrderFilter{
		PageRequest: certctl.PageRequest{Limit: shownOrders}, Certificate: c.ID.String(),
	})
	if err != nil {
		return out, err
	}
	for _, order := range orders.Items {
		link := orderLink(order)
		if order.Attempts > 0 && order.State != certctl.OrderIssued {
			attempts, err := s.attempts(ctx, order.ID)
			if err != nil {
				return out, err
			}
			link.Attempts = attempts[max(0, len(attempts)-shownAttempts):]
		}
		out.Status.Orders = append(out.Status.Orders, link)
	}
	deployments, err := s.store.ListDeployments(ctx, actor, certctl.DeploymentFilter{
		PageRequest: certctl.PageRequest{Limit: certctl.DefaultPage}, Certificate: c.ID.String(),
	})
	if err != nil {
		return out, err
	}
	for _, deployment := range deployments.Items {
		if deployment.State != certctl.DeploymentSuperseded {
			out.Status.Deployments = append(out.Status.Deployments, deploymentOf(deployment))
		}
	}
	holders, err := s.store.CurrentVersions(ctx, actor, c.ID.String())
	if err != nil {
		return out, err
	}
	out.Status.Holders = each(holders, holderOf)
	if !c.NotAfter.IsZero() {
		left := c.NotAfter.Sub(s.Now())
		out.Status.Expired = left <= 0
		out.Status.Expiring = left > 0 && left < min(expiring, c.NotAfter.Sub(c.CreatedAt)/3+time.Nanosecond)
	}
	return out, nil
}

// submitted is certificateWithStatus for one that has just been recorded: what
// belongs to it need not be read.
func (s *Server) submitted(ctx context.Context, made certctl.Submitted) (gen.Certificate, error) {
	if made.Earlier || made.Shared {
		return s.certificateWithStatus(ctx, made.Certificate)
	}
	out := certificateOf(made.Certificate)
	for _, order := range made.Orders {
		out.Status.Orders = append(out.Status.Orders, orderLink(order))
	}
	out.Status.Holders = each(made.Holders, holderOf)
	return out, nil
}

func orderLink(o certctl.Order) gen.OrderLink {
	return gen.OrderLink{
		ID: o.ID, URL: orderURL(o.ID), State: string(o.State), Wait: string(o.Wait), Message: o.Message, DueAt: o.DueAt, ErrorCode: o.ErrorCode,
	}
}

func holderOf(h certctl.HolderVersion) gen.HolderKeys {
	return gen.HolderKeys{
		Holder: h.Holder.ID, Kind: string(h.Holder.Kind), Agents: each(h.Holder.Members, refOf), Members: membersOf(h.Holder), Version: h.Version.ID,
	}
}

// membersOf says which members of a shared holder have the key.
func membersOf(h certctl.Holder) (members []gen.MemberKey) {
	for i, k := range h.Keys {
		members = append(members, gen.MemberKey{Agent: refOf(h.Members[i]), Key: string(k.State)})
	}
	return members
}
