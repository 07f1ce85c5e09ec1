package certctl_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/certctl/certctl"
)

var epoch = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func TestRenewAtByLifetime(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		lifetime time.Duration
		policy   func(*certctl.RenewalPolicy)
		want     time.Duration // after notBefore, without jitter
	}{
		"ninety days at two thirds": {lifetime: 90 * certctl.Day, want: 60 * certctl.Day},
		"six days at half":          {lifetime: 6 * certctl.Day, want: 3 * certctl.Day},
		"one hour at half":          {lifetime: time.Hour, want: 30 * time.Minute},
		"fixed window":              {lifetime: 90 * certctl.Day, policy: func(p *certctl.RenewalPolicy) { p.Before = certctl.Duration(20 * certctl.Day) }, want: 70 * certctl.Day},
		"window longer than life":   {lifetime: 6 * certctl.Day, policy: func(p *certctl.RenewalPolicy) { p.Before = certctl.Duration(30 * certctl.Day) }, want: 3 * certctl.Day},
		"own fraction":              {lifetime: 100 * certctl.Day, policy: func(p *certctl.RenewalPolicy) { p.Fraction = 0.8 }, want: 80 * certctl.Day},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := certctl.DefaultRenewalPolicy()
			if test.policy != nil {
				test.policy(&p)
			}
			at, renews := certctl.RenewAt(epoch, epoch.Add(test.lifetime), p, 0)
			if got := at.Sub(epoch); !renews || (got-test.want).Abs() > time.Second {
				t.Errorf("due after %s, want %s", got, test.want)
			}
		})
	}
	policy := certctl.RenewalPolicy{AutoRenew: false}
	if _, renews := certctl.RenewAt(epoch, epoch.Add(time.Hour), policy, 0); renews {
		t.Error("a policy without auto_renew renews")
	}
}

// Each certificate renews once per cycle, whatever its lifetime and policy: the
// due time lies inside the leaf's life, not before its first sixth, and never
// after its end.
func TestRenewAtStaysInsideTheLifetime(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		lifetime := time.Duration(random.Int64N(int64(398*certctl.Day))) + 5*time.Minute
		policy := certctl.RenewalPolicy{AutoRenew: true, Jitter: random.Float64() * 0.2}
		switch random.IntN(3) {
		case 0:
			policy.Before = certctl.Duration(time.Minute + time.Duration(random.Int64N(int64(60*certctl.Day))))
		case 1:
			policy.Fraction = 0.1 + 0.85*random.Float64()
		}
		at, _ := certctl.RenewAt(epoch, epoch.Add(lifetime), policy, random.Float64())
		after := at.Sub(epoch)
		if after < lifetime/25 || after >= lifetime {
			t.Fatalf("lifetime %s, policy %+v: due after %s", lifetime, policy, after)
		}
	}
}

func TestBackoffDoublesUpToSixHours(t *testing.T) {
	t.Parallel()
	want := []time.Duration{time.Minute, 2 * time.Minute, 4 * time.Minute, 8 * time.Minute}
	for i, wait := range want {
		if got := certctl.Backoff(i+1, 0); got != wait {
			t.Errorf("after %d tries: %s, want %s", i+1, got, wait)
		}
	}
	for _, n := range []int{10, 100, 1 << 30} {
		if got := certctl.Backoff(n, 0); got != 6*time.Hour {
			t.Errorf("after %d tries: %s, want 6h", n, got)
		}
	}
	if got := certctl.Backoff(1, 0.999); got < 54*time.Second || got >= time.Minute {
		t.Errorf("with spread: %s", got)
	}
}

func TestHolderDue(t *testing.T) {
	t.Parallel()
	healthy := certctl.HolderFacts{
		Revision: 3, VersionRevision: 3, Deployed: 2, Verified: 2,
		IssuedAt: epoch, NotAfter: epoch.Add(90 * certctl.Day), RenewAt: epoch.Add(60 * certctl.Day),
	}
	for name, test := range map[string]struct {
		change func(*certctl.HolderFacts)
		at     time.Duration
		reason string
		next   time.Duration
	}{
		"not yet":                {at: 59 * certctl.Day, next: 60 * certctl.Day},
		"time has come":          {at: 60 * certctl.Day, reason: "renew_at"},
		"long expired":           {at: 400 * certctl.Day, reason: "renew_at"},
		"first version":          {change: func(f *certctl.HolderFacts) { f.VersionRevision = 0 }, reason: "no_version"},
		"older revision":         {change: func(f *certctl.HolderFacts) { f.VersionRevision = 2 }, reason: "revision"},
		"revoked":                {change: func(f *certctl.HolderFacts) { f.Revoked = true }, reason: "revoked"},
		"never by itself":        {change: func(f *certctl.HolderFacts) { f.RenewAt = time.Time{} }, at: 89 * certctl.Day},
		"unmanaged":              {change: func(f *certctl.HolderFacts) { f.Unmanaged, f.Revoked = true, true }},
		"nowhere verified yet":   {change: func(f *certctl.HolderFacts) { f.Verified = 0; f.RenewAt = epoch.Add(30 * certctl.Day) }, at: 31 * certctl.Day, next: 45 * certctl.Day},
		"half of life is gone":   {change: func(f *certctl.HolderFacts) { f.Verified = 0; f.RenewAt = epoch.Add(30 * certctl.Day) }, at: 45 * certctl.Day, reason: "renew_at"},
		"nothing to be verified": {change: func(f *certctl.HolderFacts) { f.Deployed, f.Verified = 0, 0 }, at: 60 * certctl.Day, reason: "renew_at"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			facts := healthy
			if test.change != nil {
				test.change(&facts)
			}
			d := certctl.HolderDue(facts, epoch.Add(test.at))
			if d.Due != (test.reason != "") || d.Due && d.Reason != test.reason {
				t.Errorf("%+v, want %q", d, test.reason)
			}
			if test.next != 0 && !d.At.Equal(epoch.Add(test.next)) {
				t.Errorf("look again at %s, want %s", d.At, epoch.Add(test.next))
			}
		})
	}
}

func TestOrderMovesOnlyForward(t *testing.T) {
	t.Parallel()
	states := []certctl.OrderState{
		certctl.OrderPending, certctl.OrderAwaitingApproval, certctl.OrderAwaitingCSR, certctl.OrderReady,
		certctl.OrderProcessing, certctl.OrderIssued, certctl.OrderRefused, certctl.OrderCancelled,
	}
	for _, from := range states {
		for _, to := range states {
			if from.Final() && from.CanMove(to) {
				t.Errorf("%s is final but moves to %s", from, to)
			}
		}
		if !from.Final() && !from.CanMove(certctl.OrderCancelled) {
			t.Errorf("%s cannot be cancelled", from)
		}
	}
	if certctl.OrderAwaitingApproval.CanMove(certctl.OrderProcessing) || certctl.OrderPending.CanMove(certctl.OrderIssued) {
		t.Error("an order can be issued without having been ready")
	}
}

func TestNextTry(t *testing.T) {
	t.Parallel()
	retry := func(kind certctl.FailureKind, n int, after time.Duration) (time.Duration, bool) {
		at, again := certctl.NextTry(&certctl.IssueError{Kind: kind, RetryAfter: after}, n, epoch, 0)
		return at.Sub(epoch), again
	}
	if _, again := retry(certctl.FailRefused, 1, 0); again {
		t.Error("a refused order is tried again")
	}
	if wait, _ := retry(certctl.FailRetryable, 1, time.Hour); wait != time.Hour {
		t.Errorf("Retry-After of an hour gave %s", wait)
	}
	if wait, _ := retry(certctl.FailRetryable, 3, 0); wait != 4*time.Minute {
		t.Errorf("third failure waits %s", wait)
	}
	if wait, _ := retry(certctl.FailRateLimited, 9, 90*time.Second); wait != 90*time.Second {
		t.Errorf("a budget that frees in 90 s is waited for %s", wait)
	}
	if wait, _ := retry(certctl.FailRateLimited, 3, 0); wait != 4*time.Minute {
		t.Errorf("a budget of which nothing is known is waited for %s", wait)
	}
	if wait, _ := retry(certctl.FailRetryable, 99, 0); wait != 6*time.Hour {
		t.Errorf("the longest wait is %s", wait)
	}
	if wait, _ := retry(certctl.FailMisconfigured, 1, 0); wait != 6*time.Hour {
		t.Errorf("a wrong configuration is tried again after %s", wait)
	}
}

func TestStatusOf(t *testing.T) {
	t.Parallel()
	for want, facts := range map[certctl.CertificateStatus]certctl.CertificateFacts{
		certctl.StatusPending:   {},
		certctl.StatusRefused:   {LastOrderRefused: true},
		certctl.StatusDeploying: {Versions: 1, OpenDeployments: 1},
		certctl.StatusActive:    {Versions: 2},
		certctl.StatusDegraded:  {Versions: 1, BrokenDeployments: 1, OpenDeployments: 1},
		certctl.StatusRevoked:   {Versions: 1, Revoked: true},
		certctl.StatusMonitored: {Versions: 1, Monitored: true},
		certctl.StatusArchived:  {Archived: true, Versions: 1, BrokenDeployments: 1},
	} {
		if got := certctl.StatusOf(facts); got != want {
			t.Errorf("%+v is %s, want %s", facts, got, want)
		}
	}
	if got := certctl.StatusOf(certctl.CertificateFacts{Versions: 1, Missing: 1}); got != certctl.StatusDeploying {
		t.Errorf("with one holder of two served it is %s", got)
	}
}

func TestDeploymentNext(t *testing.T) {
	t.Parallel()
	for outcome, want := range map[certctl.ReceiptOutcome]certctl.DeploymentState{
		certctl.OutcomeVerified: certctl.DeploymentVerified, certctl.OutcomeInstalled: certctl.DeploymentInstalled,
		certctl.OutcomeRolledBack: certctl.DeploymentRolledBack, certctl.OutcomeFailed: certctl.DeploymentFailed,
		"something newer": certctl.DeploymentFailed,
	} {
		state, due := certctl.DeploymentInstalling.Next(outcome, 1, epoch, 0)
		if state != want || state.Final() != due.IsZero() {
			t.Errorf("%s gives %s, due %s", outcome, state, due)
		}
	}
}

func TestAllowed(t *testing.T) {
	t.Parallel()
	certificate := certctl.Object{Kind: certctl.ObjectCertificate, Team: "web"}
	for name, test := range map[string]struct {
		principal certctl.Principal
		verb      certctl.Verb
		object    certctl.Object
		want      bool
	}{
		"no role":                     {certctl.Principal{}, certctl.VerbRead, certificate, false},
		"viewer reads":                {certctl.Principal{Roles: []certctl.Role{certctl.RoleViewer}}, certctl.VerbRead, certificate, true},
		"viewer does not revoke":      {certctl.Principal{Roles: []certctl.Role{certctl.RoleViewer}}, certctl.VerbRevoke, certificate, false},
		"viewer sees no keys":         {certctl.Principal{Roles: []certctl.Role{certctl.RoleViewer}}, certctl.VerbRead, certctl.Object{Kind: certctl.ObjectAPIKey}, false},
		"operator issues":             {certctl.Principal{Roles: []certctl.Role{certctl.RoleOperator}}, certctl.VerbIssue, certificate, true},
		"operator makes no issuer":    {certctl.Principal{Roles: []certctl.Role{certctl.RoleOperator}}, certctl.VerbCreate, certctl.Object{Kind: certctl.ObjectIssuer}, false},
		"operator of another team":    {certctl.Principal{Team: "db", Roles: []certctl.Role{certctl.RoleOperator}}, certctl.VerbIssue, certificate, false},
		"admin of another team":       {certctl.Principal{Team: "db", Roles: []certctl.Role{certctl.RoleAdmin}}, certctl.VerbRead, certificate, false},
		"admin":                       {certctl.Principal{Roles: []certctl.Role{certctl.RoleAdmin}}, certctl.VerbRetire, certctl.Object{Kind: certctl.ObjectAgent, Team: "web"}, true},
		"disabled admin":              {certctl.Principal{DisabledAt: epoch, Roles: []certctl.Role{certctl.RoleAdmin}}, certctl.VerbRead, certificate, false},
		"enroller makes tokens":       {certctl.Principal{Roles: []certctl.Role{certctl.RoleAgentEnroller}}, certctl.VerbCreate, certctl.Object{Kind: certctl.ObjectJoinToken}, true},
		"enroller reads no certs":     {certctl.Principal{Roles: []certctl.Role{certctl.RoleAgentEnroller}}, certctl.VerbRead, certificate, false},
		"auditor reads the log":       {certctl.Principal{Roles: []certctl.Role{certctl.RoleAuditor}}, certctl.VerbAudit, certctl.Object{Kind: certctl.ObjectEvent}, true},
		"auditor changes nothing":     {certctl.Principal{Roles: []certctl.Role{certctl.RoleAuditor}}, certctl.VerbUpdate, certificate, false},
		"unknown role grants nothing": {certctl.Principal{Roles: []certctl.Role{"root"}}, certctl.VerbRead, certificate, false},
	} {
		if got := certctl.Allowed(test.principal, test.verb, test.object); got != test.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
