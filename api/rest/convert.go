package rest

import (
	"encoding/json"
	"net/netip"
	"strconv"
	"strings"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/api/rest/internal/gen"
	"github.com/oapi-codegen/nullable"
)

// each converts the items of a page; an empty list is [] and not null.
func each[From, To any](items []From, convert func(From) To) []To {
	out := make([]To, len(items))
	for i, item := range items {
		out[i] = convert(item)
	}
	return out
}

func pageRequest(cursor string, limit int) certctl.PageRequest {
	return certctl.PageRequest{Cursor: cursor, Limit: limit}
}

// idempotency returns the key with a hash of what was asked.
func idempotency(key, operation string, body any) (certctl.Idempotency, error) {
	if key == "" {
		return certctl.Idempotency{}, nil
	}
	encoded, err := json.Marshal(body)
	if err != nil {
		return certctl.Idempotency{}, certctl.Wrap(certctl.Internal, err, "the request cannot be encoded")
	}
	return certctl.Idempotency{Key: key, Hash: certctl.DigestOf(append([]byte(operation+"\x00"), encoded...))}, nil
}

// etag is a strong validator (RFC 9110 section 8.8.3) of a revision.
func etag(revision int64) string { return `"` + strconv.FormatInt(revision, 10) + `"` }

// ifMatch reads an If-Match header; 0 means that none or any is required.
func ifMatch(header string) (int64, error) {
	if header == "" || header == "*" {
		return 0, nil
	}
	revision, err := strconv.ParseInt(strings.Trim(header, `"`), 10, 64)
	if err != nil || revision < 1 {
		return 0, certctl.InvalidField("If-Match", "send the ETag of the object as it was read")
	}
	return revision, nil
}

// labelFilter reads key=value pairs.
func labelFilter(pairs []string) (map[string]string, error) {
	labels := map[string]string{}
	for _, pair := range pairs {
		key, value, found := strings.Cut(pair, "=")
		if !found || key == "" {
			return nil, certctl.InvalidField("?label", "write key=value")
		}
		labels[key] = value
	}
	return labels, nil
}

// asField names the field that an error is about.
func asField(field string, err error) error {
	if certctl.ErrorCode(err) != certctl.Invalid {
		return err
	}
	var bad certctl.FieldErrors
	bad.AddError(field, err)
	return bad.Err()
}

// namesOf reads typed names; addresses that are none are fields of the error.
func namesOf(dns, ips, uris, emails []string) (certctl.Names, error) {
	names := certctl.Names{DNS: dns, URI: uris, Email: emails}
	var bad certctl.FieldErrors
	for i, text := range ips {
		addr, err := netip.ParseAddr(text)
		if err != nil {
			bad.Add("/ip_addresses/"+strconv.Itoa(i), "not an IP address")
			continue
		}
		names.IP = append(names.IP, addr)
	}
	clean, err := names.Normalize()
	bad.AddError("", err)
	return clean, bad.Err()
}

// certificateRequest reads a submission.
func certificateRequest(b gen.CertificateRequest) (certctl.CertificateRequest, error) {
	var bad certctl.FieldErrors
	names, err := namesOf(b.DNSNames, b.IPAddresses, b.Uris, b.EmailAddresses)
	bad.AddError("", err)
	request := certctl.CertificateRequest{
		Team: b.Team, Name: b.Name, Names: names, Issuers: b.Issuers, Profile: b.Profile, RenewalPolicy: b.RenewalPolicy,
		KeyMode: certctl.KeyMode(b.KeyMode), Sharing: certctl.Sharing(b.Sharing), Owner: b.Owner, Labels: b.Labels,
		Origin: certctl.OriginAPI,
	}
	if b.Issuer != "" {
		if len(b.Issuers) > 0 {
			bad.Add("/issuer", "give issuer or issuers, not both")
		}
		request.Issuers = []string{b.Issuer}
	}
	request.Bindings = bindings(b.Targets, b.Bindings)
	if b.CSR != "" {
		request.CSR, err = certctl.ParseCSR([]byte(b.CSR))
		bad.AddError("/csr", err)
	}
	return request, bad.Err()
}

func bindings(targets []string, more []gen.BindingRequest) []certctl.BindingRequest {
	var out []certctl.BindingRequest
	for _, target := range targets {
		out = append(out, certctl.BindingRequest{Target: target})
	}
	for _, binding := range more {
		out = append(out, bindingRequest(binding))
	}
	return out
}

func bindingRequest(b gen.BindingRequest) certctl.BindingRequest {
	return certctl.BindingRequest{Target: b.Target, Place: b.Place, Slot: certctl.Slot(b.Slot)}
}

// certificatePatch reads a change. Names of a type that the patch leaves out
// stay as they are.
func certificatePatch(b gen.CertificatePatch, current certctl.Certificate) (certctl.CertificatePatch, error) {
	patch := certctl.CertificatePatch{
		Issuers: given(b.Issuers), Profile: given(b.Profile), RenewalPolicy: given(b.RenewalPolicy),
		Owner: given(b.Owner), Labels: given(b.Labels),
	}
	if sharing := given(b.Sharing); sharing != nil {
		patch.Sharing = (*certctl.Sharing)(sharing)
	}
	if !b.DNSNames.IsSpecified() && !b.IPAddresses.IsSpecified() && !b.Uris.IsSpecified() && !b.EmailAddresses.IsSpecified() {
		return patch, nil
	}
	var ips []string
	for _, addr := range current.Names.IP {
		ips = append(ips, addr.String())
	}
	names, err := namesOf(or(b.DNSNames, current.Names.DNS), or(b.IPAddresses, ips),
		or(b.Uris, current.Names.URI), or(b.EmailAddresses, current.Names.Email))
	patch.Names = &names
	return patch, err
}

// given returns a pointer to a field that the request holds (null is the zero
// value), or nil.
func given[T any](field nullable.Nullable[T]) *T {
	if !field.IsSpecified() {
		return nil
	}
	var value T
	if !field.IsNull() {
		value = field.MustGet()
	}
	return &value
}

func or[T any](field nullable.Nullable[T], otherwise T) T {
	if value := given(field); value != nil {
		return *value
	}
	return otherwise
}

func refOf(r certctl.Ref) gen.Ref { return gen.Ref{ID: r.ID, Name: r.Name} }

func certificateOf(c certctl.Certificate) gen.Certificate {
	out := gen.Certificate{
		ID: c.ID, Name: c.Name, Team: c.Team, DNSNames: c.Names.DNS, Uris: c.Names.URI, EmailAddresses: c.Names.Email,
		Revision: c.Revision, Issuers: each(c.Issuers, refOf), Profile: refOf(c.Profile), RenewalPolicy: refOf(c.RenewalPolicy),
		KeyMode: string(c.KeyMode), Sharing: string(c.Sharing), Owner: c.Owner, Labels: c.Labels, Paused: c.Paused,
		Status:   gen.CertificateStatus{State: string(c.Status), Reason: c.StatusReason},
		NotAfter: c.NotAfter, CreatedAt: c.CreatedAt, UpdatedAt: c.UpdatedAt, ArchivedAt: c.ArchivedAt,
	}
	for _, addr := range c.Names.IP {
		out.IPAddresses = append(out.IPAddresses, addr.String())
	}
	for _, b := range c.Bindings {
		out.Bindings = append(out.Bindings, gen.Binding{Target: refOf(b.Target), Place: b.Place, Slot: string(b.Slot)})
	}
	return out
}

func orderURL(id certctl.ID) string { return "/api/v1/orders/" + id.String() }

func orderOf(o certctl.Order) gen.Order {
	return gen.Order{
		ID: o.ID, Certificate: o.Certificate, Holder: o.Holder, Revision: o.Revision, State: string(o.State),
		Wait: string(o.Wait), ErrorCode: o.ErrorCode, Message: o.Message, DueAt: o.DueAt, Origin: string(o.Origin),
		Override: o.Override, Issuer: o.Issuer, Version: o.Version, CreatedAt: o.CreatedAt, UpdatedAt: o.UpdatedAt, ClosedAt: o.ClosedAt,
		Maker: refOf(o.Maker),
	}
}

func attemptOf(a certctl.Attempt) gen.Attempt {
	return gen.Attempt{
		N: a.N, Issuer: a.Issuer, Authority: a.Authority, Worker: a.Worker, Serial: string(a.Serial),
		ExternalURL: a.ExternalURL, Outcome: string(a.Outcome), ErrorCode: a.ErrorCode, Message: a.Message,
		LeaseUntil: a.LeaseUntil, StartedAt: a.StartedAt, FinishedAt: a.FinishedAt,
		SpkiSha256: digestText(a.SPKI), Failure: string(a.Failure), RetryAt: a.RetryAt,
	}
}

// digestText is a digest in hex, or nothing where there is none.
func digestText(d certctl.Digest) string {
	if d.IsZero() {
		return ""
	}
	return d.String()
}

func versionOf(v certctl.Version) gen.Version {
	return gen.Version{
		ID: v.ID, Certificate: v.Certificate, Holder: v.Holder, Order: v.Order, Revision: v.Revision,
		Serial: string(v.Serial), FingerprintSha256: v.Fingerprint.String(), SpkiSha256: v.SPKI.String(),
		KeyAlgorithm: string(v.Algorithm), NotBefore: v.NotBefore, NotAfter: v.NotAfter, Issuer: v.Issuer,
		Authority: v.Authority, Origin: string(v.Origin), Purpose: string(v.Purpose), Replaces: v.Replaces,
		RenewAt: v.RenewAt, RevokedAt: v.RevokedAt, RevocationReason: string(v.Revocation), CreatedAt: v.CreatedAt,
		ChainURL: "/api/v1/versions/" + v.ID.String() + "/chain.pem",
	}
}

func deploymentOf(d certctl.Deployment) gen.Deployment {
	return gen.Deployment{
		ID: d.ID, Certificate: d.Certificate, Target: refOf(d.Target), Agent: d.Agent, Version: d.Version,
		State: string(d.State), Wait: string(d.Wait), Reason: d.Reason, Message: d.Message, Tries: d.Tries,
		DueAt: d.DueAt, VerifiedAt: d.VerifiedAt, CreatedAt: d.CreatedAt, UpdatedAt: d.UpdatedAt,
	}
}
