package smoothout

import (
	"errors"
	"fmt"
	"math"
)

// ErrTune reports that no strength gives the loss rise that was asked for.
var ErrTune = errors.New("no such strength")

// Tuned is a strength and the loss rise that was measured at it.
type Tuned struct {
	Strength    float64 `json:"strength"`
	Gap         float64 `json:"gap"`
	Evaluations int     `json:"evaluations"` // of the gap
}

// Tune finds the strength at which noise raises the loss by target: the gap
// E L(w+e) - L(w), as the caller measures it (with the same draws at every
// strength, so that it has no noise of its own). One target serves networks,
// methods and units that have nothing else in common.
//
// It doubles or halves start, a first guess above 0, until it has the target
// between two strengths, and then halves the interval on a logarithmic scale to
// one per cent. A gap that is not a finite number counts as too large.
func Tune(gap func(strength float64) (float64, error), target, start float64) (Tuned, error) {
	if !(target > 0) || math.IsInf(target, 0) || !(start > 0) || math.IsInf(start, 0) {
		return Tuned{}, fmt.Errorf("%w: target %v from strength %v: want finite numbers above 0", ErrTune, target, start)
	}
	evaluations := 0
	at := func(s float64) (Tuned, error) {
		evaluations++
		v, err := gap(s)
		if math.IsNaN(v) {
			v = math.Inf(1)
		}
		return Tuned{s, v, evaluations}, err
	}
	below, err := at(start)
	if err != nil {
		return Tuned{}, err
	}
	above := below
	const reach = 60 // doublings: beyond float32 either way
	for i := 0; above.Gap < target; i++ {
		if i == reach {
			return Tuned{}, fmt.Errorf("%w: at %g the loss rises by %g, less than %g", ErrTune, above.Strength, above.Gap, target)
		}
		below = above
		if above, err = at(2 * above.Strength); err != nil {
			return Tuned{}, err
		}
	}
	for i := 0; below.Gap >= target; i++ {
		if i == reach {
			return Tuned{}, fmt.Errorf("%w: at %g the loss still rises by %g, more than %g", ErrTune, below.Strength, below.Gap, target)
		}
		above = below
		if below, err = at(below.Strength / 2); err != nil {
			return Tuned{}, err
		}
	}
	for above.Strength > 1.01*below.Strength {
		middle, err := at(math.Sqrt(below.Strength * above.Strength))
		if err != nil {
			return Tuned{}, err
		}
		if middle.Gap < target {
			below = middle
		} else {
			above = middle
		}
	}
	best := below
	if above.Gap-target < target-below.Gap {
		best = above
	}
	best.Evaluations = evaluations
	return best, nil
}
