package train

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/openpith/evidence/rivals"
	"github.com/openpith/evidence/smoothout"
)

// A Recipe is everything that decides how a network is trained, as data: the
// same recipe, model, data and backend give the same weights, bit for bit.
type Recipe struct {
	// Batch is the number of samples per optimizer step. Each epoch is a new
	// permutation of the training set; its last samples that fill no batch are
	// left out of that epoch, so every step sees the same number of samples.
	Batch int `json:"batch"`
	// Ghost is the number of samples per micro-step. A batch is Batch/Ghost
	// ghost batches, each with its own noise and its own batch-norm statistics;
	// their gradients are averaged. 0 means Batch.
	Ghost int `json:"ghost,omitempty"`
	// Epochs is the number of passes over the training set.
	Epochs int `json:"epochs"`
	// LearningRate holds from the start, until the first milestone.
	LearningRate float64 `json:"learning_rate"`
	// Milestones change the learning rate; times increase.
	Milestones []Milestone `json:"milestones,omitempty"`
	// Schedule is what the learning rate does between milestones: "step", the
	// default, is nothing; "cosine" takes it from LearningRate to 0 along half a
	// cosine over all Epochs, and allows no milestones.
	Schedule string `json:"schedule,omitempty"`
	// Warmup is the time, in epochs, over which the rate rises linearly from 0
	// to what it would be.
	Warmup float64 `json:"warmup,omitempty"`
	// Scaling multiplies every learning rate by a function of Batch/Ghost, as
	// for a regime written for batches of the ghost size: "sqrt", "linear", or
	// "none", the default.
	Scaling string `json:"scaling,omitempty"`
	// Momentum is that of PyTorch: v = m·v + g, w -= lr·v.
	Momentum float64 `json:"momentum"`
	// WeightDecay is L2: g += WeightDecay·w for every trainable variable, after
	// clipping, as torch.optim.SGD does it; for adamw decoupled: w -= lr·WeightDecay·w.
	WeightDecay float64 `json:"weight_decay"`
	// ClipNorm bounds the Euclidean norm of the whole gradient, averaged over
	// the ghost batches. 0 does not clip.
	ClipNorm float64 `json:"clip_norm,omitempty"`
	// LabelSmoothing is the share of the target that is spread over all classes;
	// 0 is the plain cross-entropy. Evaluation always uses the plain one.
	LabelSmoothing float64 `json:"label_smoothing,omitempty"`
	// SmoothOut is the noise; the zero value is plain training. Its seed, if 0,
	// is Seed.
	SmoothOut smoothout.Config `json:"smoothout"`
	// SAM, instead of noise, is sharpness-aware minimisation; the zero value is
	// none. A ghost batch is the m of m-sharpness.
	SAM rivals.SAM `json:"sam,omitzero"`
	// Copies is the number of times that each ghost batch is used in a step, each
	// with its own noise (the m copies of the paper); gradients are averaged. 0
	// means 1, the paper's stochastic form.
	Copies int `json:"copies,omitempty"`
	// Optimizer is "sgd", the default; "nesterov", with Nesterov's momentum; or
	// "adam" or "adamw", with betas 0.9 and 0.999 and without Momentum.
	Optimizer string `json:"optimizer,omitempty"`
	// Average keeps an average of the weights, which then is the result of the
	// run, with batch-norm statistics computed anew at it. (The history is that of
	// the weights being trained.)
	Average rivals.Average `json:"average,omitzero"`
	// Recalibrate is the number of training samples from which batch-norm
	// statistics are computed anew at clean weights, before the final
	// evaluation: 0 keeps the running ones, -1 uses the whole training set.
	// Running statistics of a noisy run come from noisy weights, unless Statistics
	// says otherwise.
	Recalibrate int `json:"recalibrate,omitempty"`
	// Statistics says which weights the running batch-norm statistics are
	// gathered at: "noisy", the default, by the pass that is trained, as in the
	// reference; or "clean", by a second forward pass of each ghost batch at w, which
	// changes nothing else. Methods without noise, and SAM, whose first pass
	// gathers them, have clean ones either way.
	Statistics string `json:"statistics,omitempty"`
	// Select says which weights are the result: those after the "last" epoch,
	// the default, or after the epoch that was "best" on the validation set, by
	// accuracy and then by loss.
	Select string `json:"select,omitempty"`
	// Seed decides initial weights, batches, dropout and noise.
	Seed int64 `json:"seed"`
}

// A Milestone sets the learning rate from a time on, in epochs. Fractions of
// an epoch are allowed: the rate is set before each step.
type Milestone struct {
	Epoch        float64 `json:"epoch"`
	LearningRate float64 `json:"learning_rate"`
}

// ErrRecipe reports a recipe that cannot be followed.
var ErrRecipe = errors.New("invalid recipe")

// Validate reports, as ErrRecipe, the first thing that is wrong.
func (r Recipe) Validate() error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s", ErrRecipe, fmt.Sprintf(format, args...))
	}
	finite := func(x float64) bool { return x >= 0 && !math.IsInf(x, 0) } // false for NaN
	switch {
	case r.Batch < 1:
		return bad("batch %d: want 1 or more", r.Batch)
	case r.Ghost < 0 || r.Ghost > r.Batch || r.Batch%r.ghost() != 0:
		return bad("ghost %d: want a divisor of the batch, %d", r.Ghost, r.Batch)
	case r.Epochs < 0:
		return bad("epochs %d: want 0 or more", r.Epochs)
	case !finite(r.LearningRate):
		return bad("learning rate %v: want a finite number, 0 or more", r.LearningRate)
	case r.Scaling != "" && r.Scaling != "none" && r.Scaling != "sqrt" && r.Scaling != "linear":
		return bad("scaling %q: want none, sqrt or linear", r.Scaling)
	case !finite(r.Momentum) || r.Momentum >= 1:
		return bad("momentum %v: want 0 or more, less than 1", r.Momentum)
	case !finite(r.WeightDecay):
		return bad("weight decay %v: want a finite number, 0 or more", r.WeightDecay)
	case !finite(r.ClipNorm):
		return bad("clip norm %v: want a finite number, 0 or more", r.ClipNorm)
	case r.Schedule != "" && r.Schedule != "step" && r.Schedule != "cosine":
		return bad("schedule %q: want step or cosine", r.Schedule)
	case r.Schedule == "cosine" && len(r.Milestones) > 0:
		return bad("schedule cosine with %d milestones: want one or the other", len(r.Milestones))
	case !finite(r.Warmup):
		return bad("warm-up of %v epochs: want a finite number, 0 or more", r.Warmup)
	case !(r.LabelSmoothing >= 0 && r.LabelSmoothing < 1):
		return bad("label smoothing %v: want 0 or more, less than 1", r.LabelSmoothing)
	case r.Select != "" && r.Select != "last" && r.Select != "best":
		return bad("select %q: want last or best", r.Select)
	case r.Statistics != "" && r.Statistics != "noisy" && r.Statistics != "clean":
		return bad("statistics %q: want noisy or clean", r.Statistics)
	case r.Statistics == "clean" && (r.SmoothOut.KeepNoise || r.SmoothOut.Anticorrelated):
		return bad("statistics clean with %s: its noise stays in the weights, so there are no clean ones", r.Method())
	case r.Recalibrate < -1:
		return bad("recalibrate %d: want a number of samples, 0 for no recalibration or -1 for all", r.Recalibrate)
	}
	for i, m := range r.Milestones {
		if !finite(m.Epoch) || !finite(m.LearningRate) || i > 0 && m.Epoch <= r.Milestones[i-1].Epoch {
			return bad("milestone %d (epoch %v, learning rate %v): want increasing epochs and rates of 0 or more",
				i+1, m.Epoch, m.LearningRate)
		}
	}
	return r.validateMethod()
}

// WithEpochs is the recipe with its regime stretched or compressed to that many
// epochs: milestones and warm-up keep their place in the course of training.
// Twice as many epochs with batches twice as large is the regime adaptation of
// Hoffer et al. (2017): the same number of steps at every rate.
func (r Recipe) WithEpochs(epochs int) Recipe {
	if r.Epochs > 0 {
		k := float64(epochs) / float64(r.Epochs)
		r.Milestones = slices.Clone(r.Milestones)
		for i := range r.Milestones {
			r.Milestones[i].Epoch *= k
		}
		r.Warmup *= k
	}
	r.Epochs = epochs
	return r
}

// WithMultiplier is the recipe with k batches per optimizer step, the gradients of
// which are averaged (the batch multiplier of the reference). Since ghost
// batches are accumulated anyway, it is a batch k times as large, and Scaling
// and regime adaptation count it as one.
func (r Recipe) WithMultiplier(k int) Recipe {
	r.Ghost = r.ghost()
	r.Batch *= k
	return r
}

// Multiple is how many times the ghost size a batch is: what Scaling scales
// with, and what regime adaptation multiplies epochs by.
func (r Recipe) Multiple() int { return r.ghosts() }

// RateAt is the learning rate at a time in epochs, scaling included.
func (r Recipe) RateAt(epoch float64) float64 {
	rate := r.LearningRate
	for _, m := range r.Milestones {
		if epoch >= m.Epoch {
			rate = m.LearningRate
		}
	}
	if r.Schedule == "cosine" && r.Epochs > 0 {
		rate *= (1 + math.Cos(math.Pi*epoch/float64(r.Epochs))) / 2
	}
	if epoch < r.Warmup {
		rate *= epoch / r.Warmup
	}
	switch ghosts := float64(r.ghosts()); r.Scaling {
	case "sqrt":
		rate *= math.Sqrt(ghosts)
	case "linear":
		rate *= ghosts
	}
	return rate
}

func (r Recipe) ghost() int {
	if r.Ghost == 0 {
		return r.Batch
	}
	return r.Ghost
}

func (r Recipe) ghosts() int { return r.Batch / r.ghost() }
