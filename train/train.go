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
	"slices"
	"time"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/model"
	gomlx "github.com/gomlx/gomlx/ml/train"
	"github.com/gomlx/gomlx/ml/train/optimizer"

	"github.com/openpith/evidence/internal/atomicfile"
	"github.com/openpith/evidence/internal/safetensors"
	"github.com/openpith/evidence/internal/seed"
)

// Samples is a set of labelled inputs that can be read in any order. Reading
// the same index twice gives the same sample. Run reads from goroutines of its
// own, several at once if Options.Loaders says so. See also [Augmented].
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
	// SaveSteps and SaveInterval, if not 0, also write the checkpoint within an
	// epoch: after so many steps, or when so much time has passed since the last.
	SaveSteps    int
	SaveInterval time.Duration
	// Best is a file for the weights (safetensors) after the epoch that was
	// best on the validation set so far. "" keeps none.
	Best string
	// EpochWeights, if not nil, names the file for the weights after each epoch
	// (from 1), or "" for none: what a picture of the way of training needs.
	EpochWeights func(epoch int) string
	// Init, if not nil, are the initial weights, as [Model.Weights] writes them.
	// Unlike the others, this option changes the result.
	Init []byte
	// Loaders is how many goroutines read samples ahead of the steps; 0 means 1.
	// With more than one, the samples are read from several at once.
	Loaders int
	// Cost measures what a step costs beside one of plain SGD, by training a
	// throw-away copy of the model for a few steps; see Progress.Cost.
	Cost bool
	// Identity names what the trainer cannot see, such as the digests of the
	// data and the name of the network. It is bound into the checkpoint, which
	// no run of another identity, recipe or model can continue.
	Identity string
	// Monitor is the number of training samples on which loss and accuracy at
	// clean weights are measured after each epoch; 0 for none, -1 for all.
	Monitor int
	// MonitorSteps, if not 0, has them measured after every so many optimizer steps,
	// too; see Progress.Clean.
	MonitorSteps int
	// Begun, if not nil, is called once, before the first step: with the number of
	// steps that earlier sessions have done, and the epochs they have finished.
	Begun func(step int, history []Epoch)
	// Progress, if not nil, is called after each step and each epoch.
	Progress func(Progress)
}

// Progress tells how far a run has come.
type Progress struct {
	Epoch, Epochs int     // epochs finished, and to be finished
	Step, Steps   int     // optimizer steps done, and to be done in the whole run
	First         int     // steps already done when this call of Run began
	Loss          float64 // mean training loss of the last step, at noisy weights
	// Unperturbed is the loss of the samples of the last step at the weights before
	// it, where the method computes it on its way, as SAM and ASAM do; else nil.
	Unperturbed  *float64
	LearningRate float64
	Wait         float64  // seconds of this session in which steps waited for their input
	Cost         float64  // time of a step as a multiple of one of plain SGD; 0 while not measured
	Clean        *Metrics // of the monitored samples at clean weights, when Options.MonitorSteps had them measured now
	Done         *Epoch   // at the end of an epoch: its entry in the history
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
	// InputSeconds is the part of Seconds in which a step waited for its samples.
	InputSeconds float64 `json:"input_seconds,omitempty"`
}

// An Outcome is the result of a run. All metrics are at clean weights, which are
// the stored ones: those of the methods that leave noise in the weights,
// anti-pgd and noisy-sgd, hold the noise of the last step.
type Outcome struct {
	Recipe          Recipe  `json:"recipe"`
	Parameters      int     `json:"parameters"`        // trained numbers
	StepsPerEpoch   int     `json:"steps_per_epoch"`   // optimizer steps
	SamplesPerEpoch int     `json:"samples_per_epoch"` // those that fill whole batches
	History         []Epoch `json:"history"`
	// BatchNorm says which statistics the final metrics used: "running" (of the
	// passes that were trained), "running, from clean passes" (Recipe.Statistics),
	// "recalibrated", or "none" for a model without batch normalisation.
	BatchNorm string `json:"batch_norm"`
	// Selected is the epoch whose weights these are: the last one, or the best
	// on the validation set if the recipe says so.
	Selected   int      `json:"selected_epoch"`
	Train      *Metrics `json:"train"` // whole training set
	Validation *Metrics `json:"validation,omitempty"`
	Test       *Metrics `json:"test,omitempty"`
	// Weights is the SHA-256 of the model's variables: names, shapes, values.
	Weights string  `json:"weights_sha256"`
	Seconds float64 `json:"seconds"` // spent in training steps, over all sessions
	Model   *Model  `json:"-"`       // the trained model, for more measurements
}

// ErrDiverged reports a loss that is no number or beyond a million nats. The
// error is a *DivergedError.
var ErrDiverged = errors.New("training diverged")

// A DivergedError tells where a run diverged. The checkpoint, if there is one,
// is that of the last good epoch.
type DivergedError struct {
	Epoch int     // from 1
	Step  int     // optimizer steps done before
	Loss  float64 // NaN, infinite, or above 1e6
	Where string  // which loss
}

func (e *DivergedError) Error() string {
	return fmt.Sprintf("training diverged: %s is %v in epoch %d, optimizer steps done: %d; try a lower learning rate or less noise",
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
	if err := r.cost.begin(backend, net, r); err != nil {
		return nil, err
	}
	r.first, r.savedStep, r.saved = r.done(), r.done(), time.Now()
	if opts.Begun != nil {
		opts.Begun(r.first, slices.Clone(r.state.History))
	}
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
	best    []safetensors.Tensor // the weights of the best epoch, if the recipe selects it
	cost    cost
	wait    time.Duration // for input, in this session

	saved     time.Time // when the checkpoint was last written,
	savedStep int       // and after how many steps
}

// state is what, beside the variables, the next step depends on or the final
// result tells; checkpoints hold both.
type state struct {
	Epoch   int     `json:"epoch"`    // epochs finished
	Step    int     `json:"step"`     // steps done in the current epoch
	LossSum float64 `json:"loss_sum"` // over the micro-steps of the current epoch
	Seconds float64 `json:"seconds"`  // in training steps, of the current epoch
	Wait    float64 `json:"input_seconds,omitempty"`
	History []Epoch `json:"history"`
}

func newRun(backend compute.Backend, net gomlx.ModelFn, data Data, recipe Recipe, opts Options) (*run, error) {
	if err := recipe.Validate(); err != nil {
		return nil, err
	}
	if data.Train == nil {
		return nil, fmt.Errorf("%w: no training data", ErrRecipe)
	}
	if recipe.Select == "best" && data.Validation == nil {
		return nil, fmt.Errorf("%w: select best: there is no validation set to choose by", ErrRecipe)
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
	if err := m.seed(recipe.Seed); err != nil {
		return nil, err
	}
	if opts.Init != nil {
		if err := m.SetWeights(opts.Init); err != nil {
			return nil, err
		}
	}
	steps := n / recipe.Batch // > 0: the batch is not larger than the set
	trainer, err := newTrainer(m, recipe, recipe.Epochs*steps)
	if err != nil {
		return nil, err
	}
	return &run{
		recipe: recipe, opts: opts, data: data, model: m, trainer: trainer, steps: steps,
	}, nil
}

// seed decides initial weights and dropout. Both ways of drawing initial values
// are seeded: the parameter is what initialisers of ours look at, the stream
// serves GoMLX's, and dropout.
func (m *Model) seed(s int64) error {
	m.store.SetParam(model.ParamInitialSeed, s)
	return m.store.SetRNGStateFromSeed(int64(seed.Words(s, "store")[0]))
}

// epoch does what is left of the current epoch, measures, and saves.
func (r *run) epoch(ctx context.Context) error {
	s := &r.state
	// The order of an epoch is a function of seed and epoch: neither the method
	// nor what was drawn before can change it.
	order := seed.Perm(seed.Stream(r.recipe.Seed, "order", s.Epoch), r.data.Train.Len())
	input := load(r.data.Train, s.Epoch, order[s.Step*r.recipe.Batch:r.steps*r.recipe.Batch], r.recipe.ghost(), r.opts.Loaders)
	defer func() { input.stop() }()
	for s.Step < r.steps {
		if ctx.Err() != nil {
			return r.interrupted(ctx)
		}
		start, waited := time.Now(), input.wait
		lossSum, unperturbed, rate, err := r.step(input)
		if err != nil {
			return err
		}
		s.LossSum += lossSum
		s.Seconds += time.Since(start).Seconds()
		s.Wait += (input.wait - waited).Seconds()
		r.wait += input.wait - waited
		s.Step++
		if err := r.cost.measure(r, input.wait); err != nil {
			return err
		}
		var clean *Metrics
		if n := r.opts.MonitorSteps; n > 0 && r.done()%n == 0 && s.Step < r.steps { // else the epoch measures
			if clean, err = r.measure(ctx, "clean training loss", r.monitored()); err != nil {
				return err
			}
		}
		r.report(Progress{Loss: lossSum / float64(r.recipe.ghosts()), Unperturbed: unperturbed, LearningRate: rate, Clean: clean})
		if err := r.saveIfDue(); err != nil {
			return err
		}
	}

	done := Epoch{
		Epoch:        s.Epoch + 1,
		LearningRate: r.recipe.RateAt(r.time(r.steps - 1)),
		TrainingLoss: s.LossSum / float64(r.steps*r.recipe.ghosts()),
		Seconds:      s.Seconds, InputSeconds: s.Wait,
	}
	var err error
	if done.Train, err = r.measure(ctx, "clean training loss", r.monitored()); err != nil {
		return err
	}
	if done.Validation, err = r.measure(ctx, "validation loss", r.data.Validation); err != nil {
		return err
	}
	r.state = state{Epoch: s.Epoch + 1, History: append(s.History, done)}
	if err := r.keep(); err != nil {
		return err
	}
	if err := r.save(); err != nil {
		return err
	}
	r.report(Progress{Loss: done.TrainingLoss, LearningRate: done.LearningRate, Done: &done})
	return nil
}

// keep notes the weights after an epoch where they are wanted. Should the
// checkpoint of this epoch not be reached, the epoch is done again and the files
// are written again, with the same bytes.
func (r *run) keep() error {
	path := ""
	if r.opts.EpochWeights != nil {
		path = r.opts.EpochWeights(r.state.Epoch)
	}
	best := Best(r.state.History) == r.state.Epoch && (r.recipe.Select == "best" || r.opts.Best != "")
	if path == "" && !best {
		return nil
	}
	weights, err := r.model.snapshot()
	if err != nil {
		return err
	}
	file, err := encodeWeights(weights, map[string]string{"epoch": fmt.Sprint(r.state.Epoch)})
	if err != nil {
		return err
	}
	if path != "" {
		if err := atomicfile.Write(path, file, 0o644); err != nil {
			return err
		}
	}
	if best && r.recipe.Select == "best" {
		r.best = weights
	}
	if best && r.opts.Best != "" {
		return atomicfile.Write(r.opts.Best, file, 0o644)
	}
	return nil
}

// Best is the epoch (from 1) that was best on the validation set: by accuracy,
// then by loss, then the earliest. Without validation it is the last one.
func Best(history []Epoch) int {
	best := len(history)
	for i := len(history) - 1; i >= 0; i-- {
		v := history[i].Validation
		if v == nil {
			return len(history)
		}
		b := history[best-1].Validation
		if v.Accuracy > b.Accuracy || v.Accuracy == b.Accuracy && v.Loss <= b.Loss {
			best = i + 1
		}
	}
	return best
}

// step does one optimizer step and returns the sum of the losses of its ghost
// batches, and their mean at unperturbed weights if the method knows it.
func (r *run) step(input *loader) (lossSum float64, unperturbed *float64, rate float64, err error) {
	rate = r.recipe.RateAt(r.time(r.state.Step))
	fail := func(err error) (float64, *float64, float64, error) { return 0, nil, 0, err }
	if err := setRate(r.model, rate); err != nil {
		return fail(err)
	}
	for range r.recipe.ghosts() {
		c := input.next()
		if c.err != nil {
			return fail(fmt.Errorf("reading training samples: %w", c.err))
		}
		r.cost.note(c, input.wait)
		l, clean, err := trainStep(r.model, r.trainer, c)
		if err != nil {
			return fail(err)
		}
		if err := r.finite("training loss", l); err != nil {
			return fail(err)
		}
		lossSum += l
		if clean != nil {
			if unperturbed == nil {
				unperturbed = new(float64)
			}
			*unperturbed += *clean / float64(r.recipe.ghosts())
		}
	}
	return lossSum, unperturbed, rate, nil
}

func setRate(m *Model, rate float64) error {
	v := optimizer.LearningRateVar(m.store.RootScope(), dtypes.Float32, rate)
	return v.SetValue(tensors.FromScalar(float32(rate)))
}

// trainStep trains on one ghost batch and returns the mean loss that was
// minimised, and that at unperturbed weights or nil (see stepper).
func trainStep(m *Model, trainer stepper, c chunk) (loss float64, clean *float64, err error) {
	n := len(c.y)
	x := tensors.FromFlatDataAndDimensions(c.x, append([]int{n}, m.shape...)...)
	y := tensors.FromFlatDataAndDimensions(c.y, n, 1)
	metrics, err := trainer.TrainStep(gomlx.Batch{Inputs: []*tensors.Tensor{x}, Labels: []*tensors.Tensor{y}})
	if err != nil {
		return 0, nil, err
	}
	loss = float64(tensors.ToScalar[float32](metrics[0]))
	if len(metrics) > 2 {
		l := float64(tensors.ToScalar[float32](metrics[2]))
		clean = &l
	}
	for _, m := range metrics {
		m.MustFinalizeAll()
	}
	return loss, clean, nil
}

// done is the number of optimizer steps since the beginning.
func (r *run) done() int { return r.state.Epoch*r.steps + r.state.Step }

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

// measure evaluates at clean weights, while training; what is done is saved when
// ctx ends. It returns nil for no samples.
func (r *run) measure(ctx context.Context, what string, s Samples) (*Metrics, error) {
	m, err := r.evaluate(ctx, what, s)
	if ctx.Err() != nil && s != nil {
		return nil, r.interrupted(ctx)
	}
	return m, err
}

// measureFinal is measure after the last epoch, whose checkpoint is there. It saves
// nothing: the weights may be the average by now, which is not where training stopped.
func (r *run) measureFinal(ctx context.Context, what string, s Samples) (*Metrics, error) {
	m, err := r.evaluate(ctx, what, s)
	if err != nil {
		return nil, r.orInterrupted(ctx, err)
	}
	return m, nil
}

func (r *run) evaluate(ctx context.Context, what string, s Samples) (*Metrics, error) {
	if s == nil {
		return nil, nil
	}
	m, err := r.model.Evaluate(ctx, s)
	if err != nil {
		return nil, err
	}
	return &m, r.finite(what, m.Loss)
}

// maxLoss is a loss, in nats, that no network comes back from: a guess without
// any knowledge costs ln(classes), and noise in the weights some hundreds.
const maxLoss = 1e6

func (r *run) finite(what string, loss float64) error {
	if !(loss <= maxLoss) {
		return &DivergedError{Epoch: r.state.Epoch + 1, Step: r.done(), Loss: loss, Where: what}
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
	out.Selected = len(out.History)
	if r.recipe.Select == "best" && r.best != nil {
		out.Selected = Best(out.History)
		if err := r.model.restore(r.best); err != nil {
			return nil, err
		}
	}
	averaged, err := r.model.useAverage(r.recipe)
	if err != nil {
		return nil, err
	}
	if r.model.batchNorm {
		out.BatchNorm = "running"
		if r.recipe.gathersClean() {
			out.BatchNorm = "running, from clean passes"
		}
		n := r.recipe.Recalibrate
		if averaged && n == 0 { // running statistics are those of other weights
			n = -1
		}
		if n != 0 {
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
	if out.Train, err = r.measureFinal(ctx, "clean training loss", r.data.Train); err != nil {
		return nil, err
	}
	if out.Validation, err = r.measureFinal(ctx, "validation loss", r.data.Validation); err != nil {
		return nil, err
	}
	if out.Test, err = r.measureFinal(ctx, "test loss", r.data.Test); err != nil {
		return nil, err
	}
	out.Weights, err = r.model.Digest()
	return out, err
}

// report fills in how far the run is.
func (r *run) report(p Progress) {
	if r.opts.Progress == nil {
		return
	}
	p.Epoch, p.Epochs = r.state.Epoch, r.recipe.Epochs
	p.Step, p.Steps, p.First = r.done(), r.recipe.Epochs*r.steps, r.first
	p.Wait, p.Cost = r.wait.Seconds(), r.cost.ratio
	r.opts.Progress(p)
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
