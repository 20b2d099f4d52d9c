package sharpness

import (
	"context"
	"fmt"
	"math"
)

// Ascent is m-sharpness, what SAM (arXiv:2010.01412) minimises: the rise of the
// loss one step up the gradient of each part of the data,
//
//	mean over parts B of L_B(w+e) - L_B(w),   e = Rho·g/‖g‖,  g = ∇L_B(w),
//
// or, Adaptive, what ASAM (arXiv:2102.11600) does: e = Rho·T²g/‖Tg‖ with T = |w|.
// The parts are the batches of the function: their size is m.
type Ascent struct {
	Rho      float64 `json:"rho"` // default 0.05, adaptive 0.5
	Adaptive bool    `json:"adaptive"`
}

// AscentDetail is the detail of an Ascent result.
type AscentDetail struct {
	M     float64   `json:"m"`     // examples per part, on average
	Rises []float64 `json:"rises"` // per part
}

// Name implements Measure.
func (m Ascent) Name() string {
	if m.Adaptive {
		return "asam-sharpness"
	}
	return "sam-sharpness"
}

func (m Ascent) filled() Measure {
	if m.Adaptive {
		defaultTo(&m.Rho, 0.5)
	}
	defaultTo(&m.Rho, 0.05)
	return m
}

func (m Ascent) measure(ctx context.Context, p *point) (*Result, error) {
	if err := positive("rho", m.Rho); err != nil {
		return nil, err
	}
	p.plan(2)
	grad := make([]float32, len(p.w))
	detail := AscentDetail{M: float64(p.Examples()) / float64(p.Parts())}
	value, standardError, err := p.overParts(func(part *point) (float64, error) {
		at, err := part.gradient(ctx, p.w, grad)
		if err != nil {
			return 0, err
		}
		if m.Adaptive {
			// T²g/‖Tg‖: scale by |w|, take the norm, scale again.
			for i := range grad {
				grad[i] *= abs(p.w[i])
			}
		}
		size := norm(grad)
		if m.Adaptive {
			for i := range grad {
				grad[i] *= abs(p.w[i])
			}
		}
		up := at
		if size > 0 { // at a stationary point there is no way up
			if up, err = part.loss(ctx, plus(p.w, m.Rho/size, grad)); err != nil {
				return 0, err
			}
		}
		detail.Rises = append(detail.Rises, up-at)
		return up - at, nil
	})
	return &Result{Settings: m, Value: value, StandardError: standardError, Detail: detail}, err
}

func abs(x float32) float32 { return float32(math.Abs(float64(x))) }

// EpsilonFlatness is one over the distance, up the gradient, at which the loss
// has risen by Epsilon: 1/(eta·‖g‖) with L(w+eta·g) - L(w) = Epsilon.
type EpsilonFlatness struct {
	Epsilon float64 `json:"epsilon"` // default 0.1
}

// EpsilonFlatnessDetail is the detail of an EpsilonFlatness result.
type EpsilonFlatnessDetail struct {
	Distance     float64 `json:"distance"` // eta·‖g‖; smaller is sharper
	GradientNorm float64 `json:"gradient_norm"`
}

// Name implements Measure.
func (EpsilonFlatness) Name() string { return "epsilon-flatness" }

func (m EpsilonFlatness) filled() Measure {
	defaultTo(&m.Epsilon, 0.1)
	return m
}

func (m EpsilonFlatness) measure(ctx context.Context, p *point) (*Result, error) {
	if err := positive("epsilon", m.Epsilon); err != nil {
		return nil, err
	}
	p.plan(3 + typicalCrossing)
	grad := make([]float32, len(p.w))
	if _, err := p.gradient(ctx, p.w, grad); err != nil {
		return nil, err
	}
	size := norm(grad)
	if !(size > 0) {
		return nil, fmt.Errorf("%w: the gradient is %v, no way up to follow", ErrUndefined, size)
	}
	distance, _, _, err := crossing(func(d float64) (float64, error) {
		l, err := p.loss(ctx, plus(p.w, d/size, grad))
		return l - p.at, err
	}, m.Epsilon, 1e-3*(norm(p.w)+1))
	if err != nil {
		return nil, err
	}
	r := &Result{Settings: m, Value: 1 / distance, Detail: EpsilonFlatnessDetail{distance, size}}
	r.StandardError, err = m.overExamples(ctx, p, grad, distance)
	return r, err
}

// overExamples is the standard error of 1/distance over the choice of examples. A
// part of the data with a little more weight moves the rise at the distance, by
// its own rise and by how its gradient turns the way up; the slope there says
// how much further or nearer the way then ends.
func (m EpsilonFlatness) overExamples(ctx context.Context, p *point, grad []float32, distance float64) (float64, error) {
	size := norm(grad)
	top := plus(p.w, distance/size, grad)
	there, here := make([]float32, len(grad)), make([]float32, len(grad))
	var tops []float64 // losses of the parts
	sum := make([]float32, len(grad))
	if _, _, err := p.overParts(func(part *point) (float64, error) {
		l, err := part.gradient(ctx, top, there)
		tops = append(tops, l)
		share := float32(part.Examples()) / float32(p.Examples())
		for i, g := range there {
			sum[i] += share * g
		}
		return 0, err
	}); err != nil {
		return 0, err
	}
	slope := dot(sum, grad) / size
	if !(slope > 0) {
		return 0, nil // past a ridge: to first order nothing can be said
	}
	across := plus(sum, -slope/size, grad)
	i := -1
	_, standardError, err := p.overParts(func(part *point) (float64, error) {
		l, err := part.gradient(ctx, p.w, here)
		i++
		return tops[i] - l + distance/size*dot(across, here), err
	})
	return standardError / (slope * distance * distance), err
}
