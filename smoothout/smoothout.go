// Package smoothout trains networks that sit in flat places of the loss.
//
// SmoothOut (Wen et al., arXiv:1805.07898) minimises the loss averaged over a
// neighbourhood of the weights,
//
//	L~(w) = E_e L(w + e),   e uniform in a box around 0,
//
// by taking each gradient at a freshly perturbed point w+e and applying it to
// the clean w: the expectation of that gradient is the gradient of L~. Minima
// narrower than the box vanish from L~, wide ones stay.
//
// [Wrap] is the whole method. It takes the model function of any GoMLX model
// and returns one that trains with noise:
//
//	trainer := train.NewTrainer(backend, store,
//		smoothout.Wrap(smoothout.Config{Strength: 0.01}, modelFn), lossFn, optimizer, nil, nil)
//
// Nothing else changes: any optimizer, any loss, gradient accumulation (then
// each micro-step has its own noise). The stored weights never see the noise,
// and evaluation is always at clean weights. [WrapEval] measures the loss at
// w+e on purpose, [Describe] says what the noise is for each tensor, and [Tune]
// finds a strength.
package smoothout

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/gomlx/compute/dtypes"
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/gomlx/gomlx/ml/train"
)

// Config describes the noise. The zero value is no noise at all.
type Config struct {
	// Strength is the paper's a for Adapt None (half the width of the box, in
	// the units of the weights), and the relative strength s for the others. For
	// normal noise it is the standard deviation where for uniform noise it is
	// the half-width. See [GaussianSigma] and its neighbours for other units.
	// 0 is plain training, bit for bit.
	Strength float64 `json:"strength"`
	// Adapt defaults to None.
	Adapt Adapt `json:"adapt,omitempty"`
	// Noise defaults to Uniform.
	Noise Noise `json:"noise,omitempty"`
	// Schedule lets the strength change over training; the default is constant.
	Schedule Schedule `json:"schedule,omitzero"`
	// Rules say which parameters get how much noise: by default all but those of
	// batch normalisation. The noise of a parameter does not depend on the rules
	// for others. [Describe] shows what comes of them.
	Rules []Rule `json:"rules,omitempty"`
	// Antithetic makes pairs of micro-steps share their noise with opposite
	// signs, e and -e: averaged, they cancel the odd orders of the loss rise.
	// Accumulate an even number of micro-steps, best on the same data in pairs.
	Antithetic bool `json:"antithetic,omitempty"`
	// KeepNoise leaves the noise in the stored weights: noisy SGD, the ablation
	// that shows what de-noising is for.
	KeepNoise bool `json:"keep_noise,omitempty"`
	// Anticorrelated keeps, of each noise, the difference to the one before:
	// w gains e_k - e_(k-1), which is Anti-PGD (Orvieto et al. 2022). Stored
	// weights are then SmoothOut's plus the last noise. Only with Adapt None.
	Anticorrelated bool `json:"anticorrelated,omitempty"`
	// Seed addresses the noise, together with the micro-step and the path of
	// the variable. It is independent of the random state of the store, so runs
	// with other noise see the same initial weights, batches and dropout.
	Seed int64 `json:"seed,omitempty"`
}

// ErrConfig reports a configuration that describes no noise we know.
var ErrConfig = errors.New("invalid noise configuration")

// Validate reports, as ErrConfig, what is wrong with the configuration.
func (c Config) Validate() error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s", ErrConfig, fmt.Sprintf(format, args...))
	}
	switch {
	case !(c.Strength >= 0) || math.IsInf(c.Strength, 0):
		return bad("strength %v: want a finite number, 0 or more", c.Strength)
	case !slices.Contains([]Adapt{"", None, Weights, Filter, Layer, FilterNorm}, c.Adapt):
		return bad("adapt %q: want %q, %q, %q, %q or %q", c.Adapt, None, Weights, Filter, Layer, FilterNorm)
	case !slices.Contains([]Noise{"", Uniform, Normal, Rademacher}, c.Noise):
		return bad("noise %q: want %q, %q or %q", c.Noise, Uniform, Normal, Rademacher)
	case c.Anticorrelated && (c.Adapt != "" && c.Adapt != None || c.Antithetic || c.KeepNoise):
		return bad("anticorrelated noise: want adapt %q, no antithetic pairs and no keep_noise", None)
	}
	if err := c.Schedule.validate(); err != nil {
		return bad("%v", err)
	}
	for i, r := range c.Rules {
		if err := r.validate(); err != nil {
			return bad("rule %d: %v", i+1, err)
		}
	}
	return nil
}

// StepVariable is the path of the counter of micro-steps. It is a variable of
// the store, non-trainable and advanced by each execution of a training graph,
// so checkpoints carry it and a resumed run draws the noise it would have drawn.
const StepVariable = "/smoothout/micro_step"

// Wrap returns a model function whose training graphs compute fn at w+e, with
// new noise e for every execution, and leave the variables at w.
//
// The noise is a constant for differentiation, so the gradient with respect to
// w is exactly the gradient at w+e, and the optimizer, weight decay and
// clipping act on clean weights. In graphs that do not train, fn is unchanged.
//
// An invalid cfg panics when the graph is built, as graph building does.
func Wrap(cfg Config, fn train.ModelFn) train.ModelFn {
	if cfg.Strength == 0 {
		return fn
	}
	return func(scope *model.Scope, spec any, inputs []*Node) []*Node {
		g := inputs[0].Graph()
		if !scope.IsTraining(g) {
			return fn(scope, spec, inputs)
		}
		step := scope.Store().VariableWithValue(StepVariable, int64(0)).SetTrainable(false)
		now := step.NodeValue(g)
		step.SetNodeValue(OnePlus(now))
		params := cfg.params(fn, scope, spec, inputs)
		clean := perturb(params, cfg.training(g, now, params))
		out := fn(scope, spec, inputs)
		if !cfg.KeepNoise && !cfg.Anticorrelated {
			restore(params, clean)
		}
		return out
	}
}

// training builds the noise of a micro-step.
func (c Config) training(g *Graph, now *Node, params []noisyParam) []*Node {
	at := func(number *Node) []*Node {
		d := draw{address: address{"train", number}}
		if c.Schedule.varies() {
			d.factor = c.Schedule.coefficient(number)
		}
		if c.Antithetic {
			two := Scalar(g, number.DType(), 2)
			d.number = Div(number, two) // of integers: 0 0 1 1 2 2
			sign := ConvertDType(OneMinus(Mul(two, Mod(number, two))), dtypes.Float32)
			if d.factor != nil {
				sign = Mul(sign, d.factor)
			}
			d.factor = sign
		}
		return c.noise(g, d, params)
	}
	e := at(now)
	if c.Anticorrelated {
		first := Equal(now, ScalarZero(g, now.DType())) // nothing before it
		for i, before := range at(AddScalar(now, -1)) {
			e[i] = Sub(e[i], Where(first, ZerosLike(before), before))
		}
	}
	return e
}

// WrapEval returns a model function that computes fn at w+e outside training:
// the loss that a flat minimum does not mind and a sharp one does.
//
// It takes two scalar inputs after those of fn: a factor (float32) on
// cfg.Strength, so that one compiled graph serves many strengths and, negated,
// the antithetic draw; and the number of the draw (int64). Equal numbers give
// equal noise, for every batch and every call; numbers count independently of
// training steps. Schedules and what stays in the weights have no part in it.
// In a training graph it panics: that is what Wrap is for.
func WrapEval(cfg Config, fn train.ModelFn) train.ModelFn {
	cfg.Schedule = Schedule{}
	return func(scope *model.Scope, spec any, inputs []*Node) []*Node {
		if scope.IsTraining(inputs[0].Graph()) {
			panic(errors.New("smoothout.WrapEval in a training graph: use smoothout.Wrap"))
		}
		n := len(inputs) - 2
		if n < 1 {
			panic(fmt.Errorf("smoothout.WrapEval: %d inputs: want those of the model, then factor and draw", len(inputs)))
		}
		params := cfg.params(fn, scope, spec, inputs[:n])
		d := draw{address{"eval", inputs[n+1]}, inputs[n]}
		clean := perturb(params, cfg.noise(inputs[0].Graph(), d, params))
		defer restore(params, clean)
		return fn(scope, spec, inputs[:n])
	}
}

// params are the parameters of the model that get noise.
func (c Config) params(fn train.ModelFn, scope *model.Scope, spec any, inputs []*Node) []noisyParam {
	if err := c.Validate(); err != nil {
		panic(err)
	}
	var noisy []noisyParam
	for _, p := range Params(fn, scope, spec, inputs) {
		if factor, _ := c.factor(p); factor > 0 {
			noisy = append(noisy, noisyParam{p, factor})
		}
	}
	if len(noisy) == 0 {
		panic(fmt.Errorf("%w: strength %v, but no parameter of the model gets noise", ErrConfig, c.Strength))
	}
	return noisy
}

// perturb sets the parameters to w+e and returns w. The noise is a constant for
// the gradient, so that with respect to w it is the gradient at w+e.
func perturb(params []noisyParam, e []*Node) (clean []*Node) {
	for i, p := range params {
		w := p.NodeValue(e[i])
		clean = append(clean, w)
		p.SetNodeValue(Add(w, StopGradient(e[i])))
	}
	return clean
}

// restore puts w back, so that whatever the graph does next with a variable
// happens to its clean value.
func restore(params []noisyParam, clean []*Node) {
	for i, p := range params {
		p.SetNodeValue(clean[i])
	}
}
