package train

import (
	"strings"

	"github.com/gomlx/compute/dtypes"
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/model"
	gomlx "github.com/gomlx/gomlx/ml/train"
	"github.com/gomlx/gomlx/ml/train/loss"
	"github.com/gomlx/gomlx/ml/train/metric"
	"github.com/gomlx/gomlx/ml/train/optimizer"

	"github.com/openpith/evidence/rivals"
	"github.com/openpith/evidence/smoothout"
)

// A stepper trains on one ghost batch per call; the last ghost batch of a batch
// updates the weights. The first metric is the mean loss that was minimised, at
// w+e; the third, with methods that compute it on their way, that at w.
type stepper interface {
	TrainStep(gomlx.Batch) ([]*tensors.Tensor, error)
}

// newTrainer builds what a recipe says is to be done with a ghost batch. steps
// is the number of optimizer steps of the whole run, which schedules refer to.
//
//	model, loss  ->  method (where the gradient is taken)  ->  mean over ghosts
//	and copies   ->  optimizer (clipping, decay, momentum) ->  average of weights
func newTrainer(m *Model, recipe Recipe, steps int) (stepper, error) {
	recipe = recipe.resolved(steps)
	fn, lossFn := recipe.method().Wrap(m.net, crossEntropy(recipe))
	if recipe.gathersClean() {
		fn = gatherClean(m.net, fn)
	}
	var metrics []metric.Interface
	if recipe.SAM.Rho > 0 {
		clean := func(_ *model.Scope, _, predictions []*Node) *Node { return rivals.CleanLoss(predictions[0].Graph()) }
		metrics = append(metrics, metric.NewBaseMetric("Clean loss", "clean", metric.LossMetricType, clean, nil))
	}
	trainer := gomlx.NewTrainer(m.backend, m.store, fn, lossFn, recipe.Average.Wrap(recipe.optimizer()), metrics, nil)
	if n := recipe.ghosts() * recipe.copies(); n > 1 {
		if err := trainer.AccumulateGradients(n); err != nil {
			return nil, err
		}
	}
	if n := recipe.copies(); n > 1 {
		return copies{trainer, m.store, n}, nil
	}
	return trainer, nil
}

// gathersClean reports whether batch-norm statistics need a pass of their own.
func (r Recipe) gathersClean() bool {
	return r.Statistics == "clean" && r.SmoothOut.Strength > 0 && r.SAM.Rho == 0
}

// gatherClean returns noisy, which is clean with noise in its weights, with the
// running batch-norm statistics that a training pass of clean leaves: what
// noisy does to variables that are not trained is undone, but for random
// states and counters. Dropout masks are the same in both passes.
func gatherClean(clean, noisy gomlx.ModelFn) gomlx.ModelFn {
	return func(scope *model.Scope, spec any, inputs []*Node) []*Node {
		g := inputs[0].Graph()
		if !scope.IsTraining(g) {
			return noisy(scope, spec, inputs)
		}
		var statistics []*model.Variable
		var before []*Node
		for _, v := range smoothout.Variables(clean, scope, spec, inputs) {
			if !v.Trainable && !strings.HasPrefix(v.Name(), "#") {
				statistics, before = append(statistics, v), append(before, v.NodeValue(g))
			}
		}
		out := noisy(scope, spec, inputs)
		for i, v := range statistics {
			v.SetNodeValue(before[i])
		}
		// Losses that layers add are not to be added twice.
		extra, any := model.GetGraphParam(g, regularization)
		clean(scope.ResetVisited(), spec, inputs)
		if any {
			model.SetGraphParam(g, regularization, extra)
		} else if again, ok := model.GetGraphParam(g, regularization); ok {
			model.SetGraphParam(g, regularization, ScalarZero(g, again.(*Node).DType()))
		}
		return out
	}
}

// regularization is where GoMLX keeps the losses that layers add.
var regularization = model.JoinPath(gomlx.TrainerAbsoluteScope, gomlx.TrainerRegularizationLossGraphParamKey)

// crossEntropy is the loss that is minimised: with label smoothing ε towards
// the distribution that gives the true class 1-ε and spreads ε over all.
func crossEntropy(r Recipe) gomlx.LossFn {
	if r.LabelSmoothing == 0 {
		return loss.SparseCategoricalCrossEntropyLogits
	}
	return func(labels, logits []*Node) *Node {
		classes := logits[0].Shape().Dim(-1)
		hot := OneHot(Squeeze(labels[0], -1), classes, logits[0].DType())
		target := AddScalar(MulScalar(hot, 1-r.LabelSmoothing), r.LabelSmoothing/float64(classes))
		return loss.CategoricalCrossEntropyLogits([]*Node{target}, logits)
	}
}

// copies trains on the same ghost batch several times per call, each with its
// own noise; the gradients are averaged with those of the other ghost batches.
type copies struct {
	trainer stepper
	store   *model.Store
	n       int
}

// microstepVariable numbers the micro-steps for what is random in a network,
// such as dropout: it reads the number and adds one, if it has need of it.
const microstepVariable = "/#microstep"

func (c copies) TrainStep(batch gomlx.Batch) (metrics []*tensors.Tensor, err error) {
	sums := []float32{}
	for i := range c.n {
		one := batch
		if i < c.n-1 { // the trainer consumes what it is given
			if one.Inputs, err = clones(batch.Inputs); err != nil {
				return nil, err
			}
			if one.Labels, err = clones(batch.Labels); err != nil {
				return nil, err
			}
		}
		// Copies differ in their noise, not in their dropout.
		if number := c.store.GetVariable(microstepVariable); i > 0 && number != nil && number.HasValue() {
			done := tensors.ToScalar[int64](number.MustValue())
			if err := number.SetValue(tensors.FromScalar(done - 1)); err != nil {
				return nil, err
			}
		}
		metrics, err := c.trainer.TrainStep(one)
		if err != nil {
			return nil, err
		}
		for j, m := range metrics {
			if i == 0 {
				sums = append(sums, 0)
			}
			sums[j] += tensors.ToScalar[float32](m) / float32(c.n)
			m.MustFinalizeAll()
		}
	}
	for _, s := range sums {
		metrics = append(metrics, tensors.FromScalar(s))
	}
	return metrics, nil
}

func clones(list []*tensors.Tensor) ([]*tensors.Tensor, error) {
	out := make([]*tensors.Tensor, len(list))
	for i, t := range list {
		var err error
		if out[i], err = t.LocalClone(); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// adam is GoMLX's Adam behind the clipping of SGD, with weight decay as
// torch.optim.Adam has it (L2, added to the gradient) or, decoupled, AdamW.
type adam struct {
	gomlx.OptimizeWithGradients
	clear        func(*model.Scope) error
	clipNorm, l2 float64
}

func newAdam(learningRate, clipNorm, weightDecay float64, decoupled bool) adam {
	config := optimizer.Adam().LearningRate(learningRate).Epsilon(1e-8)
	if decoupled {
		config.WeightDecay(weightDecay)
		weightDecay = 0
	}
	inner := config.Done()
	return adam{inner.(gomlx.OptimizeWithGradients), inner.Clear, clipNorm, weightDecay}
}

// UpdateGraph implements optimizer.Interface.
func (o adam) UpdateGraph(scope *model.Scope, _ *Graph, loss *Node) {
	o.UpdateGraphWithGradients(scope, scope.BuildTrainableVariablesGradientsGraph(loss), loss.DType())
}

// UpdateGraphWithGradients implements train.OptimizeWithGradients.
func (o adam) UpdateGraphWithGradients(scope *model.Scope, gradients []*Node, lossDType dtypes.DType) {
	if o.clipNorm > 0 && len(gradients) > 0 {
		gradients = clipByGlobalNorm(gradients, o.clipNorm)
	}
	if o.l2 > 0 && len(gradients) > 0 {
		g := gradients[0].Graph()
		decayed := make([]*Node, 0, len(gradients))
		for w := range scope.IterVariables() {
			if w.Trainable && w.InUseByGraph(g) {
				decayed = append(decayed, Add(gradients[len(decayed)], MulScalar(w.NodeValue(g), o.l2)))
			}
		}
		gradients = decayed
	}
	o.OptimizeWithGradients.UpdateGraphWithGradients(scope, gradients, lossDType)
}

// Clear implements optimizer.Interface.
func (o adam) Clear(scope *model.Scope) error { return o.clear(scope) }
