package remote

import (
	"context"
	"encoding/json"
	"maps"
	"net/url"
	"regexp"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/acm"
	"github.com/certctl/certctl"
	"github.com/certctl/certctl/agent/target"
)

var awsACMKind = target.Descriptor{
	Kind: "aws-acm", Title: "AWS Certificate Manager", Experimental: true, Hitless: true, Rollback: true, Probe: true, Parse: parseAWSACM,
}

// awsACMSettings are the settings of a target of kind aws-acm: a region of the
// account whose credentials the proxy has. They are never the server's to give:
// whose account takes the keys is for the node to say.
type awsACMSettings struct {
	Region string `json:"region"`
	// Endpoint is https://host, such as that of an interface endpoint; default: the region's.
	Endpoint string `json:"endpoint,omitempty"`
	// CAFile has the roots of the endpoint, a file of this node; default: the node's.
	CAFile string `json:"ca_file,omitempty"`
	// CredentialsFile is a file of this node, as AWS' tools write it, with the keys of
	// Profile; default: what the proxy's environment says, or its machine's role.
	CredentialsFile string `json:"credentials_file,omitempty"`
	Profile         string `json:"profile,omitempty"`
	// ARNs are those of certificates that are there already, by place.
	ARNs map[string]string `json:"arns,omitempty"`
	depotSettings
}

var (
	awsRegion  = regexp.MustCompile(`^[a-z]{2,5}(-[a-z]+)+-[0-9]{1,2}$`)
	awsProfile = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)
	acmARN     = regexp.MustCompile(`^arn:[a-z0-9-]+:acm:([a-z0-9-]+):[0-9]{12}:certificate/[A-Za-z0-9-]{1,64}$`)
)

// acmOpener is what the settings say, with the endpoint.
type acmOpener struct {
	awsACMSettings
	endpoint *url.URL
	address  string
}

func parseAWSACM(raw json.RawMessage) (target.Opener, error) {
	a := &acmOpener{awsACMSettings: awsACMSettings{depotSettings: depotSettings{WaitSeconds: defaultDepotWait}}}
	if err := decode(raw, &a.awsACMSettings); err != nil {
		return nil, err
	}
	var bad certctl.FieldErrors
	if !awsRegion.MatchString(a.Region) {
		bad.Add("/settings/region", "must be the name of a region, such as eu-central-1")
		return nil, bad.Err()
	}
	if err := a.findEndpoint(); err != nil {
		bad.AddError("/settings/endpoint", err)
	}
	if a.CAFile != "" {
		checkPath(&bad, "ca_file", a.CAFile)
	}
	if a.CredentialsFile != "" {
		checkPath(&bad, "credentials_file", a.CredentialsFile)
	} else if a.Profile != "" {
		bad.Add("/settings/profile", "is of a credentials_file, which is not set")
	}
	if a.Profile != "" && !awsProfile.MatchString(a.Profile) {
		bad.Add("/settings/profile", "must be the name of a profile")
	}
	for name, arn := range a.ARNs {
		if place, _ := ofSlot(name); certctl.CheckPlace(place) != nil {
			bad.Add("/settings/arns", "%q is no place, nor one with ~rsa or ~ecdsa", certctl.Clip(name, 80))
		}
		if part := acmARN.FindStringSubmatch(arn); part == nil || part[1] != a.Region {
			bad.Add("/settings/arns/"+name, "must be the ARN of a certificate of ACM in %s", a.Region)
		}
	}
	a.check(&bad)
	return a, bad.Err()
}

// findEndpoint takes the region's from AWS' own rules, unless one is given.
func (a *acmOpener) findEndpoint() error {
	if a.Endpoint == "" {
		found, err := acm.NewDefaultEndpointResolverV2().ResolveEndpoint(context.Background(), acm.EndpointParameters{Region: &a.Region})
		if err != nil {
			return certctl.Wrap(certctl.Invalid, err, "nobody knows that of %s: name it", a.Region)
		}
		a.endpoint = &found.URI
	} else {
		given, err := url.Parse(a.Endpoint)
		if err != nil || given.Scheme != "https" || given.User != nil || given.RawQuery != "" || given.Fragment != "" || given.Path != "" && given.Path != "/" {
			return certctl.Errorf(certctl.Invalid, "must be https://host:port")
		}
		a.endpoint = given
	}
	if a.address = hostPort(a.endpoint.Host, "443"); a.address == "" {
		return certctl.Errorf(certctl.Invalid, "must be https://host:port")
	}
	return nil
}

// Open holds the settings against the node's policy. AWS is asked nothing yet.
func (a *acmOpener) Open(name string, env target.Env) (target.Opened, error) {
	if err := allow(env.Policy, a.address, a.CAFile, a.CredentialsFile); err != nil {
		return nil, err
	}
	egress, err := newEgress(env.Policy, a.CAFile)
	if err != nil {
		return nil, err
	}
	login := &awsLogin{file: a.CredentialsFile, profile: a.Profile, region: a.Region, egress: egress, now: env.Now}
	d := &acmDepot{target: name, id: env.Target.String(), now: env.Now, client: acm.New(acm.Options{
		Region: a.Region, BaseEndpoint: aws.String(a.endpoint.String()), HTTPClient: egress.client(), Credentials: aws.NewCredentialsCache(login),
		Retryer: awsRetryer(false),
	})}
	return a.open(name, "aws-acm "+a.Region, maps.Clone(a.ARNs), d, env)
}
