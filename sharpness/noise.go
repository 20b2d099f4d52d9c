package sharpness

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/openpith/evidence/internal/seed"
	"github.com/openpith/evidence/objective"
)

// A Law is the distribution of raw noise, independent for every weight.
type Law string

const (
	Uniform    Law = "uniform"    // on [-1, 1): variance 1/3
	Normal     Law = "normal"     // standard
	Rademacher Law = "rademacher" // -1 or 1
)

// fill draws the trained elements of u; the rest is 0.
func (l Law) fill(src rand.Source, tensors []objective.Tensor, u []float32) error {
	r := rand.New(src)
	clear(u)
	for _, t := range tensors {
		part := u[t.Offset : t.Offset+t.Size]
		switch l {
		case Uniform:
			for i := range part {
				part[i] = 2*r.Float32() - 1
			}
		case Normal:
			for i := range part {
				part[i] = float32(r.NormFloat64())
			}
		case Rademacher:
			for i := 0; i < len(part); i += 64 {
				bits := src.Uint64()
				for j := i; j < min(i+64, len(part)); j++ {
					part[j] = float32(bits>>(j-i)&1)*2 - 1
				}
			}
		default:
			return fmt.Errorf("%w: noise %q: want %q, %q or %q", ErrSettings, l, Uniform, Normal, Rademacher)
		}
	}
	return nil
}

// Noise is the measure that SmoothOut minimises: how far the loss rises, on
// average, when noise is put on the weights,
//
//	E_e L(w+e) - L(w),  e = Strength·u measured against w as Norm says.
//
// With None and Uniform it is SmoothOut's (arXiv:1805.07898), to second order
// a²/6·tr H; with Filter AdaSmoothOut's; with Normal and Filter that of LPF-SGD
// (arXiv:2201.08025) up to its unit, gamma·√(size of the filter) = Strength.
type Noise struct {
	Strength  float64             `json:"strength"`  // must be given: the paper's a, or relative
	Law       Law                 `json:"law"`       // default Uniform
	Norm      objective.Norm      `json:"norm"`      // default None
	Selection objective.Selection `json:"selection"` // default: every trained tensor
	Draws     int                 `json:"draws"`     // default 20; of pairs, if antithetic
	OneSided  bool                `json:"one_sided"` // leaves out -e, which cancels odd orders of L around w
}

// NoiseDetail is the detail of a Noise result.
type NoiseDetail struct {
	Rises    []float64 `json:"rises"`    // L(w+e) - L(w) per draw; of a pair the mean
	Accuracy float64   `json:"accuracy"` // mean at noisy weights; NaN is left out
}

// Name implements Measure.
func (Noise) Name() string { return "noise" }

func (m Noise) measure(ctx context.Context, p *point) (*Result, error) {
	defaultTo(&m.Law, Uniform)
	defaultTo(&m.Norm, objective.None)
	defaultTo(&m.Draws, 20)
	if err := positive("strength", m.Strength); err != nil {
		return nil, err
	}
	if m.Draws < 1 {
		return nil, fmt.Errorf("%w: %d draws", ErrSettings, m.Draws)
	}
	signs := []float64{1, -1}
	if m.OneSided {
		signs = signs[:1]
	}
	p.plan(m.Draws * len(signs))
	detail := NoiseDetail{}
	u := make([]float32, len(p.w))
	for draw := range m.Draws {
		if err := m.Law.fill(seed.Stream(p.opts.Seed, "sharpness noise", draw), p.trained, u); err != nil {
			return nil, err
		}
		if err := p.Layout().Scale(m.Norm, m.Selection, p.w, u); err != nil {
			return nil, err
		}
		rise := 0.0
		for _, sign := range signs {
			v, err := p.Loss(ctx, plus(p.w, sign*m.Strength, u))
			if err != nil {
				return nil, err
			}
			p.cost.Losses++
			p.tell()
			rise += (v.Loss - p.at) / float64(len(signs))
			detail.Accuracy += v.Accuracy / float64(len(signs)*m.Draws)
		}
		detail.Rises = append(detail.Rises, rise)
	}
	if math.IsNaN(detail.Accuracy) {
		detail.Accuracy = 0
	}
	r := &Result{Settings: m, Detail: detail}
	r.Value, r.StandardError = mean(detail.Rises)
	return r, nil
}

// PACBayes is the width of normal noise that the point stands: the sigma at
// which E L(w + sigma·u) - L(w) = Rise. Smaller is sharper. It is the
// sigma of PAC-Bayesian bounds; to second order √(2·Rise/tr H).
type PACBayes struct {
	Rise  float64 `json:"rise"`  // default 0.1
	Draws int     `json:"draws"` // default 10, the same for every sigma, each with its opposite
}

// PACBayesDetail is the detail of a PACBayes result.
type PACBayesDetail struct {
	Rise float64 `json:"rise"` // at the sigma found
}

// Name implements Measure.
func (PACBayes) Name() string { return "pac-bayes-sigma" }

func (m PACBayes) measure(ctx context.Context, p *point) (*Result, error) {
	defaultTo(&m.Rise, 0.1)
	defaultTo(&m.Draws, 10)
	if err := positive("rise", m.Rise); err != nil {
		return nil, err
	}
	if m.Draws < 1 {
		return nil, fmt.Errorf("%w: %d draws", ErrSettings, m.Draws)
	}
	p.plan(2 * m.Draws * typicalCrossing)
	u := make([]float32, len(p.w))
	rises := make([]float64, m.Draws)
	rise := func(sigma float64) (float64, error) {
		for draw := range rises {
			rises[draw] = 0
			if err := Normal.fill(seed.Stream(p.opts.Seed, "pac-bayes", draw), p.trained, u); err != nil {
				return 0, err
			}
			for _, s := range []float64{sigma, -sigma} {
				l, err := p.loss(ctx, plus(p.w, s, u))
				if err != nil {
					return 0, err
				}
				rises[draw] += (l - p.at) / 2
			}
		}
		r, _ := mean(rises)
		return r, nil
	}
	start := 1e-3 * (norm(p.w) + 1) / math.Sqrt(float64(p.Layout().Trained()))
	sigma, got, slope, err := crossing(rise, m.Rise, start)
	if err != nil {
		return nil, err
	}
	r := &Result{Settings: m, Value: sigma, Detail: PACBayesDetail{got}}
	if _, se := mean(rises); slope > 0 {
		r.StandardError = se / slope
	}
	return r, nil
}

// typicalCrossing is about how many evaluations crossing needs, for progress.
const typicalCrossing = 22

// crossing finds by doubling and bisection an x, to a relative 1e-3, at which
// rise(x) = target, and the slope there. The last evaluation of rise is at x.
// A rise that never gets there is an error; one that is not a number is beyond.
func crossing(rise func(float64) (float64, error), target, start float64) (x, got, slope float64, err error) {
	low, atLow := 0.0, 0.0
	high, atHigh := start, 0.0
	beyond := func(r float64) bool { return !(r < target) }
	for n := 0; ; n++ {
		if atHigh, err = rise(high); err != nil {
			return 0, 0, 0, err
		}
		if beyond(atHigh) {
			break
		}
		if n == 60 {
			return 0, 0, 0, fmt.Errorf("the loss does not rise by %v within a distance of %.3g", target, high)
		}
		low, atLow = high, atHigh
		high *= 2
	}
	for high-low > 1e-3*high {
		middle := (low + high) / 2
		r, err := rise(middle)
		if err != nil {
			return 0, 0, 0, err
		}
		if beyond(r) {
			high, atHigh = middle, r
		} else {
			low, atLow = middle, r
		}
	}
	x = (low + high) / 2
	if got, err = rise(x); err != nil {
		return 0, 0, 0, err
	}
	return x, got, (atHigh - atLow) / (high - low), nil
}
