package remote

import (
	"context"
	"encoding/pem"
	"net/http"
	"net/url"
	"strings"

	"github.com/certctl/certctl"
)

// gcpDepot is the certificates of one location of a project, self-managed as Google
// calls them. Their names are those of places, so that nothing has to be found.
type gcpDepot struct {
	api           *gcpClient
	parent, scope string
	target        string // its name, for people
	owner         string // its id, whose are ours
}

var _ depot = (*gcpDepot)(nil)

// gcpCertificate is a certificate, as far as it matters here.
type gcpCertificate struct {
	Name           string            `json:"name,omitempty"`
	Description    string            `json:"description,omitempty"`
	Labels         map[string]string `json:"labels,omitempty"`
	Scope          string            `json:"scope,omitempty"`
	SelfManaged    *gcpSelfManaged   `json:"selfManaged,omitempty"`
	Managed        *struct{}         `json:"managed,omitempty"`
	ManagedBy      *struct{}         `json:"managedIdentity,omitempty"`
	PEMCertificate string            `json:"pemCertificate,omitempty"`
	UsedBy         []struct {
		Name string `json:"name"`
	} `json:"usedBy,omitempty"`
}

type gcpSelfManaged struct {
	PEMCertificate string `json:"pemCertificate,omitempty"`
	PEMPrivateKey  string `json:"pemPrivateKey,omitempty"`
}

func (d *gcpDepot) id(name string) string { return d.parent + "/certificates/" + name }

// gcpCalled is what the certificate of a place or slot is called at Google.
func gcpCalled(name string) string { return strings.Replace(name, "~", "-", 1) }

// placeLabel tells places and slots apart, which names at Google do not: shop-ecdsa may
// be a place, or a slot of shop.
func placeLabel(name string) string { return strings.Replace(name, "~", "_", 1) }

// find looks whether there is one of the place's name.
func (d *gcpDepot) find(ctx context.Context, name string) (string, error) {
	called := gcpCalled(name)
	if !gcpName.MatchString(called) {
		return "", certctl.Errorf(certctl.Invalid, "no certificate of Google's can be called %s", certctl.Clip(called, 100)).
			WithRemedy("bind the certificate to a place of at most 63 lower-case letters, digits and -, with a letter first")
	}
	if _, err := d.get(ctx, d.id(called), name); certctl.ErrorCode(err) == certctl.NotFound {
		return "", nil
	} else if err != nil {
		return "", err
	}
	return d.id(called), nil
}

func (d *gcpDepot) get(ctx context.Context, id, name string) (held, error) {
	h := held{id: id}
	var c gcpCertificate
	if err := d.api.call(ctx, "get", http.MethodGet, id, nil, nil, &c); err != nil {
		return h, err
	}
	if c.Managed != nil || c.ManagedBy != nil {
		return h, certctl.Errorf(certctl.Conflict, "%s is managed by Google, which renews it itself", id).WithRemedy("bind another place")
	}
	h.ours, h.used = c.Labels[tagTarget] == d.owner && c.Labels[tagPlace] == placeLabel(name), len(c.UsedBy) > 0
	for block, rest := pem.Decode([]byte(c.PEMCertificate)); block != nil; block, rest = pem.Decode(rest) {
		if h.leaf == nil {
			h.leaf = block.Bytes
		} else {
			h.chain = append(h.chain, block.Bytes)
		}
	}
	var err error
	if h.facts, err = certctl.ParseLeaf(h.leaf); err != nil {
		return h, certctl.Wrap(certctl.Unavailable, err, "what Google tells of %s is no certificate", id)
	}
	return h, nil
}

// put makes one with our label, or changes nothing but the certificate and its key.
func (d *gcpDepot) put(ctx context.Context, id, name string, c contents) (string, error) {
	body := gcpCertificate{SelfManaged: &gcpSelfManaged{
		PEMCertificate: string(c.Chain.PEM(c.Leaf)), PEMPrivateKey: string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: c.Key})),
	}}
	if id != "" {
		return id, d.api.operate(ctx, "update", http.MethodPatch, id, url.Values{"updateMask": {"selfManaged"}}, body)
	}
	called := gcpCalled(name)
	body.Description, body.Scope = "certctl target "+d.target, d.scope
	body.Labels = map[string]string{tagTarget: d.owner, tagPlace: placeLabel(name)}
	return d.id(called), d.api.operate(ctx, "create", http.MethodPost, d.parent+"/certificates", url.Values{"certificateId": {called}}, body)
}

// remove is refused by Google while something uses the certificate.
func (d *gcpDepot) remove(ctx context.Context, id string) error {
	return d.api.operate(ctx, "delete", http.MethodDelete, id, nil, nil)
}

// takes refuses kinds of keys that load balancers of Google do not serve.
func (*gcpDepot) takes(leaf certctl.Leaf) error {
	switch leaf.Algorithm {
	case certctl.RSA2048, certctl.RSA3072, certctl.RSA4096, certctl.ECDSAP256, certctl.ECDSAP384:
		return nil
	}
	return certctl.Errorf(certctl.Invalid, "Google takes no key of kind %s", leaf.Algorithm).
		WithRemedy("give the certificate a profile with an RSA key or one on a NIST curve")
}
