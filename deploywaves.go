package certctl

import (
	"math"
	"time"
)

// DeployWaves says how a renewed leaf spreads over the targets of a certificate:
// to a few first, then to a share of them at a time, each time when all that have
// it so far serve it. The zero value is all at once.
type DeployWaves struct {
	Canary int      `json:"canary"`          // targets of the first wave
	Share  float64  `json:"share,omitempty"` // of all targets, of each further wave; 0 = all that are left
	Pause  Duration `json:"pause,omitempty"` // between a wave that is served and the next
}

// WaitWave is why a deployment waits while others of its certificate go first.
const WaitWave WaitReason = "wave"

func (w DeployWaves) validate(bad *FieldErrors) {
	if w == (DeployWaves{}) {
		return
	}
	if w.Canary < 1 || w.Canary > 100_000 {
		bad.Add("/deploy_waves/canary", "must be at least 1")
	}
	if w.Share < 0 || w.Share > 1 {
		bad.Add("/deploy_waves/share", "must be between 0 and 1")
	}
	if w.Pause < 0 || time.Duration(w.Pause) > 7*Day {
		bad.Add("/deploy_waves/pause", "must be at most 7d")
	}
}

// WaveFacts is how far the renewed leaf of a certificate has spread.
type WaveFacts struct {
	Settled     int // targets that serve it
	Open        int // it is on its way to
	Broken      int // that have rolled it back, or failed
	Waiting     int // that do not have it yet
	LastSettled time.Time
}

// Times between two looks at a wave that is under way.
const (
	leastWaveLook = 5 * time.Second
	mostWaveLook  = time.Minute
	waveLookEach  = 50 * time.Millisecond
)

// Release returns how many of the waiting targets get the leaf now, and when to
// look again for the others. A wave that is broken stops all that follow; when it
// heals they go on.
func (w DeployWaves) Release(f WaveFacts, now time.Time) (int, time.Time) {
	again := now.Add(min(max(time.Duration(f.Waiting)*waveLookEach, leastWaveLook), mostWaveLook))
	have := f.Settled + f.Open + f.Broken
	switch {
	case f.Broken > 0:
		return 0, again
	case have < w.Canary:
		return min(w.Canary-have, f.Waiting), again
	case f.Open > 0:
		return 0, again
	}
	if ready := f.LastSettled.Add(time.Duration(w.Pause)); now.Before(ready) {
		return 0, ready
	}
	if w.Share == 0 {
		return f.Waiting, again
	}
	next := int(math.Ceil(w.Share * float64(have+f.Waiting)))
	return min(max(next, 1), f.Waiting), again
}
