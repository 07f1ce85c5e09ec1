package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/certctl/certctl"
)

const certificatesPath = "/api/v1/certificates"

var certificateColumns = columns{"name", "STATUS=status.state", "NAMES=dns_names", "ISSUER=issuers.name", "TARGETS=bindings.target.name", "EXPIRES=not_after", "REASON=status.reason"}

type certificatesCmd struct {
	List       certListCmd       `cmd:"" help:"List certificates."`
	Get        certGetCmd        `cmd:"" help:"Show one with its whole status."`
	Create     certCreateCmd     `cmd:"" help:"Submit one."`
	Update     certUpdateCmd     `cmd:"" help:"Change one."`
	Import     certImportCmd     `cmd:"" help:"Take in one that exists."`
	ImportFrom certImportFromCmd `cmd:"" name:"import-from" help:"Take over what certbot, acme.sh or lego renews."`
	Renew      certRenewCmd      `cmd:"" help:"Renew now."`
	CSR        certCSRCmd        `cmd:"" name:"csr" help:"Send the CSR of the next cycle."`
	Revoke     certRevokeCmd     `cmd:"" help:"Revoke all unexpired versions."`
	Archive    certArchiveCmd    `cmd:"" aliases:"delete" help:"Stop managing one; installed files stay."`
	Bind       certBindCmd       `cmd:"" help:"Install it on one more target."`
	Unbind     certUnbindCmd     `cmd:"" help:"Stop installing it on a target."`
	Chain      certChainCmd      `cmd:"" help:"Print leaf and chain as PEM."`
	Redeploy   certRedeployCmd   `cmd:"" help:"Install the current leaf once more."`
	Rollback   certRollbackCmd   `cmd:"" help:"Go back to the leaf before, or to another earlier one."`
	Test       certTestCmd       `cmd:"" help:"Try to have it issued at its ACME issuer's staging directory; nothing changes."`
	Records    certRecordsCmd    `cmd:"" name:"validation-records" help:"Show the TXT records that are to stand for it (dns-persist-01, experimental)."`
	Explain    certExplainCmd    `cmd:"" help:"Say why it is or is not renewed, and what happens next."`
	Pause      certPauseCmd      `cmd:"" help:"Stop renewing and installing it."`
	Resume     certResumeCmd     `cmd:"" help:"Go on after a pause."`
	Status     certStatusCmd     `cmd:"" help:"Show where it stands, and wait for it with --watch."`
}

type certListCmd struct {
	Status        string            `help:"pending, refused, deploying, active, degraded, revoked, monitored or archived." env:"-"`
	Issuer        string            `help:"Only of this issuer." env:"-"`
	Agent         string            `help:"Only on this agent." env:"-"`
	Target        string            `help:"Only on this target." env:"-"`
	Label         map[string]string `help:"Only with this label, key=value." env:"-" short:"l"`
	Team          string            `help:"Only of this team." env:"-"`
	ExpiresWithin string            `help:"Only what ends within this time, such as 30d." env:"-" placeholder:"TIME"`
	Query         string            `help:"Text in names, or a serial number." env:"-" short:"q"`
	Archived      bool              `help:"Archived ones." env:"-"`
	Limit         int               `help:"At most so many; 0 = all." env:"-"`
}

func (c certListCmd) Run(s *session) error {
	query := params("status", c.Status, "issuer", c.Issuer, "agent", c.Agent, "target", c.Target, "team", c.Team, "q", c.Query)
	for key, value := range c.Label {
		query.Add("label", key+"="+value)
	}
	if c.Archived {
		query.Set("archived", "true")
	}
	if c.ExpiresWithin != "" {
		within, err := certctl.ParseDuration(c.ExpiresWithin)
		if err != nil {
			return err
		}
		query.Set("expires_before", time.Now().Add(time.Duration(within)).UTC().Format(time.RFC3339))
	}
	return s.list(certificatesPath, query, c.Limit, certificateColumns)
}

type certGetCmd struct{ nameArg }

func (c certGetCmd) Run(s *session) error { return s.get(certificatesPath, c.Name) }

// certFields are the fields that a certificate is made from and changed by.
type certFields struct {
	DNS           []string          `help:"DNS names." env:"-" sep:"," short:"d"`
	IP            []string          `help:"IP addresses." env:"-" sep:","`
	URI           []string          `help:"URIs." env:"-" sep:"none"`
	Email         []string          `help:"E-mail addresses." env:"-" sep:","`
	Issuer        []string          `help:"Issuers in order of preference." env:"-" sep:","`
	Profile       string            `help:"Profile." env:"-"`
	RenewalPolicy string            `help:"Renewal policy." env:"-"`
	Sharing       string            `help:"per_agent: a key for each agent; shared: one for all." env:"-"`
	Owner         string            `help:"Owner." env:"-"`
	Label         map[string]string `help:"Labels, key=value." env:"-" short:"l"`
}

func (f certFields) body() object {
	body := object{}
	set(body, "dns_names", f.DNS)
	set(body, "ip_addresses", f.IP)
	set(body, "uris", f.URI)
	set(body, "email_addresses", f.Email)
	set(body, "issuers", f.Issuer)
	setText(body, "profile", f.Profile)
	setText(body, "renewal_policy", f.RenewalPolicy)
	setText(body, "sharing", f.Sharing)
	setText(body, "owner", f.Owner)
	if len(f.Label) > 0 {
		body["labels"] = f.Label
	}
	return body
}

type certCreateCmd struct {
	nameArg
	certFields
	Team   string   `help:"Team that owns it." env:"-"`
	Target []string `help:"Targets to install it on." env:"-" sep:"," short:"t"`
	CSR    string   `help:"File with a CSR, - for standard input: the key stays with you." env:"-" placeholder:"FILE" name:"csr"`
	ifMissing
	waiting
}

func (c certCreateCmd) Run(s *session) error {
	if there, err := c.exists(s, certificatesPath, c.Name); there || err != nil {
		return err
	}
	body := c.body()
	body["name"] = c.Name
	setText(body, "team", c.Team)
	set(body, "targets", c.Target)
	if c.CSR != "" {
		csr, err := readInput(c.CSR)
		if err != nil {
			return err
		}
		body["csr"] = string(csr)
	}
	return s.change(http.MethodPost, certificatesPath, body, c.waiting)
}

type certUpdateCmd struct {
	nameArg
	certFields
}

func (c certUpdateCmd) Run(s *session) error {
	return s.change(http.MethodPatch, item(certificatesPath, c.Name), c.body(), waiting{})
}

type certImportCmd struct {
	nameArg
	Cert     string   `help:"PEM file, leaf first." env:"-" placeholder:"FILE"`
	Key      string   `help:"PEM file with the private key." env:"-" placeholder:"FILE" name:"private-key"`
	PKCS12   string   `help:"PKCS#12 file instead." env:"-" placeholder:"FILE" name:"pkcs12"`
	Password string   `help:"File with the password of the PKCS#12." env:"-" placeholder:"FILE" name:"password-file"`
	Issuer   string   `help:"Issuer of later renewals; without it the certificate is monitored." env:"-"`
	Issued   bool     `help:"The issuer has issued it, for the account that it has here." env:"-"`
	Target   []string `help:"Targets to install it on." env:"-" sep:","`
}

func (c certImportCmd) Run(s *session) error {
	body := object{"name": c.Name}
	setText(body, "issuer", c.Issuer)
	if c.Issued {
		body["issued_by_issuer"] = true
	}
	set(body, "targets", c.Target)
	for field, file := range map[string]string{"certificate": c.Cert, "private_key": c.Key, "pkcs12": c.PKCS12, "password": c.Password} {
		if file == "" {
			continue
		}
		content, err := readInput(file)
		if err != nil {
			return err
		}
		switch field {
		case "pkcs12":
			body[field] = content // JSON writes bytes as base64
		case "password":
			body[field] = trimLine(string(content))
		default:
			body[field] = string(content)
		}
	}
	return s.change(http.MethodPost, certificatesPath+"/import", body, waiting{})
}

type certCSRCmd struct {
	nameArg
	File string `arg:"" help:"File with the CSR, - for standard input."`
}

func (c certCSRCmd) Run(s *session) error {
	csr, err := readInput(c.File)
	if err != nil {
		return err
	}
	return s.change(http.MethodPost, item(certificatesPath, c.Name)+"/csr", object{"csr": string(csr)}, waiting{})
}

type certRedeployCmd struct {
	nameArg
	Target string `help:"Only on this target." env:"-"`
}

func (c certRedeployCmd) Run(s *session) error {
	body := object{}
	setText(body, "target", c.Target)
	return s.changeList(item(certificatesPath, c.Name)+"/redeploy", body, deploymentColumns)
}

type certRollbackCmd struct {
	nameArg
	Version string `help:"Id of the version; default: the one before." env:"-" placeholder:"ID"`
	Holder  string `help:"Only of this holder." env:"-" placeholder:"ID"`
	Force   bool   `help:"Also to one that is revoked." env:"-"`
}

func (c certRollbackCmd) Run(s *session) error {
	body := object{"force": c.Force}
	setText(body, "version", c.Version)
	setText(body, "holder", c.Holder)
	return s.changeList(item(certificatesPath, c.Name)+"/rollback", body, deploymentColumns)
}

type certArchiveCmd struct{ nameArg }

func (c certArchiveCmd) Run(s *session) error { return s.remove(certificatesPath, c.Name) }

type certBindCmd struct {
	nameArg
	Target string `arg:"" help:"Name or id of the target."`
	Place  string `help:"Folder or place there." env:"-"`
	Slot   string `help:"default, rsa or ecdsa." env:"-" enum:"default,rsa,ecdsa" default:"default"`
}

func (c certBindCmd) Run(s *session) error {
	body := object{"target": c.Target, "slot": c.Slot}
	setText(body, "place", c.Place)
	return s.change(http.MethodPost, item(certificatesPath, c.Name)+"/bindings", body, waiting{})
}

type certUnbindCmd struct {
	nameArg
	Target string `arg:"" help:"Name or id of the target."`
	Remove bool   `help:"Also remove the files, when the daemon no longer names them." env:"-"`
}

func (c certUnbindCmd) Run(s *session) error {
	path := item(certificatesPath, c.Name) + "/bindings/" + url.PathEscape(c.Target)
	if c.Remove {
		path += "?remove=true"
	}
	return s.change(http.MethodDelete, path, nil, waiting{})
}

type certChainCmd struct {
	nameArg
	Holder string `help:"Which holder's, when there are several." env:"-"`
	Wait   string `help:"Wait this long for the first one." env:"-" default:"0s" name:"wait-for"`
}

func (c certChainCmd) Run(s *session) error {
	client, ctx, cancel, err := s.connect()
	if err != nil {
		return err
	}
	defer cancel()
	query := params("holder", c.Holder, "wait", c.Wait)
	response, err := client.send(ctx, http.MethodGet, item(certificatesPath, c.Name)+"/chain.pem", query, nil, nil)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	_, err = io.Copy(s.out, response.Body)
	return err
}

type certStatusCmd struct {
	nameArg
	Watch bool `help:"Print each change until it is active, or has failed." env:"-" short:"w"`
}

func (c certStatusCmd) Run(s *session) error {
	client, ctx, cancel, err := s.connect()
	if err != nil {
		return err
	}
	defer cancel()
	if c.Watch {
		return s.await(ctx, client, c.Name)
	}
	answer, err := client.call(ctx, http.MethodGet, item(certificatesPath, c.Name), nil, nil)
	if err != nil {
		return err
	}
	if s.globals.Output != "table" {
		status, _ := answer["status"].(object)
		return s.showOne(status)
	}
	return s.describe(answer)
}

// describe prints a status for a person: what is open, and why.
func (s *session) describe(certificate object) error {
	fmt.Fprintf(s.out, "%s   %s   expires %s\n", cell(certificate, "name"), cell(certificate, "status.state"), cell(certificate, "not_after"))
	if reason := cell(certificate, "status.reason"); reason != "" {
		fmt.Fprintf(s.out, "   %s\n", reason)
	}
	status, _ := certificate["status"].(object)
	s.sharedKeys(status)
	orders, _ := status["orders"].([]any)
	for _, order := range orders {
		fmt.Fprintf(s.out, "   order       %s %s %s %s\n", cell(order, "state"), cell(order, "wait"), cell(order, "due_at"), cell(order, "message"))
	}
	deployments, _ := status["deployments"].([]any)
	for _, d := range deployments {
		fmt.Fprintf(s.out, "   deployment  %s on %s %s %s %s\n", cell(d, "state"), cell(d, "target.name"), cell(d, "wait"), cell(d, "reason"), cell(d, "message"))
	}
	return nil
}

// await looks until the certificate is settled, printing each change.
func (s *session) await(ctx context.Context, client *client, name string) error {
	last := ""
	for {
		answer, err := client.call(ctx, http.MethodGet, item(certificatesPath, name), nil, nil)
		if err != nil {
			return err
		}
		state := cell(answer, "status.state")
		if line := state + " " + cell(answer, "status.reason"); line != last {
			last = line
			if s.globals.Output == "table" {
				fmt.Fprintf(s.out, "%s   %s\n", time.Now().Format(time.TimeOnly), strings.TrimSpace(line))
			}
		}
		switch state {
		case "active", "monitored", "archived":
			if len(openOrders(answer)) == 0 {
				return s.settled(answer)
			}
		case "refused", "degraded", "revoked":
			if err := s.settled(answer); err != nil {
				return err
			}
			return certctl.Errorf(certctl.Conflict, "%s is %s", name, state).WithRemedy("certctl certificates status %s", name)
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return fmt.Errorf("%s is still %s: %w", name, state, err)
		}
	}
}

func (s *session) settled(answer object) error {
	if s.globals.Output == "table" {
		return nil
	}
	return s.showOne(answer)
}

func openOrders(certificate object) []any {
	status, _ := certificate["status"].(object)
	orders, _ := status["orders"].([]any)
	var open []any
	for _, order := range orders {
		switch cell(order, "state") {
		case "issued", "refused", "cancelled":
		default:
			open = append(open, order)
		}
	}
	return open
}

// readInput reads a file, or standard input for "-".
func readInput(path string) ([]byte, error) {
	if path == "-" {
		return io.ReadAll(io.LimitReader(os.Stdin, 1<<20))
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, certctl.Wrap(certctl.Invalid, err, "%s cannot be read", path)
	}
	return content, nil
}
