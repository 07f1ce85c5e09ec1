// Package local asks a CA that this installation runs itself. Nothing external
// happens between preparing and signing, so a batch is two commits and CPU.
package local

import (
	"bytes"
	"context"
	"encoding/json"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/handlers/ca"
)

// Settings of an issuer of this kind. They take effect when its authorities are
// made, and cannot be changed afterwards.
type Settings struct {
	Authority ca.Options `json:"authority"`
}

// ParseSettings reads settings; unknown fields are refused.
func ParseSettings(raw json.RawMessage) (Settings, error) {
	var settings Settings
	if len(raw) == 0 {
		return settings, nil
	}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&settings); err != nil {
		return settings, certctl.InvalidField("/settings", "not the settings of a local issuer: %s", certctl.Clip(err.Error(), 200))
	}
	return settings, nil
}

// Validate refuses settings that no authority can be made with.
func Validate(raw json.RawMessage) error {
	settings, err := ParseSettings(raw)
	if err != nil {
		return err
	}
	return settings.Authority.Validate()
}

// CA is an issuer's active authority.
type CA struct{ authority *ca.Authority }

// New returns the CA that signs with an authority. Blocked keys do not get this
// far: the store accepts no CSR for one.
func New(authority *ca.Authority) *CA { return &CA{authority: authority} }

// Prepare builds the to-be-signed bytes. An attempt whose worker died is built
// again from what it recorded; when that comes out the same, signing it gives
// the same certificate, and otherwise a new serial number is drawn.
func (c *CA) Prepare(_ context.Context, job certctl.IssueJob, at time.Time) (certctl.Asking, error) {
	asking := certctl.Asking{Start: certctl.AttemptStart{Authority: c.authority.ID}}
	spki, err := certctl.KeyOfCSR(job.Order.CSR)
	if err != nil {
		return asking, certctl.Wrap(certctl.Internal, err, "the order's CSR cannot be read")
	}
	request := ca.Request{Names: job.Order.Names, SPKI: spki, Profile: job.Order.Profile, At: at}
	prepared, err := c.resume(job.Previous, request)
	if prepared != nil {
		asking.Start.Serial, asking.Start.Resume = job.Previous.Serial, job.Previous.N
	} else {
		asking.Start.Serial = certctl.SerialOf(ca.NewSerial())
		request.Serial = asking.Start.Serial
		prepared, err = c.authority.Prepare(request)
	}
	if err != nil {
		return asking, err
	}
	asking.Start.TBSDigest = prepared.Digest
	asking.Ask = func(context.Context, certctl.Attempt) (certctl.Issued, error) {
		leaf, _, err := prepared.Sign()
		return certctl.Issued{Leaf: leaf, Chain: c.authority.Chain, Signed: true}, err
	}
	return asking, nil
}

// resume prepares what a lost attempt recorded, or returns nil.
func (c *CA) resume(previous *certctl.Attempt, request ca.Request) (*ca.Prepared, error) {
	if previous == nil || previous.Authority != c.authority.ID || previous.Serial == "" {
		return nil, nil
	}
	request.Serial = previous.Serial
	prepared, err := c.authority.Prepare(request)
	if err != nil || prepared.Digest != previous.TBSDigest {
		return nil, err
	}
	return prepared, nil
}

// Revoke is done with the record: the lists are signed from it.
func (c *CA) Revoke(context.Context, certctl.RevocationJob) error { return nil }
