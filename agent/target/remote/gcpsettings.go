package remote

import (
	"encoding/json"
	"net/url"
	"regexp"
	"strconv"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/agent/target"
)

var gcpCertificateKind = target.Descriptor{
	Kind: "gcp-certificate-manager", Title: "Google Cloud Certificate Manager", Experimental: true, Hitless: true, Rollback: true, Probe: true, Parse: parseGCPCertificate,
}

// gcpSettings are the settings of a target of kind gcp-certificate-manager: a
// location of a project.
type gcpSettings struct {
	Project  string `json:"project"`
	Location string `json:"location,omitempty"` // default: global
	// Scope is that of certificates that are made: DEFAULT, EDGE_CACHE or ALL_REGIONS.
	Scope string `json:"scope,omitempty"`
	// Endpoint is https://host; default: Google's.
	Endpoint string `json:"endpoint,omitempty"`
	// CAFile has the roots of the endpoint, a file of this node; default: the node's.
	CAFile string `json:"ca_file,omitempty"`
	// CredentialsFile is the key of a service account, a file of this node; default: the
	// account of the proxy's machine or pod.
	CredentialsFile string `json:"credentials_file,omitempty"`
	// Adopt are places, or such with ~rsa or ~ecdsa, whose certificates are there already, whoever made them.
	Adopt []string `json:"adopt,omitempty"`
	depotSettings
}

var (
	gcpProject  = regexp.MustCompile(`^[a-z0-9][a-z0-9.:-]{3,98}[a-z0-9]$`)
	gcpLocation = regexp.MustCompile(`^[a-z][a-z0-9-]{1,40}$`)
	gcpName     = regexp.MustCompile(`^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$`)
	gcpScope    = regexp.MustCompile(`^(DEFAULT|EDGE_CACHE|ALL_REGIONS)$`)
)

const gcpEndpoint = "https://certificatemanager.googleapis.com"

// gcpOpener is what the settings say, with the endpoint's address.
type gcpOpener struct {
	gcpSettings
	address string
}

func parseGCPCertificate(raw json.RawMessage) (target.Opener, error) {
	g := &gcpOpener{gcpSettings: gcpSettings{Location: "global", Scope: "DEFAULT", Endpoint: gcpEndpoint, depotSettings: depotSettings{WaitSeconds: defaultDepotWait}}}
	if err := decode(raw, &g.gcpSettings); err != nil {
		return nil, err
	}
	var bad certctl.FieldErrors
	if !gcpProject.MatchString(g.Project) {
		bad.Add("/settings/project", "must be the id of a project")
	}
	if !gcpLocation.MatchString(g.Location) {
		bad.Add("/settings/location", "must be global, or the name of a region")
	}
	if !gcpScope.MatchString(g.Scope) {
		bad.Add("/settings/scope", "must be DEFAULT, EDGE_CACHE or ALL_REGIONS")
	}
	given, err := url.Parse(g.Endpoint)
	if err == nil && given.Scheme == "https" && given.User == nil && given.RawQuery == "" && given.Fragment == "" && (given.Path == "" || given.Path == "/") {
		g.address = hostPort(given.Host, "443")
	}
	if g.address == "" {
		bad.Add("/settings/endpoint", "must be https://host:port")
	}
	for field, path := range map[string]string{"ca_file": g.CAFile, "credentials_file": g.CredentialsFile} {
		if path != "" {
			checkPath(&bad, field, path)
		}
	}
	for i, name := range g.Adopt {
		if place, _ := ofSlot(name); !gcpName.MatchString(place) || !gcpName.MatchString(gcpCalled(name)) {
			bad.Add("/settings/adopt/"+strconv.Itoa(i), "must be the name of a certificate")
		}
	}
	g.check(&bad)
	return g, bad.Err()
}

// Open holds the settings against the node's policy. Google is asked nothing yet.
func (g *gcpOpener) Open(name string, env target.Env) (target.Opened, error) {
	if err := allow(env.Policy, g.address, g.CAFile, g.CredentialsFile); err != nil {
		return nil, err
	}
	egress, err := newEgress(env.Policy, g.CAFile)
	if err != nil {
		return nil, err
	}
	parent := "projects/" + g.Project + "/locations/" + g.Location
	login := &gcpLogin{file: g.CredentialsFile, client: egress.client(), now: env.Now}
	d := &gcpDepot{parent: parent, scope: g.Scope, target: name, owner: env.Target.String(), api: &gcpClient{endpoint: "https://" + g.address, client: egress.client(), login: login}}
	ids := map[string]string{}
	for _, name := range g.Adopt {
		ids[name] = d.id(gcpCalled(name))
	}
	return g.open(name, "gcp-certificate-manager "+parent, ids, d, env)
}
