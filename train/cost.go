package train

import (
	"math"
	"time"

	"github.com/gomlx/compute"
	gomlx "github.com/gomlx/gomlx/ml/train"

	"github.com/openpith/evidence/rivals"
)

// cost compares a step of the run with one of plain SGD: a twin without noise
// and rivals trains on the same ghost batches right after the run does, for a
// few steps; the fastest of each count. The twin is then thrown away.
type cost struct {
	twin    stepper
	model   *Model
	recipe  Recipe
	chunks  []chunk // of the current step
	own     []time.Duration
	plain   []time.Duration
	started time.Time
	waited  time.Duration // for input, before
	ratio   float64       // 0 while not known
}

const (
	costSteps   = 5  // the first compiles and is not counted
	costMinimum = 50 // remaining steps below which measuring would be the larger part
)

func (c *cost) begin(backend compute.Backend, net gomlx.ModelFn, r *run) error {
	if !r.opts.Cost || r.recipe.Epochs*r.steps-r.done() < costMinimum {
		return nil
	}
	plain, err := r.recipe.WithMethod("sgd", 0)
	if err != nil {
		return err
	}
	plain.Copies, plain.Optimizer, plain.Average = 0, "", rivals.Average{}
	if r.recipe.Method() == "sgd" && r.recipe.copies() == 1 && r.recipe.Average.Kind == "" && (r.recipe.Optimizer == "" || r.recipe.Optimizer == "sgd") {
		return nil // it is plain SGD
	}
	m, err := newModel(backend, net, r.model.shape, r.model.classes)
	if err != nil {
		return err
	}
	if err := m.seed(plain.Seed); err != nil {
		return err
	}
	twin, err := newTrainer(m, plain, r.recipe.Epochs*r.steps)
	if err != nil {
		return err
	}
	*c = cost{twin: twin, model: m, recipe: plain}
	return nil
}

// note remembers a ghost batch for the twin, and when the step began. waited is
// how long the run has waited for its input so far.
func (c *cost) note(x chunk, waited time.Duration) {
	if c.twin == nil {
		return
	}
	if len(c.chunks) == 0 {
		c.started, c.waited = time.Now(), waited
	}
	c.chunks = append(c.chunks, x)
}

// took is the time of the step without what it waited for its later ghost
// batches: the twin finds them all in memory.
func (c *cost) took(now time.Time, waited time.Duration) time.Duration {
	return now.Sub(c.started) - (waited - c.waited)
}

// measure lets the twin do the step that the run has just done.
func (c *cost) measure(r *run, waited time.Duration) error {
	if c.twin == nil {
		return nil
	}
	c.own = append(c.own, c.took(time.Now(), waited))
	start := time.Now()
	if err := setRate(c.model, 0); err != nil { // it must not diverge
		return err
	}
	for _, x := range c.chunks {
		if _, _, err := trainStep(c.model, c.twin, x); err != nil {
			return err
		}
	}
	c.plain = append(c.plain, time.Since(start))
	c.chunks = c.chunks[:0]
	if len(c.own) < costSteps {
		return nil
	}
	fastest := func(ds []time.Duration) float64 {
		least := math.Inf(1)
		for _, d := range ds[1:] {
			least = min(least, d.Seconds())
		}
		return least
	}
	*c = cost{ratio: fastest(c.own) / fastest(c.plain)}
	return nil
}
