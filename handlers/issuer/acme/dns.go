package acme

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/certctl/certctl"
	"golang.org/x/net/publicsuffix"
)

// recordOf is where the proof of a name stands (RFC 8555 section 8.4).
func recordOf(name string) string { return "_acme-challenge." + strings.TrimPrefix(name, "*.") }

// txtValue is the proof.
func txtValue(keyAuthorization string) string {
	digest := sha256.Sum256([]byte(keyAuthorization))
	return base64.RawURLEncoding.EncodeToString(digest[:])
}

// provider writes TXT records. It adds and removes one value, and leaves all
// others of the record alone: a wildcard and its base have two values in one.
type provider interface {
	Present(ctx context.Context, p proof) error
	Remove(ctx context.Context, p proof) error
}

// write is what is done to a record.
type write func(provider, context.Context, proof) error

// delegations bounds how many CNAMEs are followed.
const delegations = 8

// delegated is where the proof stands whose record may be a CNAME that leads to
// another zone (RFC 8555 section 8.4, by way of RFC 1034 section 3.6.2). What
// cannot be looked up is written where it is.
func (c *CA) delegated(ctx context.Context, record string) string {
	resolver := &net.Resolver{PreferGo: true} // which asks for CNAMEs, too
	if len(c.settings.Servers) > 0 {
		resolver = c.resolver(c.settings.Servers[0])
	}
	for range delegations {
		target, err := resolver.LookupCNAME(ctx, record+".")
		target = strings.ToLower(strings.TrimSuffix(target, "."))
		if err != nil || target == "" || target == record {
			break
		}
		record = target
	}
	return record
}

// removeRecords removes every value that an attempt may have written.
func (c *CA) removeRecords(ctx context.Context, s state) error {
	var records []proof
	for _, p := range s.Proofs {
		if p.Type == challengeDNS && p.Value != "" {
			records = append(records, p)
		}
	}
	return c.writeRecords(ctx, records, provider.Remove)
}

// writeRecords does something to records, zone by zone: of all replicas, one
// writes to a zone at a time, since providers read, change and write back.
func (c *CA) writeRecords(ctx context.Context, proofs []proof, do write) error {
	byZone := map[string][]proof{}
	for _, p := range proofs {
		zone := zoneOf(p.Record)
		byZone[zone] = append(byZone[zone], p)
	}
	for zone, records := range byZone {
		err := c.store.LockedOnce(ctx, "dns-zone "+zone, func(ctx context.Context) error {
			for _, p := range records {
				if err := c.writeRecord(ctx, p, do); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *CA) writeRecord(ctx context.Context, p proof, do write) error {
	rule, ok := c.settings.rule(p.Name)
	kind, known := providerKind(rule.Provider)
	if !ok || !known {
		return misconfigured(nil, "no rule under challenges says how %s is written", p.Record)
	}
	writer, err := kind.open(c, rule.Config)
	if err != nil {
		return misconfigured(err, "the DNS provider %s cannot be used: %s", rule.Provider, certctl.ErrorMessage(err))
	}
	if err := do(writer, ctx, p); err != nil {
		return &certctl.IssueError{
			Kind: certctl.FailRetryable, Code: "acme_dns_provider", Resume: true, Cause: err,
			Message: "the DNS provider " + rule.Provider + " could not write " + p.Record + ": " + certctl.ErrorMessage(err),
		}
	}
	return nil
}

// zoneOf is the registered domain of a record: no zone that a provider writes to is
// larger.
func zoneOf(record string) string {
	zone, err := publicsuffix.EffectiveTLDPlusOne(record)
	if err != nil {
		return record
	}
	return zone
}

// spread waits until the DNS servers show every value, and then as long as the
// settings say.
func (a *attempt) spread(ctx context.Context) (step, error) {
	records := a.state.open(challengeDNS)
	for _, p := range records {
		shown, err := a.ca.shows(ctx, p.Record, p.Value)
		if err != nil {
			return "", &certctl.IssueError{
				Kind: certctl.FailRetryable, Code: "acme_dns_servers", Resume: true, Cause: err,
				Message: "the DNS servers of " + p.Record + " cannot be asked: " + certctl.ErrorMessage(err),
			}
		}
		if !shown {
			after := min(2*time.Second<<min(a.state.Polls, 5), time.Minute)
			return "", &certctl.Pause{After: after, Wait: certctl.WaitDNS, Message: "not all DNS servers show " + p.Record + " yet"}
		}
	}
	if rest := a.restOfSpread(time.Now()); rest > 0 && len(records) > 0 {
		return "", &certctl.Pause{
			After: rest, Wait: certctl.WaitDNS,
			Message: "the DNS servers show " + records[0].Record + "; the CA is told " + time.Duration(a.ca.settings.Spread).String() + " later (dns_propagation_wait of the issuer)",
		}
	}
	if err := a.published(ctx, a.state.offered(a.session.meta().known())); err != nil {
		return "", err
	}
	return stepAccept, nil
}

// restOfSpread is how much later the CA is told, which begins when it is first asked
// for: whatever has the order looked at before does not shorten it, settings that ask
// for less do.
func (a *attempt) restOfSpread(now time.Time) time.Duration {
	wait := time.Duration(a.ca.settings.Spread)
	if wait > 0 && !a.state.Shown {
		a.state.Shown, a.state.TellAt = true, now.Add(wait)
	}
	return min(a.state.TellAt.Sub(now), wait)
}

// shows reports whether all servers that count show a value.
func (c *CA) shows(ctx context.Context, record, value string) (bool, error) {
	all := true
	err := c.eachServer(ctx, record, func(_ string, values []string) bool {
		all = slices.Contains(values, value)
		return all
	})
	return all && err == nil, err
}

// eachServer asks the servers that count for a TXT record, until look has seen
// enough. One that does not answer is passed over if another does: so do CAs.
func (c *CA) eachServer(ctx context.Context, record string, look func(server string, values []string) bool) error {
	servers := c.settings.Servers
	if len(servers) == 0 {
		var err error
		if servers, err = c.authoritative(ctx, record); err != nil {
			return err
		}
	}
	var dead error
	answered := false
	for _, server := range servers {
		values, err := c.resolver(server).LookupTXT(ctx, record+".")
		var no *net.DNSError
		if err != nil && (!errors.As(err, &no) || !no.IsNotFound) {
			dead = certctl.Wrap(certctl.Unavailable, err, "%s does not answer", server)
			continue
		}
		answered = true
		if !look(server, values) {
			return nil
		}
	}
	if answered {
		return nil
	}
	return dead
}

// authoritative finds the servers of the zone that holds a record.
func (c *CA) authoritative(ctx context.Context, record string) ([]string, error) {
	for name := record; strings.Contains(name, "."); {
		found, err := net.DefaultResolver.LookupNS(ctx, name+".")
		if err == nil && len(found) > 0 {
			var servers []string
			for _, ns := range found {
				addresses, err := net.DefaultResolver.LookupNetIP(ctx, "ip", ns.Host)
				if err != nil || len(addresses) == 0 {
					continue
				}
				servers = append(servers, netip.AddrPortFrom(addresses[0].Unmap(), 53).String())
			}
			if len(servers) > 0 {
				return servers, nil
			}
		}
		_, name, _ = strings.Cut(name, ".")
	}
	return nil, certctl.Errorf(certctl.Unavailable, "no name server of %s was found", record).
		WithRemedy("name the servers to ask under dns_servers")
}

// resolver asks one server, if the policy allows to.
func (c *CA) resolver(server string) *net.Resolver {
	dialer := c.policy.Dialer()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return dialer.DialContext(ctx, network, server)
	}}
}
