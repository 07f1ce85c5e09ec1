package store_test

import (
	"strings"
	"testing"

	"github.com/certctl/certctl"
)

// drifted is a certificate under a policy, whose agent finds its files changed.
func (w *world) drifted(action certctl.DriftAction) (certctl.Certificate, certctl.Deployment, certctl.Installed) {
	w.t.Helper()
	policy := certctl.DefaultRenewalPolicy()
	policy.Name, policy.Drift = "watched", action
	if _, err := w.CreateRenewalPolicy(w.ctx, w.admin, policy); err != nil {
		w.t.Fatal(err)
	}
	c, d := w.deployed("one")
	if _, err := w.UpdateCertificate(w.ctx, w.admin, c.Name, certctl.CertificatePatch{RenewalPolicy: &policy.Name}); err != nil {
		w.t.Fatal(err)
	}
	w.exec(`update deployment set updated_at = now() - interval '5 minutes'`)
	return c, d, certctl.Installed{Binding: d.Binding, Version: d.Version, Number: 7, Drift: "the key is gone"}
}

func TestDriftIsRepaired(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c, d, changed := w.drifted("")
	box := w.asks(d.Agent, changed)
	if len(box.Installs) != 1 || box.Installs[0].Deployment.ID != d.ID || box.Installs[0].Number <= changed.Number {
		t.Fatalf("box %+v", box.Installs)
	}
	if got := w.deployments(c)[0]; got.State != certctl.DeploymentInstalling || got.Reason != "drift" || !strings.Contains(got.Message, "gone") {
		t.Errorf("deployment %+v", got)
	}
	if n := w.count(`select count(*) from event where name = 'deployment_drifted'`); n != 1 {
		t.Errorf("%d events", n)
	}
	w.consistent()
}

// Where the policy only wants to know, an event tells once, and the deployment
// until the files are as they were.
func TestDriftIsReported(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c, d, changed := w.drifted(certctl.DriftReport)
	for range 2 {
		if box := w.asks(d.Agent, changed); len(box.Installs) != 0 {
			t.Fatalf("box %+v", box.Installs)
		}
	}
	events := func(want int) {
		t.Helper()
		if n := w.count(`select count(*) from event where name = 'deployment_drifted'`); n != want {
			t.Errorf("%d events, want %d", n, want)
		}
	}
	events(1)
	if got := w.deployments(c)[0]; got.State != certctl.DeploymentVerified || got.Reason != "drift" {
		t.Errorf("deployment %+v", got)
	}
	mended := changed
	mended.Drift = ""
	w.asks(d.Agent, mended)
	if got := w.deployments(c)[0]; got.Reason != "" || got.Message != "" {
		t.Errorf("deployment %+v", got)
	}
	w.asks(d.Agent, changed)
	events(2)
	w.consistent()
}
