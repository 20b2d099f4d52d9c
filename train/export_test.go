package train

import (
	"github.com/gomlx/compute"
	gomlx "github.com/gomlx/gomlx/ml/train"
)

// NewStepper is the step of a run, for benchmarks.
func NewStepper(backend compute.Backend, net gomlx.ModelFn, shape []int, classes int, r Recipe, steps int) (stepper, error) {
	m, err := newModel(backend, net, shape, classes)
	if err != nil {
		return nil, err
	}
	if err := m.seed(r.Seed); err != nil {
		return nil, err
	}
	return newTrainer(m, r, steps)
}
