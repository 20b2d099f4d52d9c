// Package sharpness measures how flat a minimum is.
//
// A [Measure] is a value with its settings; [Run] applies it to a point, that
// is a loss as a function of the weights (package objective) and the weights:
//
//	r, err := sharpness.Run(ctx, sharpness.Noise{Strength: 0.01}, f, w, sharpness.Options{Seed: 1})
//	fmt.Printf("the loss rises by %.4f ± %.4f\n", r.Value, r.StandardError)
//
// Every measure is larger at sharper points, but the sigma of [PACBayes] (and the
// distance in [EpsilonFlatnessDetail]); see [LargerIsSharper]. A result tells what it cost, on
// how many examples, and how far it can be off; equal seeds give equal results.
//
// What a measure means depends on the data and on the batch-norm statistics
// behind f, which the caller chose: measure on training data, where the loss was
// minimised, and at recalibrated or running statistics, never in between.
package sharpness

import (
	"context"
	"errors"
	"fmt"
	"math"
	"reflect"
	"time"

	"github.com/openpith/evidence/objective"
)

// A Measure is a number for the sharpness of a point. The types of this
// package implement it; their fields are the settings, zero values the defaults.
type Measure interface {
	// Name is a short word, like "keskar".
	Name() string
	// filled has the defaults where settings are zero; measure is only called on
	// what it returns.
	filled() Measure
	measure(ctx context.Context, p *point) (*Result, error)
}

// ErrSettings reports settings that describe no measure.
var ErrSettings = errors.New("invalid settings of a measure")

// ErrUndefined reports a point at which a measure has no value, such as one where
// the loss is no number. It is a finding about the point; every other error is
// about the attempt, and another attempt may succeed.
var ErrUndefined = errors.New("the measure has no value here")

// Options are what all measures share.
type Options struct {
	Seed int64
	// Progress, if not nil, is told after each pass over the data how many
	// were done, and how many there will be at most.
	Progress func(done, atMost int)
}

// A Result is what a measure saw.
type Result struct {
	Measure  string  `json:"measure"`
	Settings Measure `json:"settings"` // as used, defaults filled in
	Value    float64 `json:"value"`
	// StandardError is that of Value: over the random draws of the measure, with the
	// examples as they are; of Ascent, EpsilonFlatness and FisherRao, which draw
	// nothing, over the choice of examples, to first order by the parts of the data. 0
	// where it is not known: of one part, of Keskar's measure in full space, and of
	// Eigenvalues, which bounds its error instead.
	StandardError float64 `json:"standard_error"`
	Loss          float64 `json:"loss"`     // at the point itself
	Examples      int     `json:"examples"` // that the loss is a mean of
	Seed          int64   `json:"seed"`
	Cost          Cost    `json:"cost"`
	// Detail holds what only this measure has; see its documentation.
	Detail any `json:"detail,omitempty"`
}

// Cost counts passes over all the examples.
type Cost struct {
	Losses         float64 `json:"losses"`
	Gradients      float64 `json:"gradients"`       // each about three losses
	HessianVectors float64 `json:"hessian_vectors"` // exact ones; each about six losses
	Seconds        float64 `json:"seconds"`
}

// Run applies a measure to the loss f at the weights w, which it does not
// change. Errors: ErrSettings, those of f, and the cause of ctx's end.
func Run(ctx context.Context, m Measure, f objective.Func, w []float32, opts Options) (*Result, error) {
	if len(w) != f.Layout().Size() {
		return nil, fmt.Errorf("%w: %d weights for a layout of %d", objective.ErrModel, len(w), f.Layout().Size())
	}
	start := time.Now()
	p := &point{Func: f, w: w, opts: opts, trained: f.Layout().Select(objective.Selection{})}
	value, err := p.loss(ctx, w)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", m.Name(), err)
	}
	if math.IsNaN(value) || math.IsInf(value, 0) {
		return nil, fmt.Errorf("%s: %w: the loss at the point is %v", m.Name(), ErrUndefined, value)
	}
	p.at = value
	r, err := m.filled().measure(ctx, p)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", m.Name(), err)
	}
	r.Measure, r.Loss, r.Examples, r.Seed = m.Name(), p.at, f.Examples(), opts.Seed
	r.Cost = p.cost
	r.Cost.Seconds = time.Since(start).Seconds()
	return r, nil
}

// Filled is the measure with its defaults spelled out, as results carry it.
func Filled(m Measure) Measure { return m.filled() }

// LargerIsSharper reports whether the value of a measure is larger at sharper
// points.
func LargerIsSharper(m Measure) bool {
	_, width := m.(PACBayes)
	return !width
}

// Same reports whether two measures are one, defaults counted as what they
// stand for.
func Same(a, b Measure) bool { return reflect.DeepEqual(a.filled(), b.filled()) }

// A point is a function with weights, and the meter that counts what is asked.
type point struct {
	objective.Func
	w       []float32
	at      float64 // the loss there
	trained []objective.Tensor
	opts    Options
	cost    Cost
	atMost  int // passes
}

// plan says how many passes are to come at most, for Progress.
func (p *point) plan(passes int) {
	p.atMost = passes + int(p.cost.Losses+p.cost.Gradients+p.cost.HessianVectors)
}

func (p *point) tell() {
	if p.opts.Progress != nil {
		done := int(p.cost.Losses + p.cost.Gradients + p.cost.HessianVectors)
		p.opts.Progress(done, max(done, p.atMost))
	}
}

func (p *point) loss(ctx context.Context, w []float32) (float64, error) {
	v, err := p.Loss(ctx, w)
	p.cost.Losses++
	p.tell()
	return v.Loss, err
}

func (p *point) gradient(ctx context.Context, w, grad []float32) (float64, error) {
	v, err := p.Gradient(ctx, w, grad)
	p.cost.Gradients++
	p.tell()
	return v.Loss, err
}

// overParts is the mean over the parts of the data, by their numbers of examples,
// of what do says of each, and its standard error. The point that do gets has
// one part as its loss.
func (p *point) overParts(do func(part *point) (float64, error)) (value, standardError float64, err error) {
	var values, shares []float64
	for i := range p.Parts() {
		part := &point{Func: p.Part(i), w: p.w, trained: p.trained}
		x, err := do(part)
		if err != nil {
			return 0, 0, err
		}
		share := float64(part.Examples()) / float64(p.Examples())
		values, shares = append(values, x), append(shares, share)
		value += share * x
		p.cost.Losses += share * part.cost.Losses
		p.cost.Gradients += share * part.cost.Gradients
		p.cost.HessianVectors += share * part.cost.HessianVectors
		p.tell()
	}
	n := float64(len(values))
	if n == 1 {
		return value, 0, nil
	}
	for i, x := range values {
		standardError += math.Pow(shares[i]*(x-value), 2)
	}
	return value, math.Sqrt(standardError * n / (n - 1)), nil
}

// plus returns w + scale·u.
func plus(w []float32, scale float64, u []float32) []float32 {
	out := make([]float32, len(w))
	for i := range w {
		out[i] = w[i] + float32(scale*float64(u[i]))
	}
	return out
}

func dot(a, b []float32) float64 {
	s := 0.0
	for i := range a {
		s += float64(a[i]) * float64(b[i])
	}
	return s
}

func norm(a []float32) float64 { return math.Sqrt(dot(a, a)) }

// mean returns the mean of x and its standard error, 0 for a single number.
func mean(x []float64) (m, se float64) {
	for _, v := range x {
		m += v / float64(len(x))
	}
	if len(x) < 2 {
		return m, 0
	}
	for _, v := range x {
		se += (v - m) * (v - m)
	}
	return m, math.Sqrt(se / float64(len(x)-1) / float64(len(x)))
}

func positive(name string, x float64) error {
	if !(x > 0) || math.IsInf(x, 0) {
		return fmt.Errorf("%w: %s is %v: want a finite number above 0", ErrSettings, name, x)
	}
	return nil
}

func defaultTo[T comparable](x *T, value T) {
	var zero T
	if *x == zero {
		*x = value
	}
}
