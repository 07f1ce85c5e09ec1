package bus

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"

	"github.com/certctl/certctl"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func newIdentity(t *testing.T) *Identity {
	t.Helper()
	identity, err := NewIdentity(noon)
	if err != nil {
		t.Fatal(err)
	}
	return identity
}

func userKey(t *testing.T) string {
	t.Helper()
	pair, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	public, err := pair.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return public
}

// document derives the documents and returns the claims of one account.
func document(t *testing.T, identity *Identity, facts Facts, account string) *jwt.AccountClaims {
	t.Helper()
	documents, err := AccountJWTs(identity, facts)
	if err != nil {
		t.Fatal(err)
	}
	for _, document := range documents {
		if document.Name != account {
			continue
		}
		claims, err := jwt.DecodeAccountClaims(document.JWT)
		if err != nil {
			t.Fatal(err)
		}
		return claims
	}
	t.Fatalf("no document of %s", account)
	return nil
}

func TestIdentitySurvivesItsText(t *testing.T) {
	t.Parallel()
	identity := newIdentity(t)
	data, err := identity.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := ParseIdentity(data)
	if err != nil {
		t.Fatal(err)
	}
	again, err := parsed.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(data), string(again)); diff != "" {
		t.Error(diff)
	}
	if identity.Operator() != parsed.Operator() || !nkeys.IsValidPublicOperatorKey(parsed.Operator()) {
		t.Errorf("operator %q became %q", identity.Operator(), parsed.Operator())
	}
}

func TestIdentityRefusesAnythingElse(t *testing.T) {
	t.Parallel()
	data, err := newIdentity(t).MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"nothing":       "",
		"another form":  strings.Replace(string(data), `"version":1`, `"version":2`, 1),
		"a key too few": strings.Replace(string(data), `"agent":"SA`, `"agents":"SA`, 1),
		"a wrong kind":  strings.Replace(string(data), `"operator":"SO`, `"operator":"SA`, 1),
		"more fields":   strings.Replace(string(data), `{"version"`, `{"more":1,"version"`, 1),
	} {
		_, err := ParseIdentity([]byte(text))
		if certctl.ErrorCode(err) != certctl.Invalid {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && strings.Contains(err.Error(), "SA") {
			t.Errorf("%s: the error quotes a seed: %v", name, err)
		}
	}
}

func FuzzParseIdentity(f *testing.F) {
	identity, err := NewIdentity(noon)
	if err != nil {
		f.Fatal(err)
	}
	data, err := identity.MarshalBinary()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(`{"version":1,"seeds":null}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		parsed, err := ParseIdentity(data)
		if err != nil {
			return
		}
		for name := range identityKeys() {
			if parsed.public(name) == "" {
				t.Errorf("accepted without the key %s", name)
			}
		}
	})
}

func TestDocumentsAreDerived(t *testing.T) {
	t.Parallel()
	identity := newIdentity(t)
	facts := Facts{
		Version: noon.UnixMicro(),
		Retired: []certctl.RetiredAgent{{Key: userKey(t), At: noon.Add(-time.Hour)}, {Key: userKey(t), At: noon}},
		Readers: []certctl.Reader{{ID: certctl.NewID(noon), CreatedAt: noon, ExpiresAt: noon.Add(time.Hour)}},
	}
	first, err := AccountJWTs(identity, facts)
	if err != nil {
		t.Fatal(err)
	}
	facts.Retired[0], facts.Retired[1] = facts.Retired[1], facts.Retired[0]
	second, err := AccountJWTs(identity, facts)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(first, second); diff != "" {
		t.Errorf("the same facts gave other documents: %s", diff)
	}
	facts.Version++
	third, err := AccountJWTs(identity, facts)
	if err != nil {
		t.Fatal(err)
	}
	for i := range third {
		changes := third[i].Name == AccountAgents
		newer, err := third[i].NewerThan(first[i])
		if err != nil || newer != changes {
			t.Errorf("%s of the next version is newer: %v, %v", third[i].Name, newer, err)
		}
		if older, err := first[i].NewerThan(third[i]); err != nil || older {
			t.Errorf("%s of the last version is newer: %v", third[i].Name, err)
		}
		// Brokers take two documents with one id for the same.
		if same := claimsID(t, first[i].JWT) == claimsID(t, third[i].JWT); same == changes {
			t.Errorf("%s: the same id %v, changed %v", third[i].Name, same, changes)
		}
	}
}

func claimsID(t *testing.T, token string) string {
	t.Helper()
	claims, err := jwt.DecodeAccountClaims(token)
	if err != nil {
		t.Fatal(err)
	}
	return claims.ID
}

func TestOnlyThePlatformHasJetStream(t *testing.T) {
	t.Parallel()
	identity := newIdentity(t)
	reader := certctl.Reader{ID: certctl.NewID(noon), CreatedAt: noon, ExpiresAt: noon.Add(time.Hour)}
	for _, account := range []string{AccountSystem, AccountAgents, AccountEvents + "-" + reader.ID.String()} {
		claims := document(t, identity, Facts{Readers: []certctl.Reader{reader}}, account)
		if claims.Limits.IsJSEnabled() || len(claims.Exports) > 0 || claims.Limits.LeafNodeConn != 0 {
			t.Errorf("%s: %+v", account, claims.Limits)
		}
	}
	if !document(t, identity, Facts{}, AccountPlatform).Limits.IsJSEnabled() {
		t.Error("the platform has no JetStream")
	}
}

func TestRetiredKeysAreRefusedWhateverTheClocksSaid(t *testing.T) {
	t.Parallel()
	key := userKey(t)
	claims := document(t, newIdentity(t), Facts{
		Version: noon.UnixMicro(), Retired: []certctl.RetiredAgent{{Key: key, At: noon}},
	}, AccountAgents)
	// Signed before, by a replica whose clock is an hour ahead.
	if !claims.Revocations.IsRevoked(key, noon.Add(time.Hour)) {
		t.Error("a replica with a fast clock can outlive a revocation")
	}
	if claims.Revocations.IsRevoked(userKey(t), noon) {
		t.Error("another key is refused, too")
	}
}

func TestRetiredKeysMustBeKeys(t *testing.T) {
	t.Parallel()
	// jwt.All, "*", would end every agent's credentials.
	for _, key := range []string{"*", "", "UABC"} {
		if _, err := AccountJWTs(newIdentity(t), Facts{Retired: []certctl.RetiredAgent{{Key: key}}}); err == nil {
			t.Errorf("%q was revoked", key)
		}
	}
}

func TestReadersHaveImportsWhileTheyMayRead(t *testing.T) {
	t.Parallel()
	identity := newIdentity(t)
	reader := certctl.Reader{ID: certctl.NewID(noon), CreatedAt: noon, ExpiresAt: noon.Add(time.Hour)}
	name := AccountEvents + "-" + reader.ID.String()
	live := document(t, identity, Facts{Readers: []certctl.Reader{reader}}, name)
	var subjects []string
	for _, imported := range live.Imports {
		if imported.Type != jwt.Service || imported.Account != identity.Account(AccountPlatform) {
			t.Errorf("import %+v", imported)
		}
		subjects = append(subjects, string(imported.Subject))
	}
	consumer := ReaderConsumer(reader.ID)
	want := []string{
		"$JS.ACK.CERTCTL_EVENT." + consumer + ".>",
		"$JS.API.CONSUMER.INFO.CERTCTL_EVENT." + consumer,
		"$JS.API.CONSUMER.MSG.NEXT.CERTCTL_EVENT." + consumer,
	}
	if diff := cmp.Diff(want, subjects); diff != "" {
		t.Error(diff)
	}
	credentials, err := ReaderCredentials(identity, reader, noon)
	if err != nil {
		t.Fatal(err)
	}
	token, _, err := ParseCredentials([]byte(credentials))
	if err != nil {
		t.Fatal(err)
	}
	user, err := jwt.DecodeUserClaims(token)
	if err != nil {
		t.Fatal(err)
	}
	if user.IssuerAccount != live.Subject || live.IsClaimRevoked(user) {
		t.Errorf("the reader's credentials are not good in its account: %+v", user)
	}
	reader.RevokedAt = noon.Add(time.Minute)
	revoked := document(t, identity, Facts{Readers: []certctl.Reader{reader}}, name)
	if !revoked.IsClaimRevoked(user) || len(revoked.Imports) > 0 {
		t.Error("the revoked reader's credentials are good")
	}
	if !ageOf(revoked).newerThan(ageOf(live)) {
		t.Error("the revocation is not newer")
	}
}

func TestManyRetiredAgentsFit(t *testing.T) {
	t.Parallel()
	identity := newIdentity(t)
	retired := make([]certctl.RetiredAgent, 2000)
	for i := range retired {
		retired[i] = certctl.RetiredAgent{Key: userKey(t), At: noon}
	}
	documents, err := AccountJWTs(identity, Facts{Retired: retired})
	if err != nil {
		t.Fatal(err)
	}
	each := len(documents[2].JWT) / len(retired)
	if MaxDocument/each < 60_000 {
		t.Errorf("a retired agent costs %d bytes: only %d fit", each, MaxDocument/each)
	}
}

// Patterns and single subjects are spelt in two files.
func TestPatternsCoverTheSubjects(t *testing.T) {
	t.Parallel()
	agent, reader := certctl.NewID(noon), certctl.NewID(noon)
	for _, c := range []struct{ pattern, subject string }{
		{patternCommands(agent.String()), SubjectBell(agent)},
		{patternCommands(agent.String()), SubjectCommands(agent)},
		{patternBells, SubjectBell(agent)},
		{patternAsks(agent.String()), SubjectAskMailbox(agent)},
		{patternAsks(agent.String()), SubjectAskReport(agent)},
		{subjectAsks(askReport), SubjectAskReport(agent)},
		{subjectAsks(askMailbox), SubjectAskMailbox(agent)},
		{patternIntents, SubjectIntent(certctl.HintIssue, agent.String())},
		{patternEvents, SubjectEvent("default", certctl.AggregateAgent, certctl.EventAgentEnrolled)},
		{patternServices, SubjectSigner("enroll")},
		{patternInbox(agent.String()), InboxPrefix(agent.String()) + ".x"},
		{patternInbox(string(RoleAPI)), InboxPrefix(string(RoleAPI)) + ".x"},
		{patternReader(reader.String()), ReaderConsumer(reader)},
	} {
		if !jwt.Subject(c.subject).IsContainedIn(jwt.Subject(c.pattern)) {
			t.Errorf("%s is not covered by %s", c.subject, c.pattern)
		}
	}
}
