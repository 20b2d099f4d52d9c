package nets

import (
	"testing"

	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/gomlx/gomlx/ml/train"
	"github.com/gomlx/gomlx/ml/train/loss"
	"github.com/gomlx/gomlx/ml/train/optimizer"

	"github.com/openpith/evidence/cpu"
	"github.com/openpith/evidence/internal/seed"
)

// A training step with plain gradient descent: what a loader must keep up with.
// Compare the samples per second of BenchmarkFillEpoch in package datasets.
func BenchmarkStep(b *testing.B) {
	const batch = 128
	for _, name := range []string{"f1", "c1", "resnet44"} {
		b.Run(name, func(b *testing.B) {
			n := must(Lookup(name))
			fast := must(cpu.New(""))
			store := model.NewStore()
			store.SetParams(map[string]any{optimizer.ParamLearningRate: 0.01, model.ParamInitialSeed: int64(1)})
			trainer := train.NewTrainer(fast, store, must(n.New(Options{})), loss.SparseCategoricalCrossEntropyLogits,
				optimizer.StochasticGradientDescent().WithDecay(false).Done(), nil, nil)
			x, y := make([]float32, batch*n.Input[0]*n.Input[1]*n.Input[2]), make([]int32, batch)
			seed.Uniform32(seed.Stream(1, "input"), -1, 1, x)
			for i := range y {
				y[i] = int32(i % 10)
			}
			data := train.Batch{
				Inputs: []*tensors.Tensor{tensors.FromFlatDataAndDimensions(x, append([]int{batch}, n.Input...)...)},
				Labels: []*tensors.Tensor{tensors.FromFlatDataAndDimensions(y, batch, 1)},
			}
			step := func() {
				for _, m := range must(trainer.TrainStep(data)) {
					m.MustFinalizeAll()
				}
			}
			step() // compiles
			for b.Loop() {
				step()
			}
			b.ReportMetric(float64(batch*b.N)/b.Elapsed().Seconds(), "samples/s")
		})
	}
}
