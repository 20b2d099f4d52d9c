// Package train trains and evaluates image classifiers the way the SmoothOut
// reference does: large batches made of ghost batches, SGD with momentum, a
// learning-rate regime, noise in the weights; and better where the reference
// is not to be copied: exact resume, clean evaluation, the test set read once.
//
// [Run] is the trainer. What decides its result is data: a [Recipe], the
// samples, the model. What does not, such as where the checkpoint lies, is in
// [Options]. Equal recipes on equal data and backend give equal weights, bit
// for bit, also when the run was interrupted and resumed in between.
package train

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/model"
	gomlx "github.com/gomlx/gomlx/ml/train"
	"github.com/gomlx/gomlx/ml/train/loss"
	"github.com/gomlx/gomlx/ml/train/optimizer"

	"github.com/openpith/evidence/internal/seed"
	"github.com/openpith/evidence/smoothout"
)

// Samples is a set of labelled inputs that can be read in any order. Reading
// the same index twice gives the same sample.
type Samples interface {
	Len() int
	Shape() []int // of one input, for example [28 28 1]
	Classes() int // labels are 0 to Classes()-1
	// Fill writes the inputs of the given samples one after another to x, which
	// has room for exactly them, and their labels to y.
	Fill(indices []int, x []float32, y []int32)
}

// Data is what a run reads. Validation may be looked at while training and
// serves every choice; Test is read once, after the last epoch. Both may be nil.
type Data struct {
	Train, Validation, Test Samples
}

// Options are settings of a run that do not change its result.
type Options struct {
	// Checkpoint is a file that holds the state of the run: written after every
	// epoch and when ctx ends, continued from if it is there. "" keeps none.
	Checkpoint string
	// Identity names what the trainer cannot see, such as the digests of the
	// data and the name of the network. It is bound into the checkpoint, which
	// no run of another identity, recipe or model can continue.
	Identity string
	// Monitor is the number of training samples on which loss and accuracy at
	// clean weights are measured after each epoch; 0 for none, -1 for all.
	Monitor int
	// Progress, if not nil, is called after each step and each epoch.
	Progress func(Progress)
}

// Progress tells how far a run has come.
type Progress struct {
	Epoch, Epochs int     // epochs finished, and to be finished
	Step, Steps   int     // optimizer steps done, and to be done in the whole run
	First         int     // steps already done when this call of Run began
	Loss          float64 // mean training loss of the last step, at noisy weights
	LearningRate  float64
	Done          *Epoch // at the end of an epoch: its entry in the history
}

// An Epoch is one line of the history of a run.
type Epoch struct {
	Epoch        int     `json:"epoch"` // from 1
	LearningRate float64 `json:"learning_rate"`
	// TrainingLoss is the mean over the epoch of the loss that was minimised:
	// at noisy weights w+e (at w without noise), while they were changing, with
	// the batch-norm statistics of each ghost batch.
	TrainingLoss float64 `json:"training_loss"`
	// Train and Validation are measured at the clean weights after the epoch,
	// with running batch-norm statistics.
	Train      *Metrics `json:"train,omitempty"`
	Validation *Metrics `json:"validation,omitempty"`
	Seconds    float64  `json:"seconds"` // spent in training steps
}

// An Outcome is the result of a run. All metrics are at clean weights.
type Outcome struct {
	Recipe          Recipe  `json:"recipe"`
	Parameters      int     `json:"parameters"`        // trained numbers
	StepsPerEpoch   int     `json:"steps_per_epoch"`   // optimizer steps
	SamplesPerEpoch int     `json:"samples_per_epoch"` // those that fill whole batches
	History         []Epoch `json:"history"`
	// BatchNorm says which statistics the final metrics used: "running",
	// "recalibrated", or "none" for a model without batch normalisation.
	BatchNorm  string   `json:"batch_norm"`
	Train      *Metrics `json:"train"` // whole training set
	Validation *Metrics `json:"validation,omitempty"`
	Test       *Metrics `json:"test,omitempty"`
	// Weights is the SHA-256 of the model's variables: names, shapes, values.
	Weights string  `json:"weights_sha256"`
	Seconds float64 `json:"seconds"` // spent in training steps, over all sessions
	Model   *Model  `json:"-"`       // the trained model, for more measurements
}

// ErrDiverged reports a loss that is not a finite number. The error is a
// *DivergedError.
var ErrDiverged = errors.New("training diverged")

// A DivergedError tells where a run diverged. The checkpoint, if there is one,
// is that of the last good epoch.
type DivergedError struct {
	Epoch int     // from 1
	Step  int     // optimizer steps done before
	Loss  float64 // NaN or infinite
	Where string  // which loss
}

func (e *DivergedError) Error() string {
	return fmt.Sprintf("training diverged: %s is %v in epoch %d after %d steps; try a lower learning rate or less noise",
		e.Where, e.Loss, e.Epoch, e.Step)
}

// Is makes errors.Is(err, ErrDiverged) true.
func (e *DivergedError) Is(target error) bool { return target == ErrDiverged }

// ErrInterrupted reports that ctx ended before the run did. What was done is
// in the checkpoint, if there is one.
var ErrInterrupted = errors.New("training interrupted")

// Run trains the model on data.Train as the recipe says and evaluates it.
//
// The model maps inputs [batch, shape...] to float32 logits [batch, classes];
// Run adds the noise of the recipe itself, so it takes the model unwrapped.
//
// Errors: ErrRecipe, ErrDiverged, ErrInterrupted, and *CheckpointError, which
// is never answered by a silent restart.
func Run(ctx context.Context, backend compute.Backend, net gomlx.ModelFn, data Data, recipe Recipe, opts Options) (out *Outcome, err error) {
	defer catch(&err)
	r, err := newRun(backend, net, data, recipe, opts)
	if err != nil {
		return nil, err
	}
	if err := r.resume(); err != nil {
		return nil, err
	}
	r.first = r.state.Epoch*r.steps + r.state.Step
	for r.state.Epoch < recipe.Epochs {
		if err := r.epoch(ctx); err != nil {
			return nil, err
		}
	}
	return r.finish(ctx)
}

// A run holds what the steps of one call of Run share.
type run struct {
	recipe  Recipe
	opts    Options
	data    Data
	model   *Model
	trainer stepper
	steps   int // per epoch
	first   int // steps done before this session
	state   state
}

// state is what, beside the variables, the next step depends on or the final
// result tells; checkpoints hold both.
type state struct {
	Epoch   int     `json:"epoch"`    // epochs finished
	Step    int     `json:"step"`     // steps done in the current epoch
	LossSum float64 `json:"loss_sum"` // over the micro-steps of the current epoch
	Seconds float64 `json:"seconds"`  // in training steps, of the current epoch
	History []Epoch `json:"history"`
}

func newRun(backend compute.Backend, net gomlx.ModelFn, data Data, recipe Recipe, opts Options) (*run, error) {
	if err := recipe.Validate(); err != nil {
		return nil, err
	}
	if data.Train == nil {
		return nil, fmt.Errorf("%w: no training data", ErrRecipe)
	}
	n := data.Train.Len()
	if recipe.Batch > n {
		return nil, fmt.Errorf("%w: batch %d is larger than the training set, %d samples", ErrRecipe, recipe.Batch, n)
	}
	m, err := newModel(backend, net, data.Train.Shape(), data.Train.Classes())
	if err != nil {
		return nil, err
	}
	// A test set that does not fit is found now, not after the last epoch.
	if err := m.acceptsIfAny("validation data", data.Validation); err != nil {
		return nil, err
	}
	if err := m.acceptsIfAny("test data", data.Test); err != nil {
		return nil, err
	}
	// Both ways of drawing initial values are seeded: the parameter is what
	// initialisers of ours look at, the stream serves GoMLX's, and dropout.
	m.store.SetParam(model.ParamInitialSeed, recipe.Seed)
	if err := m.store.SetRNGStateFromSeed(int64(seed.Words(recipe.Seed, "store")[0])); err != nil {
		return nil, err
	}
	trainer, err := newTrainer(m, recipe)
	if err != nil {
		return nil, err
	}
	return &run{
		recipe: recipe, opts: opts, data: data, model: m, trainer: trainer,
		steps: n / recipe.Batch, // > 0: the batch is not larger than the set
	}, nil
}

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

// A stepper trains on one ghost batch per call; the last ghost batch of a batch
// updates the weights. The first metric is the mean loss that was minimised.
type stepper interface {
	TrainStep(gomlx.Batch) ([]*tensors.Tensor, error)
}

// newTrainer builds what a recipe says is to be done with a ghost batch.
func newTrainer(m *Model, recipe Recipe) (stepper, error) {
	noise := recipe.SmoothOut
	if noise.Seed == 0 {
		noise.Seed = recipe.Seed
	}
	sgd := SGD{
		LearningRate: recipe.LearningRate,
		Momentum:     recipe.Momentum,
		WeightDecay:  recipe.WeightDecay,
		ClipNorm:     recipe.ClipNorm,
	}
	trainer := gomlx.NewTrainer(m.backend, m.store, smoothout.Wrap(noise, m.net), crossEntropy(recipe), sgd, nil, nil)
	if recipe.ghosts() > 1 {
		if err := trainer.AccumulateGradients(recipe.ghosts()); err != nil {
			return nil, err
		}
	}
	return trainer, nil
}

// epoch does what is left of the current epoch, measures, and saves.
func (r *run) epoch(ctx context.Context) error {
	s := &r.state
	// The order of an epoch is a function of seed and epoch: neither the method
	// nor what was drawn before can change it.
	order := seed.Perm(seed.Stream(r.recipe.Seed, "order", s.Epoch), r.data.Train.Len())
	for s.Step < r.steps {
		if ctx.Err() != nil {
			return r.interrupted(ctx)
		}
		start := time.Now()
		lossSum, rate, err := r.step(order[s.Step*r.recipe.Batch:][:r.recipe.Batch])
		if err != nil {
			return err
		}
		s.LossSum += lossSum
		s.Seconds += time.Since(start).Seconds()
		s.Step++
		r.report(lossSum/float64(r.recipe.ghosts()), rate, nil)
	}

	done := Epoch{
		Epoch:        s.Epoch + 1,
		LearningRate: r.recipe.RateAt(r.time(r.steps - 1)),
		TrainingLoss: s.LossSum / float64(r.steps*r.recipe.ghosts()),
		Seconds:      s.Seconds,
	}
	var err error
	if done.Train, err = r.measure(ctx, "clean training loss", r.monitored()); err != nil {
		return err
	}
	if done.Validation, err = r.measure(ctx, "validation loss", r.data.Validation); err != nil {
		return err
	}
	r.state = state{Epoch: s.Epoch + 1, History: append(s.History, done)}
	if err := r.save(); err != nil {
		return err
	}
	r.report(done.TrainingLoss, done.LearningRate, &done)
	return nil
}

// step does one optimizer step on the samples of a batch and returns the sum
// of the losses of its ghost batches.
func (r *run) step(batch []int) (lossSum, rate float64, err error) {
	rate = r.recipe.RateAt(r.time(r.state.Step))
	v := optimizer.LearningRateVar(r.model.store.RootScope(), dtypes.Float32, rate)
	if err := v.SetValue(tensors.FromScalar(float32(rate))); err != nil {
		return 0, 0, err
	}
	for ghost := r.recipe.ghost(); len(batch) > 0; batch = batch[ghost:] {
		x, y := r.model.tensors(r.data.Train, batch[:ghost], ghost)
		metrics, err := r.trainer.TrainStep(gomlx.Batch{Inputs: []*tensors.Tensor{x}, Labels: []*tensors.Tensor{y}})
		if err != nil {
			return 0, 0, err
		}
		l := float64(tensors.ToScalar[float32](metrics[0]))
		for _, m := range metrics {
			m.MustFinalizeAll()
		}
		if err := r.finite("training loss", l); err != nil {
			return 0, 0, err
		}
		lossSum += l
	}
	return lossSum, rate, nil
}

// time is the moment before a step of the current epoch, in epochs.
func (r *run) time(step int) float64 {
	return float64(r.state.Epoch) + float64(step)/float64(r.steps)
}

// monitored is the part of the training set that is measured after an epoch:
// the same samples every time.
func (r *run) monitored() Samples {
	switch n := r.opts.Monitor; {
	case n == 0:
		return nil
	case n < 0 || n >= r.data.Train.Len():
		return r.data.Train
	default:
		return some(r.data.Train, r.recipe.Seed, "monitor", n)
	}
}

// measure evaluates at clean weights. It returns nil for no samples.
func (r *run) measure(ctx context.Context, what string, s Samples) (*Metrics, error) {
	if s == nil {
		return nil, nil
	}
	m, err := r.model.Evaluate(ctx, s)
	if ctx.Err() != nil {
		return nil, r.interrupted(ctx)
	}
	if err != nil {
		return nil, err
	}
	return &m, r.finite(what, m.Loss)
}

func (r *run) finite(what string, loss float64) error {
	if math.IsNaN(loss) || math.IsInf(loss, 0) {
		return &DivergedError{Epoch: r.state.Epoch + 1, Step: r.state.Epoch*r.steps + r.state.Step, Loss: loss, Where: what}
	}
	return nil
}

// finish recalibrates, if asked to, and takes the final measurements.
func (r *run) finish(ctx context.Context) (*Outcome, error) {
	out := &Outcome{
		Recipe:          r.recipe,
		Parameters:      r.model.Parameters(),
		StepsPerEpoch:   r.steps,
		SamplesPerEpoch: r.steps * r.recipe.Batch,
		History:         r.state.History,
		BatchNorm:       "none",
		Model:           r.model,
	}
	for _, e := range out.History {
		out.Seconds += e.Seconds
	}
	if r.model.batchNorm {
		out.BatchNorm = "running"
		if n := r.recipe.Recalibrate; n != 0 {
			out.BatchNorm = "recalibrated"
			samples := r.data.Train
			if n > 0 && n < samples.Len() {
				samples = some(samples, r.recipe.Seed, "recalibrate", n)
			}
			if err := r.model.Recalibrate(ctx, samples, r.recipe.ghost()); err != nil {
				return nil, r.orInterrupted(ctx, err)
			}
		}
	}
	var err error
	if out.Train, err = r.measure(ctx, "clean training loss", r.data.Train); err != nil {
		return nil, err
	}
	if out.Validation, err = r.measure(ctx, "validation loss", r.data.Validation); err != nil {
		return nil, err
	}
	if out.Test, err = r.measure(ctx, "test loss", r.data.Test); err != nil {
		return nil, err
	}
	out.Weights, err = r.model.Digest()
	return out, err
}

func (r *run) report(loss, rate float64, done *Epoch) {
	if r.opts.Progress == nil {
		return
	}
	r.opts.Progress(Progress{
		Epoch: r.state.Epoch, Epochs: r.recipe.Epochs,
		Step: r.state.Epoch*r.steps + r.state.Step, Steps: r.recipe.Epochs * r.steps, First: r.first,
		Loss: loss, LearningRate: rate, Done: done,
	})
}

// interrupted saves the state between two steps and says so.
func (r *run) interrupted(ctx context.Context) error {
	at := fmt.Errorf("%w in epoch %d of %d, after %d of its %d steps: %w",
		ErrInterrupted, r.state.Epoch+1, r.recipe.Epochs, r.state.Step, r.steps, context.Cause(ctx))
	return errors.Join(at, r.save())
}

func (r *run) orInterrupted(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%w in the final evaluation: %w", ErrInterrupted, context.Cause(ctx))
	}
	return err
}

// some is a view of n samples, the same for every run with this seed.
func some(s Samples, runSeed int64, purpose string, n int) Samples {
	return &view{s, seed.Perm(seed.Stream(runSeed, purpose), s.Len())[:n]}
}

// A view is some of the samples of a set.
type view struct {
	Samples
	indices []int
}

func (v *view) Len() int { return len(v.indices) }

func (v *view) Fill(indices []int, x []float32, y []int32) {
	mapped := make([]int, len(indices))
	for i, j := range indices {
		mapped[i] = v.indices[j]
	}
	v.Samples.Fill(mapped, x, y)
}

// catch turns a panic into an error: GoMLX reports mistakes in graph building
// that way, and a model function may do anything.
func catch(err *error) {
	switch p := recover().(type) {
	case nil:
	case error:
		*err = fmt.Errorf("building or running the model: %w", p)
	default:
		*err = fmt.Errorf("building or running the model: %v", p)
	}
}
