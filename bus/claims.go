package bus

import (
	"context"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/certctl/certctl"
)

// encodeClaims signs claims as of at. The library dates claims by its own clock
// and makes their id of a part of them only; here the same claims and time give
// the same token, and other claims another id.
func encodeClaims(claims jwt.Claims, pair nkeys.KeyPair, at time.Time) (string, error) {
	var results jwt.ValidationResults
	claims.Validate(&results)
	for _, issue := range results.Issues {
		if issue.Blocking {
			return "", errors.New(issue.Description)
		}
	}
	token, err := claims.Encode(pair) // for type, format and issuer; this token is not used
	if err != nil {
		return "", err
	}
	header, _, _ := strings.Cut(token, ".")
	data := claims.Claims()
	data.IssuedAt, data.ID = at.Unix(), ""
	body, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	digest := sha256.Sum256(body)
	data.ID = base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(digest[:])
	if body, err = json.Marshal(claims); err != nil {
		return "", err
	}
	signed := base64.RawURLEncoding.AppendEncode([]byte(header+"."), body)
	signature, err := pair.Sign(signed)
	if err != nil {
		return "", err
	}
	return string(base64.RawURLEncoding.AppendEncode(append(signed, '.'), signature)), nil
}

// documentAge orders documents of one account: by schema, then version.
type documentAge struct{ schema, version int64 }

func (a documentAge) newerThan(b documentAge) bool {
	return a.schema > b.schema || a.schema == b.schema && a.version > b.version
}

// ageOf reads a document's age. Documents that we did not make have age zero.
func ageOf(claims *jwt.AccountClaims) documentAge {
	return documentAge{schema: tagNumber(claims.Tags, tagSchema), version: tagNumber(claims.Tags, tagVersion)}
}

func tagNumber(tags jwt.TagList, prefix string) int64 {
	for _, tag := range tags {
		if text, ok := strings.CutPrefix(tag, prefix); ok {
			if number, err := strconv.ParseInt(text, 10, 64); err == nil {
				return number
			}
		}
	}
	return 0
}

// NewerThan reports whether d should take the place of held, a document of the
// same account.
func (d AccountJWT) NewerThan(held AccountJWT) (bool, error) {
	var ages [2]documentAge
	for i, document := range []AccountJWT{d, held} {
		claims, err := jwt.DecodeAccountClaims(document.JWT)
		if err != nil {
			return false, certctl.Wrap(certctl.Internal, err, "reading the document of the bus account %s", document.Name)
		}
		ages[i] = ageOf(claims)
	}
	return ages[0].newerThan(ages[1]), nil
}

// PushAccounts hands documents to an external broker, over a connection with
// PusherCredentials. The broker applies each at once: live connections of a
// revoked key are dropped within milliseconds. A document that is older than
// what the broker holds, or equal to it, is left out, so that replicas may push
// in any order. It returns the names of the accounts that changed.
//
// Errors are Unavailable when the broker does not answer, and Denied when it does
// not accept a document: it trusts another operator.
func PushAccounts(ctx context.Context, conn *Conn, documents []AccountJWT) ([]string, error) {
	var changed []string
	for _, document := range documents {
		claims, err := jwt.DecodeAccountClaims(document.JWT)
		if err != nil {
			return changed, certctl.Wrap(certctl.Internal, err, "the document of the bus account %s is not readable", document.Name)
		}
		held, err := heldClaims(ctx, conn.nc, document)
		if err != nil {
			return changed, err
		}
		if held != nil && !ageOf(claims).newerThan(ageOf(held)) {
			continue
		}
		if err := pushAccount(ctx, conn.nc, document); err != nil {
			return changed, err
		}
		changed = append(changed, document.Name)
	}
	return changed, nil
}

// heldClaims returns the broker's document of an account, or nil if it has none.
func heldClaims(ctx context.Context, nc *nats.Conn, document AccountJWT) (*jwt.AccountClaims, error) {
	subject := strings.Replace(patternLookup, anyone, document.Key, 1)
	answer, err := nc.RequestWithContext(ctx, subject, nil)
	if err != nil {
		return nil, notAnswered(err, document)
	}
	if len(answer.Data) == 0 {
		return nil, nil
	}
	claims, err := jwt.DecodeAccountClaims(string(answer.Data))
	if err != nil {
		return nil, certctl.Wrap(certctl.Unavailable, err, "the broker's answer about the account %s is not readable", document.Name)
	}
	return claims, nil
}

// claimsAnswer is what the broker says to a new document.
type claimsAnswer struct {
	Data *struct {
		Code int `json:"code"`
	} `json:"data"`
	Error *struct {
		Description string `json:"description"`
	} `json:"error"`
}

func pushAccount(ctx context.Context, nc *nats.Conn, document AccountJWT) error {
	answer, err := nc.RequestWithContext(ctx, patternClaims, []byte(document.JWT))
	if err != nil {
		return notAnswered(err, document)
	}
	var result claimsAnswer
	if err := json.Unmarshal(answer.Data, &result); err != nil {
		return certctl.Wrap(certctl.Unavailable, err, "the broker's answer to the account %s is not readable", document.Name)
	}
	if result.Error != nil || result.Data == nil {
		description := "no reason given"
		if result.Error != nil {
			description = certctl.Clip(result.Error.Description, 200)
		}
		return certctl.Errorf(certctl.Denied, "the broker refuses the account %s: %s", document.Name, description).
			WithRemedy("configure it with what 'certctl-server bus init' writes for this installation")
	}
	return nil
}

func notAnswered(err error, document AccountJWT) error {
	return certctl.Wrap(certctl.Unavailable, err, "the broker does not answer about the account %s", document.Name).
		WithRemedy("the broker must hold its accounts in a full resolver, as the nats.conf of 'certctl-server bus init' says")
}

// roleNames lists roles for messages.
func roleNames() []string {
	names := make([]string, 0, len(Roles))
	for _, role := range Roles {
		names = append(names, string(role))
	}
	slices.Sort(names)
	return names
}
