// Package legodns runs DNS providers of lego's, each call in a process of its own:
// they read their settings from variables, and some keep connections or state. A
// call comes on standard input, see acme.DNSCall.
package legodns

import (
	"crypto/x509"
	"encoding/json"
	"io"
	stdlog "log"
	"net/http"
	"os"
	"slices"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/handlers/egress"
	"github.com/certctl/certctl/handlers/issuer/acme"
	"github.com/go-acme/lego/v4/challenge"
	"github.com/go-acme/lego/v4/challenge/dns01"
	legolog "github.com/go-acme/lego/v4/log"
)

// Command is the argument with which certctl-server is such a process.
const Command = "dns-provider"

// maxCall bounds a call: settings and secrets, one of which may be a key file's text.
const maxCall = 256 << 10

// ambient keeps providers from using what the server's machine may, and from
// waiting for what certctl sees to itself.
var ambient = map[string]string{
	"AWS_EC2_METADATA_DISABLED": "true", "AWS_WAIT_FOR_RECORD_SETS_CHANGED": "false", "AZURE_AUTH_METHOD": "env",
	"AZURE_AUTH_MSI_TIMEOUT": "1ns", "HOME": "/nonexistent",
}

// Main does one call and answers. It is for a process that ends with it.
func Main(in io.Reader, out io.Writer) error {
	var answer acme.DNSAnswer
	if err := run(in); err != nil {
		answer.Error = certctl.ErrorMessage(err)
	}
	return json.NewEncoder(out).Encode(answer)
}

func run(in io.Reader) error {
	var call acme.DNSCall
	if err := json.NewDecoder(io.LimitReader(in, maxCall)).Decode(&call); err != nil {
		return certctl.Wrap(certctl.Invalid, err, "the call cannot be read")
	}
	if err := environment(call); err != nil {
		return err
	}
	legolog.Logger = stdlog.New(io.Discard, "", 0)
	roots := (*x509.CertPool)(nil)
	if call.Roots != "" {
		roots = x509.NewCertPool()
		roots.AppendCertsFromPEM([]byte(call.Roots))
	}
	// What providers use that bring no transport of their own.
	http.DefaultTransport = egress.Policy{Private: call.Private}.Client(roots).Transport
	if len(call.Servers) > 0 {
		if err := dns01.AddRecursiveNameservers(call.Servers)(nil); err != nil {
			return certctl.Wrap(certctl.Invalid, err, "the DNS servers cannot be used")
		}
	}
	provider, err := open(call.Provider)
	if err != nil {
		return certctl.Wrap(certctl.Invalid, err, "%s", err.Error())
	}
	do := provider.Present
	if call.Remove {
		do = provider.CleanUp
	}
	if err := do(call.Domain, "", call.Answer); err != nil {
		return certctl.Wrap(certctl.Unavailable, err, "%s", err.Error())
	}
	return nil
}

// environment makes the call's variables the process's, as far as the provider's
// row names them.
func environment(call acme.DNSCall) error {
	all := acme.LegoProviders()
	i := slices.IndexFunc(all, func(p acme.LegoProvider) bool { return p.Name == call.Provider })
	if i < 0 {
		return certctl.Errorf(certctl.Invalid, "there is no provider %s", certctl.Clip(call.Provider, 40))
	}
	p := all[i]
	allowed := slices.Concat(p.Settings, p.Optional, p.Secrets, p.More)
	os.Clearenv()
	for name, value := range ambient {
		if err := os.Setenv(name, value); err != nil {
			return certctl.Wrap(certctl.Internal, err, "the variable %s cannot be set", name)
		}
	}
	for name, value := range call.Variables {
		if !slices.Contains(allowed, name) {
			return certctl.Errorf(certctl.Invalid, "the provider %s has no setting %s", p.Name, certctl.Clip(name, 40))
		}
		if err := os.Setenv(name, value); err != nil {
			return certctl.Wrap(certctl.Invalid, err, "the setting %s cannot be used", name)
		}
	}
	return nil
}

// open makes a provider from the process's variables.
func open(name string) (challenge.Provider, error) {
	constructor, ok := constructors()[name]
	if !ok {
		return more(name)
	}
	return constructor()
}

func made[P challenge.Provider](constructor func() (P, error)) func() (challenge.Provider, error) {
	return func() (challenge.Provider, error) { return constructor() }
}
