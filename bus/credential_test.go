package bus

import (
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"

	"github.com/certctl/certctl"
)

func TestAgentJWT(t *testing.T) {
	t.Parallel()
	identity, agent, key := newIdentity(t), certctl.NewID(noon), userKey(t)
	token, err := AgentJWT(identity, agent, key, noon, UserLife)
	if err != nil {
		t.Fatal(err)
	}
	claims, err := jwt.DecodeUserClaims(token)
	if err != nil {
		t.Fatal(err)
	}
	if claims.Name != agent.String() || claims.Subject != key || claims.IssuedAt != noon.Unix() {
		t.Errorf("claims %+v", claims)
	}
	if !claims.HasEmptyPermissions() {
		t.Error("an agent brings permissions of its own")
	}
	expires, err := Expiry(token)
	if err != nil || !expires.Equal(noon.Add(UserLife)) {
		t.Errorf("expires %v, %v", expires, err)
	}
	account := document(t, identity, Facts{}, AccountAgents)
	if scope, ok := account.SigningKeys.GetScope(claims.Issuer); !ok || scope == nil {
		t.Error("the signer is not a scoped key of the agents' account")
	}
	if claims.IssuerAccount != account.Subject {
		t.Errorf("issued for %s", claims.IssuerAccount)
	}
}

func TestAgentJWTRefuses(t *testing.T) {
	t.Parallel()
	identity, agent, key := newIdentity(t), certctl.NewID(noon), userKey(t)
	account, err := nkeys.CreateAccount()
	if err != nil {
		t.Fatal(err)
	}
	accountKey, err := account.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		agent certctl.ID
		key   string
		life  time.Duration
	}{
		"no agent":            {certctl.NoID, key, UserLife},
		"no key":              {agent, "", UserLife},
		"an account's key":    {agent, accountKey, UserLife},
		"everybody's key":     {agent, "*", UserLife},
		"no life":             {agent, key, 0},
		"a life too long":     {agent, key, MaxUserLife + time.Second},
		"a life that is over": {agent, key, -time.Second},
	} {
		if token, err := AgentJWT(identity, c.agent, c.key, noon, c.life); err == nil {
			t.Errorf("%s: signed %s", name, token)
		}
	}
}

// In a scoped template the name becomes part of a subject: as * or > it would
// stand for every agent.
func TestUsersCannotBeNamedLikeWildcards(t *testing.T) {
	t.Parallel()
	identity, key := newIdentity(t), userKey(t)
	id := certctl.NewID(noon).String()
	for _, name := range []string{"*", ">", "", "a.b", "x", "*." + id, id + ".>", id + " ", "{{name()}}", "ABCDEF00-0000-7000-8000-000000000000"} {
		for _, signer := range []keyName{keyAgent, keyPusher, roleKey(RoleSigner)} {
			_, err := userJWT(user{signer: identity.pairs[signer], account: identity.Account(AccountAgents), name: name, public: key, issued: noon})
			if err == nil {
				t.Errorf("a user was named %q under the key %s", name, signer)
			}
		}
	}
}

func FuzzCheckName(f *testing.F) {
	f.Add("*")
	f.Add("api")
	f.Add(certctl.NewID(noon).String())
	f.Fuzz(func(t *testing.T, name string) {
		if checkName(name) == nil && !plain(name) {
			t.Errorf("%q is accepted and is not one token", name)
		}
	})
}

func TestCredentialsOfThePlatform(t *testing.T) {
	t.Parallel()
	identity := newIdentity(t)
	for _, role := range Roles {
		text, err := PlatformCredentials(identity, role, noon)
		if err != nil {
			t.Fatal(err)
		}
		token, seed, err := ParseCredentials([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		pair, err := nkeys.FromSeed(seed)
		if err != nil {
			t.Fatal(err)
		}
		public, err := pair.PublicKey()
		if err != nil {
			t.Fatal(err)
		}
		claims, err := jwt.DecodeUserClaims(token)
		if err != nil || claims.Subject != public || claims.Name != string(role) {
			t.Errorf("%s: %+v, %v", role, claims, err)
		}
		if expires, err := Expiry(token); err != nil || !expires.IsZero() {
			t.Errorf("%s expires %v, %v", role, expires, err)
		}
	}
	if _, err := PlatformCredentials(identity, "root", noon); certctl.ErrorCode(err) != certctl.Invalid {
		t.Errorf("a role of its own: %v", err)
	}
}

// No role may delete or purge a stream, publish as an agent, or answer to a
// subject of a stranger's choice.
func TestRolesAreNarrow(t *testing.T) {
	t.Parallel()
	agent := certctl.NewID(noon)
	for _, role := range Roles {
		template, err := roleTemplate(role)
		if err != nil {
			t.Fatal(err)
		}
		for _, forbidden := range []string{
			"$JS.API.STREAM.DELETE." + StreamEvent, "$JS.API.STREAM.PURGE." + StreamEvent, "$JS.API.STREAM.MSG.DELETE." + StreamEvent,
			"$JS.API.STREAM.CREATE.OTHER", "$SYS.REQ.CLAIMS.UPDATE", SubjectAskReport(agent), SubjectAskMailbox(agent), ">",
		} {
			if permits(template.Pub.Allow, forbidden) {
				t.Errorf("%s may publish %s", role, forbidden)
			}
		}
		for _, forbidden := range []string{">", "_INBOX.>", "$SYS.>", patternCommands(anyone), patternIntents, patternEvents} {
			if permits(template.Sub.Allow, forbidden) {
				t.Errorf("%s may subscribe to %s", role, forbidden)
			}
		}
	}
}

func permits(allowed jwt.StringList, subject string) bool {
	for _, allow := range allowed {
		if jwt.Subject(subject).IsContainedIn(jwt.Subject(allow)) {
			return true
		}
	}
	return false
}

func TestReaderCredentialsEnd(t *testing.T) {
	t.Parallel()
	identity := newIdentity(t)
	reader := certctl.Reader{ID: certctl.NewID(noon), Name: "siem", ExpiresAt: noon.Add(time.Hour)}
	text, err := ReaderCredentials(identity, reader, noon)
	if err != nil {
		t.Fatal(err)
	}
	token, _, err := ParseCredentials([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if expires, err := Expiry(token); err != nil || !expires.Equal(reader.ExpiresAt) {
		t.Errorf("expires %v, %v", expires, err)
	}
	expired, revoked := reader, reader
	expired.ExpiresAt, revoked.RevokedAt = noon, noon
	for _, reader := range []certctl.Reader{expired, revoked, {ExpiresAt: noon.Add(time.Hour)}} {
		if _, err := ReaderCredentials(identity, reader, noon); err == nil {
			t.Errorf("credentials for %+v", reader)
		}
	}
}

func FuzzParseCredentials(f *testing.F) {
	identity, err := NewIdentity(noon)
	if err != nil {
		f.Fatal(err)
	}
	text, err := PlatformCredentials(identity, RoleWorker, noon)
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(text))
	f.Add([]byte("-----BEGIN NATS USER JWT-----"))
	f.Fuzz(func(t *testing.T, text []byte) {
		token, seed, err := ParseCredentials(text)
		if err != nil {
			return
		}
		if _, err := jwt.DecodeUserClaims(token); err != nil || len(seed) == 0 {
			t.Errorf("accepted %q", text)
		}
	})
}
