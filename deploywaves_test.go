package certctl_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/certctl/certctl"
)

func TestDeployWavesWaitForEachOther(t *testing.T) {
	t.Parallel()
	waves := certctl.DeployWaves{Canary: 2, Share: 0.25, Pause: certctl.Duration(10 * time.Minute)}
	for name, test := range map[string]struct {
		facts certctl.WaveFacts
		after time.Duration // since the last one was settled
		want  int
	}{
		"the canary":                    {certctl.WaveFacts{Waiting: 40}, 0, 2},
		"fewer targets than the canary": {certctl.WaveFacts{Waiting: 1}, 0, 1},
		"the canary is under way":       {certctl.WaveFacts{Open: 2, Waiting: 38}, 0, 0},
		"half of it is served":          {certctl.WaveFacts{Settled: 1, Open: 1, Waiting: 38}, time.Hour, 0},
		"a pause":                       {certctl.WaveFacts{Settled: 2, Waiting: 38}, 9 * time.Minute, 0},
		"a quarter follows":             {certctl.WaveFacts{Settled: 2, Waiting: 38}, 10 * time.Minute, 10},
		"the last ones":                 {certctl.WaveFacts{Settled: 32, Waiting: 8}, time.Hour, 8},
		"one has rolled back":           {certctl.WaveFacts{Settled: 11, Broken: 1, Waiting: 28}, time.Hour, 0},
		"it has healed":                 {certctl.WaveFacts{Settled: 12, Waiting: 28}, time.Hour, 10},
	} {
		test.facts.LastSettled = epoch
		now := epoch.Add(test.after)
		n, at := waves.Release(test.facts, now)
		if n != test.want || !at.After(now) {
			t.Errorf("%s: %d, again at %s", name, n, at)
		}
	}
	if n, _ := (certctl.DeployWaves{Canary: 1}).Release(certctl.WaveFacts{Settled: 1, Waiting: 9}, epoch); n != 9 {
		t.Errorf("without a share: %d", n)
	}
	policy := certctl.DefaultRenewalPolicy()
	for _, bad := range []certctl.DeployWaves{{Share: 0.5}, {Canary: 1, Share: 2}, {Canary: 1, Pause: certctl.Duration(8 * certctl.Day)}} {
		if policy.DeployWaves = bad; certctl.ErrorCode(policy.Validate()) != certctl.Invalid {
			t.Errorf("%+v is let through", bad)
		}
	}
}

// Whatever the waves and the number of targets, each target gets the leaf once,
// and never more than a wave of them have it while it is not served.
func TestDeployWavesReachEveryTargetOnce(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(5, 6))
	for range 2000 {
		waves := certctl.DeployWaves{Canary: 1 + random.IntN(10), Share: random.Float64(), Pause: certctl.Duration(random.Int64N(int64(time.Hour)))}
		targets := 1 + random.IntN(300)
		facts, now := certctl.WaveFacts{Waiting: targets}, epoch
		for steps := 0; facts.Settled < targets; steps++ {
			n, at := waves.Release(facts, now)
			if n < 0 || n > facts.Waiting || steps > 1000 || !at.After(now) {
				t.Fatalf("%+v of %+v at %s: releases %d", waves, facts, now, n)
			}
			facts.Waiting, facts.Open = facts.Waiting-n, facts.Open+n
			if limit := max(float64(waves.Canary), waves.Share*float64(targets)+1); float64(facts.Open) > limit {
				t.Fatalf("%d of %d at once by %+v", facts.Open, targets, waves)
			}
			if now = at; facts.Open > 0 && random.IntN(2) == 0 {
				facts.Settled, facts.Open, facts.LastSettled = facts.Settled+1, facts.Open-1, now
			}
		}
	}
}
