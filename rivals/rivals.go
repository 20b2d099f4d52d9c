// Package rivals holds the methods that SmoothOut is compared with, in a form
// that any GoMLX model can use.
//
// Methods that change where the gradient is taken wrap a model and its loss:
//
//	fn, lossFn := rivals.SAM{Rho: 0.05}.Wrap(modelFn, lossFn)
//	trainer := train.NewTrainer(backend, store, fn, lossFn, optimizer, nil, nil)
//
// They are:
//
//   - [SAM] and, with Adaptive, ASAM: the gradient at the worst point near w, at
//     the price of two passes.
//   - [Noise]: every method that is noise in the weights, SmoothOut itself among
//     them, with [LPF] (filter-wise Gaussian noise that grows) and [AntiPGD]
//     (noise that is anticorrelated in time).
//
// [Average] keeps an average of the weights, EMA or SWA, and wraps the
// optimizer instead; it goes with all of them.
package rivals

import (
	"github.com/gomlx/gomlx/ml/train"

	"github.com/openpith/evidence/smoothout"
)

// A Method turns a model and its loss into those that are trained. Evaluation
// is unchanged by it. Optimizer, clipping and weight decay act on the weights
// themselves; accumulated gradients work as ever, each micro-step having its
// own perturbation.
type Method interface {
	Wrap(fn train.ModelFn, loss train.LossFn) (train.ModelFn, train.LossFn)
}

// Noise is a Method made of smoothout's noise.
type Noise smoothout.Config

// Wrap implements Method.
func (n Noise) Wrap(fn train.ModelFn, loss train.LossFn) (train.ModelFn, train.LossFn) {
	return smoothout.Wrap(smoothout.Config(n), fn), loss
}

// LPF is the noise of LPF-SGD (Bisla, Wang and Choromanska 2022): each weight of
// a filter gets N(0, (γ·‖w_f‖)²), batch norm included, and γ grows to γ·growth
// along half a cosine. A growth of 1 keeps it constant. The average over several
// draws that the paper calls M is that over ghost batches.
func LPF(gamma, growth float64) smoothout.Config {
	c := smoothout.Config{
		Strength: gamma,
		Adapt:    smoothout.FilterNorm,
		Noise:    smoothout.Normal,
		Rules:    []smoothout.Rule{{Role: smoothout.BatchNorm, Factor: 1}},
	}
	if growth != 1 {
		c.Schedule = smoothout.Schedule{Kind: smoothout.CosineRise, Factor: growth}
	}
	return c
}

// AntiPGD is the noise of anticorrelated perturbed gradient descent (Orvieto et
// al. 2022), w_(n+1) = w_n - η·∇L(w_n) + ξ_(n+1) - ξ_n, with ξ of ±sigma: the law
// its theorem is proved for. w - ξ follows SmoothOut with the same noise; what
// differs is that the noise stays in the weights that are stored, measured and
// decayed.
func AntiPGD(sigma float64) smoothout.Config {
	return smoothout.Config{Strength: sigma, Noise: smoothout.Rademacher, Anticorrelated: true}
}
