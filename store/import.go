package store

import (
	"context"
	"crypto/x509"
	"encoding/binary"
	"time"

	"github.com/certctl/certctl"
)

// ImportCertificate records a certificate that exists, as the first version of
// a new one. Its holder is the client that brought it.
//
// With its key it has key mode imported: it is deployed to its targets as it is.
// When it is renewed by an issuer here, the nodes make their own keys from then
// on (see adopt); without an issuer it is watched, and renewed elsewhere. Without
// its key it has key mode csr: the client sends a request when it is due.
func (s *Store) ImportCertificate(ctx context.Context, actor certctl.Actor, request certctl.ImportRequest) (certctl.Certificate, error) {
	leaf, err := readLeaf(request.Leaf)
	if err != nil {
		return certctl.Certificate{}, err
	}
	if err := completeImport(&request, leaf); err != nil {
		return certctl.Certificate{}, err
	}
	var made certctl.Certificate
	err = s.submitting(ctx, actor, func(t *tx) error {
		sub := &submission{CertificateRequest: request.CertificateRequest, id: certctl.NewID(t.now), imported: true, holder: request.Holder}
		if err := t.submit(ctx, []*submission{sub}); err != nil {
			return err
		}
		if sub.err != nil {
			return sub.err
		}
		if err := t.importVersion(ctx, sub, leaf, request); err != nil {
			return err
		}
		if err := t.refreshStatus(ctx, sub.id); err != nil {
			return err
		}
		made, err = t.certificate(ctx, sub.id)
		return err
	})
	return made, err
}

// readLeaf reads a certificate that may be imported.
func readLeaf(der []byte) (certctl.Leaf, error) {
	leaf, err := certctl.ParseLeaf(der)
	if err != nil {
		return leaf, certctl.InvalidField("/certificate", "%s", certctl.ErrorMessage(err))
	}
	parsed, err := x509.ParseCertificate(der)
	switch {
	case err != nil:
		return leaf, certctl.InvalidField("/certificate", "not an X.509 certificate")
	case parsed.IsCA:
		return leaf, certctl.InvalidField("/certificate", "this is a CA's certificate, not a leaf")
	case parsed.SerialNumber.Sign() <= 0:
		return leaf, certctl.InvalidField("/certificate", "its serial number is not positive (RFC 5280 section 4.1.2.2)")
	}
	return leaf, nil
}

// completeImport fills in what the leaf and the presence of its key decide.
func completeImport(request *certctl.ImportRequest, leaf certctl.Leaf) error {
	mode := certctl.KeyModeCSR
	if len(request.SealedKey) > 0 {
		mode = certctl.KeyModeImported
	}
	if request.KeyMode != "" && request.KeyMode != mode {
		return certctl.InvalidField("/key_mode", "an import has key mode imported with its key, csr without")
	}
	if request.CSR != nil {
		return certctl.InvalidField("/csr", "an import brings its certificate: there is nothing to request")
	}
	if len(request.SealedKey) > 0 && request.Holder.IsZero() {
		return certctl.Errorf(certctl.Internal, "an imported key was sealed for no holder")
	}
	request.KeyMode, request.Origin = mode, certctl.OriginImport
	if request.Names.Len() == 0 {
		request.Names = leaf.Names
	}
	names, err := request.Names.Normalize()
	if err != nil {
		return err
	}
	if !names.Equal(leaf.Names) {
		return certctl.InvalidField("/dns_names", "the certificate is for %v", leaf.Names.Strings()).
			WithRemedy("leave the names out, or change them after the import")
	}
	return nil
}

// importVersion stores the leaf as the version of the submission's only holder,
// and sends it to the targets.
func (t *tx) importVersion(ctx context.Context, sub *submission, leaf certctl.Leaf, request certctl.ImportRequest) error {
	if err := t.newToUs(ctx, leaf.Fingerprint, leaf.SPKI); err != nil {
		return err
	}
	renewAt, err := t.importedRenewAt(ctx, sub, leaf)
	if err != nil {
		return err
	}
	chain := request.Chain
	if chain == nil {
		chain = certctl.Chain{}
	}
	if err := t.put(ctx, `insert into chain (digest, certs) values ($1, $2) on conflict do nothing`,
		chain.Digest(), [][]byte(chain)); err != nil {
		return err
	}
	holder, version := sub.holders[0].id, certctl.NewID(t.now)
	issuer, err := t.importedFrom(ctx, sub, request)
	if err != nil {
		return err
	}
	if err := t.put(ctx, `
		insert into version (id, certificate_id, holder_id, revision, serial, fingerprint, spki, algorithm,
			not_before, not_after, leaf, chain_digest, origin, renew_at, issuer_id)
		values ($1, $2, $3, 1, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)`,
		version, sub.id, holder, string(leaf.Serial), leaf.Fingerprint, leaf.SPKI, string(leaf.Algorithm),
		leaf.NotBefore, leaf.NotAfter, request.Leaf, chain.Digest(), string(certctl.VersionImported), renewAt, issuer); err != nil {
		return err
	}
	if err := t.put(ctx, `update holder set version_id = $2, sealed_key = $3 where id = $1`, holder, version, request.SealedKey); err != nil {
		return err
	}
	t.event(sub.team, certctl.AggregateCertificate, sub.id, certctl.EventCertificateImported, map[string]any{
		"certificate": sub.id, "name": sub.Name, "version": version, "serial": leaf.Serial, "fingerprint": leaf.Fingerprint,
		"not_after": leaf.NotAfter, "with_key": len(request.SealedKey) > 0,
	})
	if !renewAt.IsZero() {
		if err := t.due(ctx, holderDue(holder, renewAt, leaf.NotAfter, t.now)); err != nil {
			return err
		}
	}
	if !issuer.IsZero() {
		at := certctl.FirstRenewalInfo(leaf.NotBefore, leaf.NotAfter, t.now, spreadOf(sub.id))
		if err := t.due(ctx, renewalInfoDue(version, issuer, at)); err != nil {
			return err
		}
	}
	if err := t.watchVersions(ctx, version); err != nil {
		return err
	}
	specs := make([]deploymentSpec, len(sub.bindings))
	for i, b := range sub.bindings {
		specs[i] = deploymentSpec{sub.id, b.id, b.target.id, b.target.agent, version}
	}
	return t.newDeployments(ctx, specs)
}

// importedFrom is the issuer that has issued an import: it is asked when to renew
// the leaf, told what replaces it, and can revoke it. What our own CA has issued
// is known here, or was lost, and comes back another way.
func (t *tx) importedFrom(ctx context.Context, sub *submission, request certctl.ImportRequest) (certctl.ID, error) {
	if !request.Issued {
		return certctl.NoID, nil
	}
	if len(sub.issuers) == 0 {
		return certctl.NoID, certctl.InvalidField("/issued_by_issuer", "names no issuer: say which under issuer")
	}
	issuer, err := t.issuer(ctx, sub.issuers[0].id)
	if err == nil && issuer.Kind == certctl.IssuerLocal {
		err = certctl.InvalidField("/issued_by_issuer", "is for CAs that are not ours: what %s issues is recorded when it is issued", issuer.Name)
	}
	return issuer.ID, err
}

// newToUs refuses a leaf that is known already, and one with a blocked key.
func (t *tx) newToUs(ctx context.Context, fingerprint, spki certctl.Digest) error {
	var owners []string
	if err := t.QueryRow(ctx, `
		select array(select c.name from version v join certificate c on c.id = v.certificate_id where v.fingerprint = $1)`,
		fingerprint).Scan(&owners); err != nil {
		return err
	}
	if len(owners) > 0 {
		return certctl.Errorf(certctl.Conflict, "this certificate is known already: it is a version of %s", owners[0])
	}
	blocked, err := t.blockedKeys(ctx, []certctl.Digest{spki})
	if reason, ok := blocked[spki]; ok {
		return certctl.InvalidField("/certificate", "%s", blockedKey(reason))
	}
	return err
}

// importedRenewAt returns when an import is due; never without an issuer.
func (t *tx) importedRenewAt(ctx context.Context, sub *submission, leaf certctl.Leaf) (time.Time, error) {
	if len(sub.issuers) == 0 {
		return time.Time{}, nil
	}
	policy, err := t.policy(ctx, sub.policy.id)
	if err != nil {
		return time.Time{}, err
	}
	at, _ := certctl.RenewAt(leaf.NotBefore, leaf.NotAfter, policy, spreadOf(sub.id))
	return at, nil
}

// holderDue is the row that brings a holder up for renewal.
func holderDue(holder certctl.ID, at, notAfter, now time.Time) dueRow {
	return dueRow{kind: dueHolder, id: holder, verb: certctl.HintRenew, at: at,
		urgency: certctl.RenewalUrgency(notAfter, maxTime(at, now))}
}

func maxTime(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// spreadOf returns a number in [0,1) out of an id's random bits. It spreads
// renewals as a random number would, and is the same whenever it is asked for.
func spreadOf(id certctl.ID) float64 {
	return float64(binary.BigEndian.Uint64(id[8:])<<2>>11) / (1 << 53)
}
