package acme

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/certctl/certctl"
)

// persistLabel is below what a persistent record stands.
const persistLabel = "_validation-persist."

// Parameters of a record. Their names are compared without case (RFC 8659 section
// 4.2), the values of policy too.
const (
	persistAccount = "accounturi"
	persistPolicy  = "policy"
	persistUntil   = "persistUntil"
	policyWildcard = "wildcard"
)

// persistValue is what is to be published for terms, until a time if it is one.
func persistValue(terms certctl.RecordTerms, until time.Time) string {
	value := terms.Issuers[0] + "; " + persistAccount + "=" + terms.Accounts[0]
	if terms.Wildcard {
		value += "; " + persistPolicy + "=" + policyWildcard
	}
	if !until.IsZero() {
		value += "; " + persistUntil + "=" + strconv.FormatInt(until.Unix(), 10)
	}
	return value
}

// persisted is a record that was found.
type persisted struct {
	account  string
	wildcard bool
	until    time.Time // zero: without end
}

// parsePersisted reads the parameters of a record (RFC 8659 section 4.2). A CA
// refuses a record that it cannot read, so it is not read here more kindly.
func parsePersisted(parameters string) (persisted, error) {
	var p persisted
	seen := map[string]bool{}
	for parameter := range strings.SplitSeq(parameters, ";") {
		tag, value, ok := strings.Cut(strings.Trim(parameter, " \t"), "=")
		tag, value = strings.ToLower(strings.TrimRight(tag, " \t")), strings.TrimLeft(value, " \t")
		switch {
		case !ok || tag == "":
			return p, errors.New("it has a parameter that is not tag=value, or ends in a semicolon")
		case seen[tag]:
			return p, fmt.Errorf("it has %s twice", certctl.Clip(tag, 40))
		case strings.ContainsFunc(value, func(r rune) bool { return r < 0x21 || r == ';' || r > 0x7e }):
			return p, fmt.Errorf("the value of %s has a space, or what is not ASCII", certctl.Clip(tag, 40))
		}
		seen[tag] = true
		switch tag {
		case persistAccount:
			p.account = value
		case persistPolicy:
			p.wildcard = strings.EqualFold(value, policyWildcard)
		case strings.ToLower(persistUntil):
			seconds, err := strconv.ParseInt(value, 10, 64)
			if err != nil {
				return p, errors.New("its persistUntil is not a number of seconds since 1970")
			}
			p.until = time.Unix(seconds, 0).UTC()
		}
	}
	if p.account == "" {
		return p, errors.New("it has no accounturi")
	}
	return p, nil
}

// judge says what the values of a record at one server are worth. Records of other
// CAs are none of our business, and of several of this CA's the best counts.
func judge(terms certctl.RecordTerms, values []string, now time.Time) certctl.RecordFinding {
	best := certctl.RecordFinding{State: certctl.RecordMissing, Message: "it is not there"}
	for _, value := range values {
		issuer, parameters, _ := strings.Cut(value, ";")
		if !slices.Contains(terms.Issuers, strings.Trim(issuer, " \t")) {
			continue
		}
		found := judgeOne(terms, parameters, now)
		if worth(found.State) > worth(best.State) || found.State == best.State && later(found.Until, best.Until) {
			best = found
		}
	}
	return best
}

func judgeOne(terms certctl.RecordTerms, parameters string, now time.Time) certctl.RecordFinding {
	wrong := func(format string, args ...any) certctl.RecordFinding {
		return certctl.RecordFinding{State: certctl.RecordWrong, Message: fmt.Sprintf(format, args...)}
	}
	p, err := parsePersisted(parameters)
	switch {
	case err != nil:
		return wrong("the CA cannot read what is there: %s", err)
	case !slices.Contains(terms.Accounts, p.account):
		return wrong("what is there names another account")
	case terms.Wildcard && !p.wildcard:
		return wrong("what is there does not say policy=wildcard")
	case !p.until.IsZero() && !p.until.After(now):
		return certctl.RecordFinding{State: certctl.RecordEnded, Until: p.until, Message: "what is there has ended at " + p.until.Format(time.RFC3339)}
	}
	return certctl.RecordFinding{State: certctl.RecordPublished, Until: p.until}
}

// worth orders findings: what is nearer to a proof says more about what is wrong.
func worth(s certctl.RecordState) int {
	return slices.Index([]certctl.RecordState{certctl.RecordMissing, certctl.RecordWrong, certctl.RecordEnded, certctl.RecordPublished}, s)
}

// later compares ends, of which none is the latest.
func later(a, b time.Time) bool {
	return !b.IsZero() && (a.IsZero() || a.After(b))
}
