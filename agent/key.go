package agent

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"net"
	"net/url"
	"runtime"
	"slices"
	"sync"

	"github.com/certctl/certctl"
)

// runBatch carries out the jobs of one lane.
func (a *Agent) runBatch(lane certctl.ID, batch []job) {
	switch {
	case lane.IsZero():
		a.makeKeys(batch)
	case batch[0].erase != nil:
		a.eraseKey(batch[0])
	case batch[0].prove != nil:
		a.prove(batch[0])
	default:
		a.serveTarget(lane, batch)
	}
}

// makeKeys makes the keys of many orders side by side, journals all of them at
// once, and reports the CSRs.
func (a *Agent) makeKeys(batch []job) {
	a.keysInUse.RLock()
	defer a.keysInUse.RUnlock()
	batch = slices.DeleteFunc(batch, a.answered) // since it was put here
	batch = a.shareKeys(batch)
	records := make([]*orderRecord, len(batch))
	slots := make(chan struct{}, runtime.GOMAXPROCS(0))
	var group sync.WaitGroup
	for i, j := range batch {
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			if a.workCtx.Err() == nil {
				records[i] = a.makeKey(j)
			}
		})
	}
	group.Wait()
	a.at(FaultKeyStored)
	var changes []Change
	for i, record := range records {
		if record != nil {
			changes = append(changes, Change{orderKey(batch[i].key.Order), record}, reportChange(record.Report))
		}
	}
	if a.commit(func() []Change { return changes }) {
		a.at(FaultKeyJournalled)
	}
}

// makeKey makes or finds the key of one order and signs the CSR report. On
// failure it refuses the command and returns nil.
func (a *Agent) makeKey(j job) *orderRecord {
	key, code, err := a.orderKey(j.key)
	if err != nil {
		a.refuse(j.statement, code, err)
		return nil
	}
	spki, err := a.store.Put(key)
	if err != nil {
		a.refuse(j.statement, "disk", err)
		return nil
	}
	csr, err := makeCSR(key, j.key.Names)
	if err != nil {
		a.refuse(j.statement, "csr", err)
		return nil
	}
	body := certctl.CSRReport{Order: j.key.Order, CSR: csr}
	if body.Sealed, body.Refused, err = a.sealFor(j.key.Recipients, j.key.Holder, key, j.statement.Number); err != nil {
		a.refuse(j.statement, "seal", err)
		return nil
	}
	report, err := a.statement(certctl.ReportCSR, j.key.Order, j.statement.Number, body)
	if err != nil {
		a.refuse(j.statement, "csr", err)
		return nil
	}
	a.log.Info().Stringer("order", j.key.Order).Str("certificate", certctl.Clip(j.key.CertificateName, 100)).
		Stringer("spki", spki).Str("algorithm", string(j.key.Algorithm)).Int("sealed", len(body.Sealed)).Int("refused", len(body.Refused)).Msg("key made")
	record := &orderRecord{SPKI: spki, Report: report, Asked: a.now()}
	if j.key.Shared {
		record.Holder = j.key.Holder
	}
	return record
}

func (a *Agent) orderKey(c *certctl.KeyCommand) (key crypto.Signer, code string, err error) {
	if c.ReuseSPKI.IsZero() {
		key, err = c.Algorithm.Generate()
		return key, "algorithm", err
	}
	if key, err = a.store.Get(c.ReuseSPKI); err != nil {
		return nil, "key_missing", withRemedy(err, "renew the certificate with a new key")
	}
	algorithm, err := certctl.AlgorithmOf(key.Public())
	if err == nil && algorithm != c.Algorithm {
		err = certctl.Errorf(certctl.Conflict, "the key to use again is %s, but the profile wants %s", algorithm, c.Algorithm)
	}
	return key, "algorithm", err
}

// makeCSR signs a PKCS#10 request whose names are all subject alternative
// names; the subject is empty (RFC 9525: common names do not count).
func makeCSR(key crypto.Signer, names certctl.Names) ([]byte, error) {
	names, err := names.Normalize()
	if err != nil {
		return nil, err
	}
	template := &x509.CertificateRequest{DNSNames: names.DNS, EmailAddresses: names.Email}
	for _, addr := range names.IP {
		template.IPAddresses = append(template.IPAddresses, net.IP(addr.AsSlice()))
	}
	for _, text := range names.URI {
		uri, err := url.Parse(text)
		if err != nil {
			return nil, certctl.Wrap(certctl.Invalid, err, "a URI among the names cannot be read")
		}
		template.URIs = append(template.URIs, uri)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		return nil, certctl.Wrap(certctl.Internal, err, "the certificate request cannot be made")
	}
	return der, nil
}

// safeMessage is what a report says of an error. The server is the node's
// operator's own, so that internal errors keep their text, clipped.
func safeMessage(err error) string { return certctl.Clip(err.Error(), 1000) }

func remedyOf(err error) string {
	var ours *certctl.Error
	if errors.As(err, &ours) {
		return ours.Remedy
	}
	return ""
}

// withRemedy returns err with a remedy where it has none.
func withRemedy(err error, remedy string) error {
	var ours *certctl.Error
	if errors.As(err, &ours) && ours.Remedy == "" {
		return ours.WithRemedy("%s", remedy)
	}
	return err
}
