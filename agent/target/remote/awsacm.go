package remote

import (
	"context"
	"encoding/pem"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/acm"
	"github.com/aws/aws-sdk-go-v2/service/acm/types"
	"github.com/certctl/certctl"
)

// How ours are marked.
const (
	tagTarget = "certctl-target" // its id: another installation may have one of the same name
	tagName   = "certctl-target-name"
	tagPlace  = "certctl-place"
)

// acmDepot is AWS Certificate Manager in one region of one account. A certificate
// there has an ARN, which listeners name, and keeps it when another one is imported
// over it.
type acmDepot struct {
	client *acm.Client
	target string // its name, for people
	id     string // whose are ours
	now    func() time.Time

	mu      sync.Mutex
	found   map[string]string // ARNs of ours by name, guarded by mu
	foundAt time.Time         // guarded by mu
}

var _ depot = (*acmDepot)(nil)

// foundFor is how long what was found counts. To find ours takes a request for each
// certificate of the account, and a batch may ask for many; what this target makes
// meanwhile it notes itself.
const foundFor = 5 * time.Minute

// find looks through the tags of everything that was imported: only for what this
// node has no note of.
func (d *acmDepot) find(ctx context.Context, name string) (string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.found == nil || d.now().Sub(d.foundAt) > foundFor {
		found, err := d.ours(ctx)
		if err != nil {
			return "", err
		}
		d.found, d.foundAt = found, d.now()
	}
	return d.found[name], nil
}

func (d *acmDepot) ours(ctx context.Context) (map[string]string, error) {
	found := map[string]string{}
	// Without a filter only RSA keys up to 2048 bits are listed.
	pages := acm.NewListCertificatesPaginator(d.client, &acm.ListCertificatesInput{Includes: &types.Filters{KeyTypes: types.KeyAlgorithm("").Values()}})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, acmError("ListCertificates", err)
		}
		for _, c := range page.CertificateSummaryList {
			if c.Type != types.CertificateTypeImported {
				continue
			}
			arn := aws.ToString(c.CertificateArn)
			name, err := d.nameOf(ctx, arn)
			if err != nil && certctl.ErrorCode(err) != certctl.NotFound {
				return nil, err
			}
			if name != "" {
				found[name] = arn
			}
		}
	}
	return found, nil
}

// nameOf is what one of ours is for; "" for those of others.
func (d *acmDepot) nameOf(ctx context.Context, arn string) (string, error) {
	out, err := d.client.ListTagsForCertificate(ctx, &acm.ListTagsForCertificateInput{CertificateArn: &arn})
	if err != nil {
		return "", acmError("ListTagsForCertificate", err)
	}
	tags := map[string]string{}
	for _, tag := range out.Tags {
		tags[aws.ToString(tag.Key)] = aws.ToString(tag.Value)
	}
	if tags[tagTarget] != d.id {
		return "", nil
	}
	return nameOfTag(tags[tagPlace]), nil
}

// tagValue is a name without what a tag cannot have, and what no name has instead.
func tagValue(name string) string { return strings.NewReplacer("*", "+", "~", "/").Replace(name) }

func nameOfTag(value string) string { return strings.NewReplacer("+", "*", "/", "~").Replace(value) }

// get asks for the certificate, what uses it and whose it is.
func (d *acmDepot) get(ctx context.Context, arn, name string) (held, error) {
	h := held{id: arn}
	described, err := d.client.DescribeCertificate(ctx, &acm.DescribeCertificateInput{CertificateArn: &arn})
	if err != nil {
		return h, acmError("DescribeCertificate", err)
	}
	if described.Certificate == nil || described.Certificate.Type != types.CertificateTypeImported {
		return h, certctl.Errorf(certctl.Conflict, "%s was not imported: ACM made it, and renews it itself", arn).
			WithRemedy("have the listener name another certificate")
	}
	h.used = len(described.Certificate.InUseBy) > 0
	got, err := d.client.GetCertificate(ctx, &acm.GetCertificateInput{CertificateArn: &arn})
	if err != nil {
		return h, acmError("GetCertificate", err)
	}
	if block, _ := pem.Decode([]byte(aws.ToString(got.Certificate))); block != nil {
		h.leaf = block.Bytes
		h.facts, err = certctl.ParseLeaf(block.Bytes)
	}
	if err != nil || h.leaf == nil {
		return h, certctl.Errorf(certctl.Unavailable, "what ACM tells of %s is no certificate", arn)
	}
	for block, rest := pem.Decode([]byte(aws.ToString(got.CertificateChain))); block != nil; block, rest = pem.Decode(rest) {
		h.chain = append(h.chain, block.Bytes)
	}
	madeFor, err := d.nameOf(ctx, arn)
	h.ours = madeFor == name
	return h, err
}

// put imports over what has the ARN. Tags are given once: ACM takes none with that.
func (d *acmDepot) put(ctx context.Context, arn, name string, c contents) (string, error) {
	in := &acm.ImportCertificateInput{
		Certificate: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Leaf}),
		PrivateKey:  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: c.Key}),
	}
	for _, der := range c.Chain {
		in.CertificateChain = append(in.CertificateChain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	if arn != "" {
		in.CertificateArn = &arn
	} else {
		in.Tags = []types.Tag{
			{Key: aws.String(tagTarget), Value: &d.id}, {Key: aws.String(tagName), Value: aws.String(tagValue(d.target))},
			{Key: aws.String(tagPlace), Value: aws.String(tagValue(name))},
		}
	}
	out, err := d.client.ImportCertificate(ctx, in, func(o *acm.Options) {
		if arn == "" {
			o.Retryer = awsRetryer(true)
		}
	})
	if err == nil && aws.ToString(out.CertificateArn) == "" {
		err = certctl.Errorf(certctl.Unavailable, "ACM has imported the certificate and does not say where")
	}
	if err != nil {
		d.made(name, "")
		return "", acmError("ImportCertificate", err)
	}
	d.made(name, *out.CertificateArn)
	return *out.CertificateArn, nil
}

// made adds to what was found; with no ARN nobody knows what there is.
func (d *acmDepot) made(name, arn string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case arn == "":
		d.found = nil
	case d.found != nil:
		d.found[name] = arn
	}
}

// remove is refused by ACM while something uses the certificate.
func (d *acmDepot) remove(ctx context.Context, arn string) error {
	_, err := d.client.DeleteCertificate(ctx, &acm.DeleteCertificateInput{CertificateArn: &arn})
	if err != nil {
		return acmError("DeleteCertificate", err)
	}
	return nil
}

// takes refuses kinds of keys that ACM does not know.
func (*acmDepot) takes(leaf certctl.Leaf) error {
	switch leaf.Algorithm {
	case certctl.RSA2048, certctl.RSA3072, certctl.RSA4096, certctl.ECDSAP256, certctl.ECDSAP384:
		return nil
	}
	return certctl.Errorf(certctl.Invalid, "ACM takes no key of kind %s", leaf.Algorithm).
		WithRemedy("give the certificate a profile with an RSA key or one on a NIST curve")
}
