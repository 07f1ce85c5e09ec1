package certctl_test

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/certctl/certctl"
)

// simulation runs a rollout whose items settle some time after their release.
type simulation struct {
	certctl.Rollout
	now      time.Time
	settling []time.Time // when each released item of the wave settles
	released int         // items, of all waves
	steps    int
}

func (s *simulation) wave() certctl.RolloutWave {
	w := certctl.RolloutWave{Items: s.Plan.Waves[s.Wave]}
	for _, at := range s.settling {
		if at.After(s.now) {
			w.Ordered++
		} else {
			w.Done++
		}
	}
	w.Pending = w.Items - len(s.settling)
	return w
}

// step does what Next says, as the store does.
func (s *simulation) step(t *testing.T, settle time.Duration) (over bool) {
	t.Helper()
	w := s.wave()
	step := s.Next(w, s.now)
	switch {
	case step.Complete:
		return true
	case step.Halt:
		t.Fatalf("halted although nothing fails: %+v", w)
	case step.Release > w.Pending || step.Release > 0 && step.NextWave:
		t.Fatalf("releases %+v of %+v", step, w)
	case step.NextWave:
		s.Wave, s.Base, s.Began, s.settling, s.Released = s.Wave+1, 0, time.Time{}, nil, s.now
		return false
	case step.Release > 0:
		if s.Began.IsZero() {
			s.Began = s.now
		}
		s.Released = s.now
		for range step.Release {
			s.settling = append(s.settling, s.now.Add(settle))
		}
		s.released += step.Release
	}
	if !step.At.After(s.now) {
		t.Fatalf("looks again at %s, which is not after now: %+v of %+v", step.At, step, w)
	}
	s.now = step.At
	return false
}

// Every item is released exactly once, and the deadline is met when nothing fails
// and every item settles within the patience.
func TestARolloutMeetsItsDeadline(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(3, 4))
	for range 300 {
		items := 1 + random.IntN(3000)
		request := certctl.RolloutRequest{Selection: certctl.Selection{Issuer: "x"}, Deadline: epoch.Add(time.Hour + time.Duration(random.Int64N(int64(20*certctl.Day))))}
		if random.IntN(2) == 0 {
			request.Pace = certctl.RolloutPace{Canary: 1 + random.IntN(20), Growth: 1.5 + 5*random.Float64()}
		}
		if err := request.Complete(epoch); err != nil {
			t.Fatal(err)
		}
		plan, err := certctl.PlanRollout(items, request.Pace, epoch, request.Deadline)
		if err != nil || plan.Size() != items {
			t.Fatalf("%d items: %+v, %v", items, plan, err)
		}
		s := &simulation{Rollout: certctl.Rollout{Plan: plan, Pace: request.Pace, Deadline: request.Deadline, Released: epoch}, now: epoch}
		settle := time.Duration(random.Int64N(int64(plan.Patience)))
		for !s.step(t, settle) {
			if s.steps++; s.steps > 100_000 {
				t.Fatalf("never ends: %+v", s.Rollout)
			}
		}
		if late := s.now.Sub(request.Deadline); s.released != items || late > time.Minute {
			t.Fatalf("%d of %d items released, %s after the deadline: %+v, %+v", s.released, items, late, plan, request.Pace)
		}
	}
}

func TestARolloutHaltsWhenTooMuchFails(t *testing.T) {
	t.Parallel()
	pace := certctl.RolloutPace{Threshold: 0.1, Least: 3}
	for name, test := range map[string]struct {
		items, failed, forgiven int
		halt                    bool
	}{
		"nothing":                    {items: 100},
		"one of a hundred":           {items: 100, failed: 1},
		"a tenth":                    {items: 100, failed: 10, halt: true},
		"a tenth, fewer than least":  {items: 20, failed: 2},
		"least, more than a tenth":   {items: 20, failed: 3, halt: true},
		"a canary of one":            {items: 1, failed: 1, halt: true},
		"a canary of two, half":      {items: 2, failed: 1},
		"a canary of two":            {items: 2, failed: 2, halt: true},
		"known when resumed":         {items: 100, failed: 10, forgiven: 10},
		"as many again":              {items: 100, failed: 20, forgiven: 10, halt: true},
		"healed after it was known":  {items: 100, failed: 4, forgiven: 10},
		"a few more than were known": {items: 100, failed: 12, forgiven: 10},
	} {
		r := certctl.Rollout{Pace: pace, Forgiven: test.forgiven, Plan: certctl.RolloutPlan{Waves: []int{test.items}, Rate: 1, Patience: certctl.Duration(time.Hour)}, Began: epoch, Released: epoch}
		step := r.Next(certctl.RolloutWave{Items: test.items, Ordered: test.items - test.failed, Failed: test.failed}, epoch)
		if step.Halt != test.halt {
			t.Errorf("%s: %+v", name, step)
		}
	}
}

// The last of a wave that goes out is looked at soon, however slow the pace is:
// nothing is left that it would hold back.
func TestAWaveThatIsOutIsLookedAtSoon(t *testing.T) {
	t.Parallel()
	plan := certctl.RolloutPlan{Waves: []int{1, 4}, Rate: 1, Patience: certctl.Duration(time.Hour)}
	r := certctl.Rollout{Plan: plan, Began: epoch, Released: epoch}
	if step := r.Next(certctl.RolloutWave{Items: 1, Pending: 1}, epoch); step.Release != 1 || step.At.Sub(epoch) > time.Minute {
		t.Errorf("a canary: %+v", step)
	}
	r.Wave = 1
	if step := r.Next(certctl.RolloutWave{Items: 4, Pending: 4}, epoch); step.Release != 1 || step.At.Sub(epoch) != time.Hour {
		t.Errorf("the first of four: %+v", step)
	}
}

func TestARolloutIsPlannedOrRefused(t *testing.T) {
	t.Parallel()
	pace := certctl.RolloutPace{Canary: 5, Growth: 4, Patience: certctl.Duration(time.Hour)}
	if _, err := certctl.PlanRollout(10_000, pace, epoch, epoch.Add(2*time.Hour)); certctl.ErrorCode(err) != certctl.Invalid {
		t.Errorf("seven hours of patience in two: %v", err)
	}
	plan, err := certctl.PlanRollout(100, pace, epoch, epoch.Add(10*time.Hour))
	if err != nil || !slices.Equal(plan.Waves, []int{5, 20, 75}) {
		t.Errorf("%+v, %v", plan, err)
	}
	if again := plan.Replan(1, 95, epoch.Add(9*time.Hour), epoch.Add(10*time.Hour)); again.Rate <= plan.Rate || again.Patience >= plan.Patience {
		t.Errorf("an hour is left: %+v, was %+v", again, plan)
	}
	if late := plan.Replan(1, 95, epoch.Add(11*time.Hour), epoch.Add(10*time.Hour)); late.Rate != 0 {
		t.Errorf("after the deadline: %+v", late)
	}
	var nothing certctl.RolloutRequest
	if err := nothing.Complete(epoch); certctl.ErrorCode(err) != certctl.Invalid {
		t.Errorf("everything at once: %v", err)
	}
	if step := (certctl.Rollout{}).Next(certctl.RolloutWave{}, epoch); !step.Complete {
		t.Errorf("nothing to replace: %+v", step)
	}
}
