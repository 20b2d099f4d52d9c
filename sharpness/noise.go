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

func (m Noise) filled() Measure {
	defaultTo(&m.Law, Uniform)
	defaultTo(&m.Norm, objective.None)
	defaultTo(&m.Draws, 20)
	return m
}

func (m Noise) measure(ctx context.Context, p *point) (*Result, error) {
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

func (m PACBayes) filled() Measure {
	defaultTo(&m.Rise, 0.1)
	defaultTo(&m.Draws, 10)
	return m
}

func (m PACBayes) measure(ctx context.Context, p *point) (*Result, error) {
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
const typicalCrossing = 8

// crossing finds an x, to a relative 1e-3, at which rise(x) = target, and the
// slope there. The last evaluation of rise is at x. Near a minimum a rise is
// close to a power of x, so guesses are made as if it were one, and halved
// intervals take over where it is not. A rise that never gets there is an
// error; one that is not a number is beyond.
func crossing(rise func(float64) (float64, error), target, start float64) (x, got, slope float64, err error) {
	const close, tries, farthest = 1e-3, 80, 1e12
	low, atLow := 0.0, 0.0
	high, atHigh := math.Inf(1), math.Inf(1)
	x = start
	for n := 0; n < tries && low < farthest*start; n++ {
		if got, err = rise(x); err != nil {
			return 0, 0, 0, err
		}
		beyond := !(got < target)
		if beyond {
			high, atHigh = x, got
		} else {
			low, atLow = x, got
		}
		if math.Abs(got-target) <= close*target || !math.IsInf(high, 1) && high-low <= close*high {
			// Of a power law k·x^p the slope is p·rise/x; p = 2 unless two
			// points on either side tell.
			p := 2.0
			if low > 0 && atLow > 0 && !math.IsInf(atHigh, 1) && atHigh > atLow {
				p = math.Log(atHigh/atLow) / math.Log(high/low)
			}
			return x, got, p * got / x, nil
		}
		switch {
		case math.IsInf(high, 1): // not there yet: as if quadratic, at most 16 times as far
			x = low * 16
			if atLow > 0 {
				x = low * math.Min(16, 1.1*math.Sqrt(target/atLow))
			}
		case n%3 == 2 || !(atLow > 0) || math.IsNaN(atHigh) || math.IsInf(atHigh, 1):
			if low == 0 {
				x = high * math.Max(1./16, math.Min(0.9, math.Sqrt(target/atHigh)))
				if math.IsNaN(x) {
					x = high / 16
				}
			} else {
				x = (low + high) / 2
			}
		default:
			p := math.Log(atHigh/atLow) / math.Log(high/low)
			x = low * math.Pow(target/atLow, 1/p)
			if !(x > low && x < high) {
				x = (low + high) / 2
			}
		}
	}
	return 0, 0, 0, fmt.Errorf("%w: the loss does not rise by %v within a distance of %.3g", ErrUndefined, target, low)
}
