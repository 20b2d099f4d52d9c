package experiment

import (
	"fmt"

	"github.com/gomlx/compute"
	"github.com/gomlx/gomlx/core/tensors"
	gomlxloss "github.com/gomlx/gomlx/ml/train/loss"

	"github.com/openpith/evidence/internal/seed"
	"github.com/openpith/evidence/objective/network"
	"github.com/openpith/evidence/train"
)

// objectiveBatch is the number of examples in a part of an objective: the m of
// m-sharpness.
const objectiveBatch = 250

// Split returns the samples of that name: train, validation or test.
func (t *Trained) Split(name string) (train.Samples, error) {
	s := map[string]train.Samples{"train": t.Data.Train, "validation": t.Data.Validation, "test": t.Data.Test}[name]
	if s == nil {
		return nil, fmt.Errorf("%w: the run has no split %q: want train, validation or test", ErrConfig, name)
	}
	return s, nil
}

// Objective is the loss of a model of the run as a function of its weights: the
// mean cross-entropy on n examples of a split, drawn by the seed (0: all). Samples
// are as they are, not augmented. what says in words which examples they are.
func (t *Trained) Objective(backend compute.Backend, m *train.Model, split string, n int, drawn int64) (f *network.Model, what string, err error) {
	s, err := t.Split(split)
	if err != nil {
		return nil, "", err
	}
	what = fmt.Sprintf("%s split of %s, all %d examples", split, t.Config.Data.Name, s.Len())
	var indices []int
	if n > 0 && n < s.Len() {
		indices = seed.Perm(seed.Stream(drawn, "objective", split), s.Len())[:n]
		what = fmt.Sprintf("%s split of %s, %d of %d examples, drawn by seed %d", split, t.Config.Data.Name, n, s.Len(), drawn)
	} else {
		for i := range s.Len() {
			indices = append(indices, i)
		}
	}
	each := 1
	for _, d := range s.Shape() {
		each *= d
	}
	var batches []network.Batch
	for len(indices) > 0 {
		take := indices[:min(objectiveBatch, len(indices))]
		indices = indices[len(take):]
		x, y := make([]float32, len(take)*each), make([]int32, len(take))
		s.Fill(take, x, y)
		batches = append(batches, network.Batch{
			Inputs:   []*tensors.Tensor{tensors.FromFlatDataAndDimensions(x, append([]int{len(take)}, s.Shape()...)...)},
			Labels:   []*tensors.Tensor{tensors.FromFlatDataAndDimensions(y, len(take), 1)},
			Examples: len(take),
		})
	}
	f, err = network.New(backend, m.Store(), t.Net, gomlxloss.SparseCategoricalCrossEntropyLogits, network.CorrectClasses, batches)
	return f, what, err
}
