package certctl_test

import (
	"strings"
	"testing"
	"time"

	"github.com/certctl/certctl"
)

func TestChooseSharing(t *testing.T) {
	t.Parallel()
	free := certctl.Issuer{Name: "own"}
	week := certctl.Issuer{Name: "public", Duplicates: certctl.Rate{Count: 5, Per: certctl.Duration(7 * certctl.Day)}}
	paid := certctl.Issuer{Name: "paid", Priced: true}
	for name, test := range map[string]struct {
		wanted  certctl.Sharing
		agents  int
		issuers []certctl.Issuer
		want    certctl.Sharing
		words   string // of a refusal
	}{
		"unset, no limit":               {"", 200, []certctl.Issuer{free}, certctl.SharingPerAgent, ""},
		"unset, monitored":              {"", 200, nil, certctl.SharingPerAgent, ""},
		"unset, a limit, one agent":     {"", 1, []certctl.Issuer{week}, certctl.SharingPerAgent, ""},
		"unset, a limit, two agents":    {"", 2, []certctl.Issuer{week}, certctl.SharingShared, ""},
		"unset, the second has a limit": {"", 2, []certctl.Issuer{free, week}, certctl.SharingShared, ""},
		"unset, a price":                {"", 2, []certctl.Issuer{paid}, certctl.SharingShared, ""},
		"shared, one agent":             {certctl.SharingShared, 1, []certctl.Issuer{free}, certctl.SharingShared, ""},
		"a key each, a price":           {certctl.SharingPerAgent, 9, []certctl.Issuer{paid}, certctl.SharingPerAgent, ""},
		"a key each, at the limit":      {certctl.SharingPerAgent, 5, []certctl.Issuer{week}, certctl.SharingPerAgent, ""},
		"a key each, above it": {certctl.SharingPerAgent, 200, []certctl.Issuer{free, week}, "",
			"200 agents with a key each need 200 leaves of the same names; the issuer public gives 5 in 7 days: it would take 273 days"},
		"nonsense": {"each", 1, nil, "", "per_agent or shared"},
	} {
		got, err := certctl.ChooseSharing(test.wanted, test.agents, test.issuers)
		if got != test.want || (test.words == "") != (err == nil) || err != nil && (certctl.ErrorCode(err) != certctl.Invalid || !strings.Contains(err.Error(), test.words)) {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
	}
}

// Members that wait for a shared key make a new one due only when nobody can give
// it to them: at once if nobody has it, else after a while.
func TestAKeyIsDueWhenNobodyCanGiveIt(t *testing.T) {
	t.Parallel()
	issued := epoch.Add(-24 * time.Hour)
	settled := certctl.HolderFacts{
		Revision: 1, VersionRevision: 1, Deployed: 3, Verified: 2, NotBefore: issued, NotAfter: issued.Add(90 * certctl.Day), IssuedAt: issued,
		RenewAt: issued.Add(60 * certctl.Day), Givers: 2,
	}
	waits := func(since time.Duration, change func(*certctl.HolderFacts)) certctl.HolderFacts {
		f := settled
		f.Waiting, f.WaitingSince = 1, epoch.Add(-since)
		if change != nil {
			change(&f)
		}
		return f
	}
	for name, test := range map[string]struct {
		facts certctl.HolderFacts
		due   bool
		at    time.Time
	}{
		"nobody waits":              {settled, false, settled.RenewAt},
		"somebody on line has it":   {waits(time.Hour, func(f *certctl.HolderFacts) { f.GiverOnline = true }), false, settled.RenewAt},
		"they are away since now":   {waits(0, nil), false, epoch.Add(10 * time.Minute)},
		"they are away for long":    {waits(11*time.Minute, nil), true, epoch},
		"the last key is young":     {waits(11*time.Minute, func(f *certctl.HolderFacts) { f.IssuedAt = epoch.Add(-20 * time.Minute) }), false, epoch.Add(40 * time.Minute)},
		"nobody has it":             {waits(0, func(f *certctl.HolderFacts) { f.Givers = 0 }), true, epoch},
		"nobody has it, no renewal": {waits(0, func(f *certctl.HolderFacts) { f.Givers, f.RenewAt = 0, time.Time{} }), true, epoch},
		"paused":                    {waits(time.Hour, func(f *certctl.HolderFacts) { f.Paused = true }), false, time.Time{}},
		"its time has come before":  {waits(0, func(f *certctl.HolderFacts) { f.RenewAt = epoch }), true, epoch},
	} {
		d := certctl.HolderDue(test.facts, epoch)
		if d.Due != test.due || !d.At.Equal(test.at) {
			t.Errorf("%s: %+v", name, d)
		}
	}
}
