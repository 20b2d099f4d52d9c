package cpu_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/layers"
	"github.com/gomlx/gomlx/ml/layers/attention"
	"github.com/gomlx/gomlx/ml/layers/norm"
	"github.com/gomlx/gomlx/ml/model"
	gomlx "github.com/gomlx/gomlx/ml/train"
	"github.com/gomlx/gomlx/ml/train/loss"
	"github.com/gomlx/gomlx/ml/train/metric"
	"github.com/openpith/evidence/cpu"
	"github.com/openpith/evidence/nets"
	"github.com/openpith/evidence/smoothout"
	"github.com/openpith/evidence/train"
)

// transformer classifies sequences of tokens: embedding, two blocks of attention
// and dense layers with layer norm and dropout.
func transformer(scope *model.Scope, _ any, inputs []*Node) []*Node {
	const width = 32
	x := layers.Embedding(scope.In("tokens"), inputs[0], dtypes.Float32, 50, width)
	position := Iota(x.Graph(), shapes.Make(dtypes.Int32, 1, x.Shape().Dim(1)), 1)
	x = Add(x, layers.Embedding(scope.In("positions"), position, dtypes.Float32, 12, width))
	for i := range 2 {
		s := scope.In("block_%d", i)
		x = Add(x, attention.SelfAttention(s.In("attention"), norm.LayerNorm(s.In("n1"), x, -1).Done(), 4, width/4).Done())
		y := layers.DenseWithBias(s.In("d1"), norm.LayerNorm(s.In("n2"), x, -1).Done(), 4*width)
		y = layers.DropoutStatic(s, Mul(y, Sigmoid(y)), 0.1)
		x = Add(x, layers.DenseWithBias(s.In("d2"), y, width))
	}
	return []*Node{layers.DenseWithBias(scope.In("out"), ReduceMean(x, 1), 10)}
}

// Training and evaluation of the project's networks, and of a transformer, run on
// kernels of this backend alone.
func TestNothingFallsBack(t *testing.T) {
	images := func(dims ...int) *tensors.Tensor { return tensors.FromShape(shapes.Make(dtypes.Float32, dims...)) }
	tokens := make([]int32, 6*12)
	for i := range tokens {
		tokens[i] = int32(i*7) % 50
	}
	net := func(name string) gomlx.ModelFn {
		fn, err := nets.ByName(name, nets.Options{})
		if err != nil {
			t.Fatal(err)
		}
		return fn
	}
	noise := smoothout.Config{Strength: 0.01}
	for _, c := range []struct {
		name  string
		model gomlx.ModelFn
		input *tensors.Tensor
	}{
		{"F1", net("f1"), images(6, 28, 28, 1)},
		{"F1 SmoothOut", smoothout.Wrap(noise, net("f1")), images(6, 28, 28, 1)},
		{"F1 AdaSmoothOut", smoothout.Wrap(smoothout.Config{Strength: 0.01, Adapt: smoothout.Filter}, net("f1")), images(6, 28, 28, 1)},
		{"C1", net("c1"), images(6, 32, 32, 3)},
		{"C3", net("c3"), images(6, 32, 32, 3)},
		{"ResNet-8", net("resnet8"), images(6, 32, 32, 3)},
		{"WRN-10-2", net("wrn-10-2"), images(6, 32, 32, 3)},
		{"transformer", transformer, tensors.FromFlatDataAndDimensions(tokens, 6, 12)},
	} {
		t.Run(c.name, func(t *testing.T) {
			var plans bytes.Buffer
			t.Cleanup(cpu.SetDumpOutput(&plans))
			backend := newBackend(t, "dump")
			labels := tensors.FromFlatDataAndDimensions([]int32{0, 1, 2, 3, 4, 5}, 6, 1)
			accuracy := metric.NewSparseCategoricalAccuracy("accuracy", "acc")
			trainer := gomlx.NewTrainer(backend, model.NewStore(), c.model, loss.SparseCategoricalCrossEntropyLogits,
				train.SGD{LearningRate: 0.1, Momentum: 0.9}, []metric.Interface{accuracy}, []metric.Interface{accuracy})
			batch := gomlx.Batch{Inputs: []*tensors.Tensor{c.input}, Labels: []*tensors.Tensor{labels}}
			if _, err := trainer.TrainStep(batch); err != nil {
				t.Fatal(err)
			}
			batch.Inputs[0], batch.Labels[0] = c.input, labels
			if _, err := trainer.EvalStep(batch); err != nil {
				t.Fatal(err)
			}
			for line := range strings.Lines(plans.String()) {
				if strings.Contains(line, "(fallback)") {
					t.Errorf("%.200s", line)
				}
			}
			if !strings.Contains(plans.String(), "DotGeneral") {
				t.Error("no plan was dumped")
			}
		})
	}
}
