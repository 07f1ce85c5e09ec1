package acme

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/certctl/certctl"
)

// The test vectors of draft-ietf-acme-dns-persist-02, section 10.2.
func TestHashedAccounts(t *testing.T) {
	t.Parallel()
	const thumbprint, account = "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs", "https://ca.example/acct/123"
	for name, want := range map[string]string{
		"example.com": "5SQm7n6tPh2-PlLbCKGnViTXX5z19SCN4cPGQHSk-kw",
		"*":           "NpDnSwUthQK8zCgFdefYxAdAVPnygMLbs9US6oO-5ug",
	} {
		if got := hashedAccount("https://ca.example/account-hash/", name, thumbprint, account); got != "https://ca.example/account-hash/sha-256/"+want {
			t.Errorf("%s: %s", name, got)
		}
	}
}

// Records are judged as a CA would: no more kindly, and no less.
func TestRecordsAreJudgedAsByTheCA(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_700_000_000, 0)
	terms := certctl.RecordTerms{Issuers: []string{"ca.example", "ca.example.net"}, Accounts: []string{"https://ca.example/1", "https://ca.example/hash/x"}}
	wild := terms
	wild.Wildcard = true
	for _, c := range []struct {
		terms  certctl.RecordTerms
		values []string
		want   certctl.RecordState
		until  int64
	}{
		{terms, nil, certctl.RecordMissing, 0},
		{terms, []string{"", "v=spf1 -all", "other.example; accounturi=https://ca.example/1"}, certctl.RecordMissing, 0},
		{terms, []string{"CA.EXAMPLE; accounturi=https://ca.example/1"}, certctl.RecordMissing, 0},
		{terms, []string{"ca.example;accounturi=https://ca.example/1"}, certctl.RecordPublished, 0},
		{terms, []string{"  ca.example.net ;\taccounturi = https://ca.example/hash/x "}, certctl.RecordPublished, 0},
		{terms, []string{"ca.example; ACCOUNTURI=https://ca.example/1; later=unknown"}, certctl.RecordPublished, 0},
		{terms, []string{"ca.example; accounturi=https://CA.example/1"}, certctl.RecordWrong, 0},
		{terms, []string{"ca.example"}, certctl.RecordWrong, 0},
		{terms, []string{"ca.example; policy=wildcard"}, certctl.RecordWrong, 0},
		{terms, []string{"ca.example; accounturi=https://ca.example/1;"}, certctl.RecordWrong, 0},
		{terms, []string{"ca.example; accounturi=https://ca.example/1; accountURI=https://ca.example/1"}, certctl.RecordWrong, 0},
		{terms, []string{"ca.example; accounturi=https://ca.example/1; note=two words"}, certctl.RecordWrong, 0},
		{terms, []string{"ca.example; accounturi=https://ca.example/1; persistUntil=soon"}, certctl.RecordWrong, 0},
		{terms, []string{"ca.example; accounturi=https://ca.example/1; persistuntil=1700000000"}, certctl.RecordEnded, 1_700_000_000},
		{terms, []string{"ca.example; accounturi=https://ca.example/1; persistUntil=1700000001"}, certctl.RecordPublished, 1_700_000_001},
		{terms, []string{
			"ca.example; accounturi=https://ca.example/1; persistUntil=1700000001", "ca.example; accounturi=https://ca.example/2",
			"ca.example; accounturi=https://ca.example/1; persistUntil=1800000000",
		}, certctl.RecordPublished, 1_800_000_000},
		{wild, []string{"ca.example; accounturi=https://ca.example/1"}, certctl.RecordWrong, 0},
		{wild, []string{"ca.example; accounturi=https://ca.example/1; policy=none"}, certctl.RecordWrong, 0},
		{wild, []string{"ca.example; accounturi=https://ca.example/1; POLICY=WildCard"}, certctl.RecordPublished, 0},
	} {
		found := judge(c.terms, c.values, now)
		if found.State != c.want || found.Until.IsZero() != (c.until == 0) || c.until != 0 && found.Until.Unix() != c.until {
			t.Errorf("%q: %+v", c.values, found)
		}
		if (found.Message == "") != (c.want == certctl.RecordPublished) {
			t.Errorf("%q: says %q", c.values, found.Message)
		}
	}
	value := persistValue(wild, time.Unix(1_800_000_000, 0))
	if found := judge(wild, []string{value}, now); found.State != certctl.RecordPublished || found.Until.Unix() != 1_800_000_000 {
		t.Errorf("%q: %+v", value, found)
	}
}

func FuzzPersisted(f *testing.F) {
	f.Add("accounturi=https://ca.example/1; policy=wildcard; persistUntil=1")
	f.Add(";;=; = ;a=b\x00")
	f.Fuzz(func(t *testing.T, parameters string) {
		if p, err := parsePersisted(parameters); err == nil && (p.account == "" || strings.ContainsAny(p.account, " ;\t\n")) {
			t.Errorf("%q: %+v", parameters, p)
		}
	})
}

// A challenge is taken only if it is as the draft says, old or new, and names
// nobody else's account.
func TestChallengesThatBreakTheDraftAreRefused(t *testing.T) {
	t.Parallel()
	many := `"` + strings.Join(slices.Repeat([]string{"ca.example"}, 11), `","`) + `"`
	for _, c := range []struct{ meta, challenge, says string }{
		{`{}`, `"issuerDomainNames": ["ca.example"]`, ""},
		{`{}`, `"issuer-domain-names": ["ca.example"], "accounturi": "https://ca.example/acct/1"`, ""},
		{`{"caaIdentities": ["ca.example", "ca.example.net"], "issuerDomainNames": ["ca.example"]}`, `"issuerDomainNames": ["ca.example", "ca.example.net"]`, ""},
		{`{"issuerDomainNames": ["CA.example"]}`, `"issuerDomainNames": ["ca.example"]`, ""}, // as good as none
		{`{}`, `"token": "x"`, "1 to 10"},
		{`{}`, `"issuerDomainNames": [` + many + `]`, "1 to 10"},
		{`{}`, `"issuerDomainNames": ["CA.example"]`, "lower-case"},
		{`{}`, `"issuerDomainNames": ["ca.example."]`, "lower-case"},
		{`{}`, `"issuerDomainNames": ["ca.example; accounturi=x"]`, "lower-case"},
		{`{"issuerDomainNames": ["ca.example.net"]}`, `"issuerDomainNames": ["ca.example"]`, "not those of the CA's directory"},
		{`{"caaIdentities": ["ca.example.net"]}`, `"issuerDomainNames": ["ca.example"]`, "not those of the CA's directory"},
		{`{}`, `"issuer-domain-names": ["ca.example"], "accounturi": "https://ca.example/acct/2"`, "another account"},
	} {
		a := &attempt{
			session: &session{transport: &transport{listed: []byte(`{"meta": ` + c.meta + `}`)}},
			account: identity{ExternalAccount: certctl.ExternalAccount{URL: "https://ca.example/acct/1"}},
		}
		_, err := a.offered([]byte(`{"challenges": [{"type": "dns-01"}, {"type": "dns-persist-01", ` + c.challenge + `}]}`))
		if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s, %s: %v", c.meta, c.challenge, err)
		}
	}
}
