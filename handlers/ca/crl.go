package ca

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"time"

	"github.com/certctl/certctl"
)

// Times of a list: it is signed anew daily and at once on a change, and may be
// relied on for a week.
const (
	CRLValidity = 7 * certctl.Day
	CRLRenewal  = certctl.Day
)

// issuingDistributionPoint is the extension of RFC 5280 section 5.2.5.
type issuingDistributionPoint struct {
	DistributionPoint distributionPointName `asn1:"optional,tag:0"`
}

type distributionPointName struct {
	FullName []asn1.RawValue `asn1:"optional,tag:0"`
}

var oidIssuingDistributionPoint = asn1.ObjectIdentifier{2, 5, 29, 28}

// SignCRL signs the list of a shard, or with certctl.CompleteCRL the one of all
// entries, which names no distribution point and which servers read from a file.
func (a *Authority) SignCRL(shard int, number int64, entries []certctl.RevokedEntry, now time.Time) (certctl.CRL, error) {
	list := certctl.CRL{
		Authority: a.ID, Shard: shard, Number: number,
		ThisUpdate: now.UTC().Truncate(time.Second), NextUpdate: now.Add(CRLValidity).UTC().Truncate(time.Second),
	}
	template := &x509.RevocationList{Number: big.NewInt(number), ThisUpdate: list.ThisUpdate, NextUpdate: list.NextUpdate}
	if shard != certctl.CompleteCRL {
		point, err := distributionPoint(a.ShardURL(shard))
		if err != nil {
			return list, err
		}
		template.ExtraExtensions = []pkix.Extension{point}
	}
	for _, entry := range entries {
		code, _ := entry.Reason.Code() // unknown ones are 0, unspecified
		template.RevokedCertificateEntries = append(template.RevokedCertificateEntries, x509.RevocationListEntry{
			SerialNumber: entry.Serial.Int(), RevocationTime: entry.RevokedAt.UTC().Truncate(time.Second), ReasonCode: code,
		})
	}
	der, err := x509.CreateRevocationList(rand.Reader, template, a.Certificate, a.key)
	if err != nil {
		return list, certctl.Wrap(certctl.Internal, err, "the revocation list cannot be signed")
	}
	list.DER = der
	return list, nil
}

// distributionPoint says which certificates a list is about; critical, so that
// a list cannot stand in for another one.
func distributionPoint(url string) (pkix.Extension, error) {
	value, err := asn1.Marshal(issuingDistributionPoint{DistributionPoint: distributionPointName{
		FullName: []asn1.RawValue{{Class: asn1.ClassContextSpecific, Tag: 6, Bytes: []byte(url)}},
	}})
	if err != nil {
		return pkix.Extension{}, certctl.Wrap(certctl.Internal, err, "the distribution point cannot be encoded")
	}
	return pkix.Extension{Id: oidIssuingDistributionPoint, Critical: true, Value: value}, nil
}

// SameEntries reports whether a signed list holds exactly the serial numbers of
// entries.
func SameEntries(der []byte, entries []certctl.RevokedEntry) bool {
	list, err := x509.ParseRevocationList(der)
	if err != nil || len(list.RevokedCertificateEntries) != len(entries) {
		return false
	}
	listed := make(map[certctl.Serial]bool, len(entries))
	for _, entry := range list.RevokedCertificateEntries {
		listed[certctl.SerialOf(entry.SerialNumber)] = true
	}
	for _, entry := range entries {
		if !listed[entry.Serial] {
			return false
		}
	}
	return true
}
