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
// w+e on purpose.
package smoothout

import (
	"errors"
	"fmt"
	"math"

	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/gomlx/gomlx/ml/train"
)

// Adapt says what the noise of a weight is measured against.
type Adapt string

const (
	// None is SmoothOut: every weight gets noise of the same size, e = a·u.
	None Adapt = "none"
	// Filter is AdaSmoothOut: the noise of a filter is proportional to the norm
	// of the filter, e_f = s·‖w_f‖·u_f/(‖u_f‖+1e-6). A filter is what feeds one
	// output: a slice along the last axis of a GoMLX kernel. Each element of a
	// vector, such as a bias, is a filter of its own.
	Filter Adapt = "filter"
)

// Noise is the law of the raw noise u.
type Noise string

// Uniform noise on [-1, 1), independent for each weight.
const Uniform Noise = "uniform"

// Config describes the noise. The zero value is no noise at all.
type Config struct {
	// Strength is the paper's a for Adapt None (half the width of the box, in
	// the units of the weights), and the relative strength s for Filter.
	// 0 is plain training, bit for bit.
	Strength float64 `json:"strength"`
	// Adapt defaults to None.
	Adapt Adapt `json:"adapt,omitempty"`
	// Noise defaults to Uniform.
	Noise Noise `json:"noise,omitempty"`
	// Seed addresses the noise, together with the micro-step and the path of
	// the variable. It is independent of the random state of the store, so runs
	// with other noise see the same initial weights, batches and dropout.
	Seed int64 `json:"seed,omitempty"`
	// Select says which parameters get noise. Nil is the default of the
	// reference: all but those of batch normalisation (see [ExceptBatchNorm]).
	// The noise of a parameter does not depend on which others are selected.
	Select func(Param) bool `json:"-"`
}

// ErrConfig reports a configuration that describes no noise we know.
var ErrConfig = errors.New("invalid noise configuration")

// Validate reports, as ErrConfig, what is wrong with the configuration.
func (c Config) Validate() error {
	switch {
	case !(c.Strength >= 0) || math.IsInf(c.Strength, 0):
		return fmt.Errorf("%w: strength %v: want a finite number, 0 or more", ErrConfig, c.Strength)
	case c.Adapt != "" && c.Adapt != None && c.Adapt != Filter:
		return fmt.Errorf("%w: adapt %q: want %q or %q", ErrConfig, c.Adapt, None, Filter)
	case c.Noise != "" && c.Noise != Uniform:
		return fmt.Errorf("%w: noise %q: want %q", ErrConfig, c.Noise, Uniform)
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
		return perturbed(cfg, fn, address{"train", now}, nil, scope, spec, inputs)
	}
}

// WrapEval returns a model function that computes fn at w+e outside training:
// the loss that a flat minimum does not mind and a sharp one does.
//
// It takes two scalar inputs after those of fn: a factor (float32) on
// cfg.Strength, so that one compiled graph serves many strengths and, negated,
// the antithetic draw; and the number of the draw (int64). Equal numbers give
// equal noise, for every batch and every call; numbers count independently of
// training steps. In a training graph it panics: that is what Wrap is for.
func WrapEval(cfg Config, fn train.ModelFn) train.ModelFn {
	return func(scope *model.Scope, spec any, inputs []*Node) []*Node {
		if scope.IsTraining(inputs[0].Graph()) {
			panic(errors.New("smoothout.WrapEval in a training graph: use smoothout.Wrap"))
		}
		n := len(inputs) - 2
		if n < 1 {
			panic(fmt.Errorf("smoothout.WrapEval: %d inputs: want those of the model, then factor and draw", len(inputs)))
		}
		factor, draw := inputs[n], inputs[n+1]
		return perturbed(cfg, fn, address{"eval", draw}, factor, scope, spec, inputs[:n])
	}
}

// perturbed builds fn at w+e and puts w back, so that whatever the graph does
// next with a variable happens to its clean value. A nil factor is 1.
func perturbed(cfg Config, fn train.ModelFn, at address, factor *Node, scope *model.Scope, spec any, inputs []*Node) []*Node {
	if err := cfg.Validate(); err != nil {
		panic(err)
	}
	selected := cfg.Select
	if selected == nil {
		selected = ExceptBatchNorm
	}
	var params []Param
	for _, p := range Params(fn, scope, spec, inputs) {
		if p.DType().IsFloat() && selected(p) {
			params = append(params, p)
		}
	}
	if len(params) == 0 {
		panic(fmt.Errorf("%w: strength %v, but no parameter of the model is selected", ErrConfig, cfg.Strength))
	}
	g := inputs[0].Graph()
	states := at.states(g, cfg.Seed, params)
	clean := make([]*Node, len(params))
	for i, p := range params {
		w := p.NodeValue(g)
		_, u := RandomUniform(states[i], w.Shape())       // [0, 1)
		e := cfg.noise(w, AddScalar(MulScalar(u, 2), -1)) // u now in [-1, 1)
		if factor != nil {
			e = Mul(e, ConvertDType(factor, e.DType()))
		}
		clean[i] = w
		p.SetNodeValue(Add(w, StopGradient(e)))
	}
	out := fn(scope, spec, inputs)
	for i, p := range params {
		p.SetNodeValue(clean[i])
	}
	return out
}

// noise scales raw noise u of the shape of w. Norms are constants for the
// gradient (the caller stops it): with gradients through ‖w_f‖ it would be
// another algorithm.
func (c Config) noise(w, u *Node) *Node {
	if c.Adapt != Filter {
		return MulScalar(u, c.Strength) // e = a·u
	}
	// e_f = s·‖w_f‖·u_f/(‖u_f‖+1e-6), as in the reference implementation.
	return MulScalar(Mul(u, Div(filterNorm(w), AddScalar(filterNorm(u), 1e-6))), c.Strength)
}

// filterNorm is the Euclidean norm of each slice along the last axis, shaped
// to broadcast against x. The elements of vectors are filters of one weight.
func filterNorm(x *Node) *Node {
	if x.Rank() <= 1 {
		return Abs(x)
	}
	axes := make([]int, x.Rank()-1)
	for i := range axes {
		axes[i] = i
	}
	return Sqrt(ReduceAndKeep(Square(x), ReduceSum, axes...))
}
