// Command transformer trains a small transformer with noise that is fitted to
// it: less in the embedding, none in biases and layer norms, off at first and
// growing towards the end.
//
//	go run ./examples/transformer
//
// The task is to reverse a sequence of letters. It prints what the noise does to
// each tensor, then accuracy on sequences that were not trained on.
package main

import (
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"os"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/layers"
	"github.com/gomlx/gomlx/ml/layers/activation"
	"github.com/gomlx/gomlx/ml/layers/attention"
	"github.com/gomlx/gomlx/ml/layers/norm"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/gomlx/gomlx/ml/train"
	"github.com/gomlx/gomlx/ml/train/loss"
	"github.com/gomlx/gomlx/ml/train/optimizer"

	_ "github.com/openpith/evidence/cpu"
	"github.com/openpith/evidence/smoothout"
)

const (
	letters = 12
	length  = 8
	width   = 32
	heads   = 2
	batch   = 64
)

// network maps letters [batch, length] to logits [batch, length, letters].
func network(scope *model.Scope, _ any, inputs []*Node) []*Node {
	g := inputs[0].Graph()
	x := layers.Embedding(scope.In("letters"), inputs[0], dtypes.Float32, letters, width)
	place := scope.In("places").VariableWithShape("embeddings", shapes.Make(dtypes.Float32, length, width))
	x = Add(x, ExpandDims(place.NodeValue(g), 0))
	for i := range 2 {
		s := scope.In("block %d", i)
		y := norm.LayerNorm(s.In("before attention"), x, -1).Done()
		x = Add(x, attention.MultiHeadAttention(s.In("attention"), y, y, y, heads, width/heads).Done())
		y = norm.LayerNorm(s.In("before hidden"), x, -1).Done()
		y = activation.Gelu(layers.DenseWithBias(s.In("hidden"), y, 2*width))
		x = Add(x, layers.DenseWithBias(s.In("out"), y, width))
	}
	x = norm.LayerNorm(scope.In("last"), x, -1).Done()
	return []*Node{layers.DenseWithBias(scope.In("logits"), x, letters)}
}

// noise fits the model: filters, because tensors differ in scale; growing from
// a tenth of training on, because a network that has learned nothing yet has
// nothing to be flat about.
func noise(steps int) smoothout.Config {
	return smoothout.Config{
		Strength: 0.05,
		Adapt:    smoothout.Filter,
		Schedule: smoothout.Schedule{Kind: smoothout.CosineRise, Factor: 3, Delay: 0.1, Steps: steps},
		Rules: []smoothout.Rule{
			{Role: smoothout.Bias}, // biases, and the gains and offsets of layer norms
			{Path: "/embeddings$", Factor: 0.5},
		},
		Seed: 1,
	}
}

func main() {
	backend, err := compute.New()
	if err != nil {
		log.Fatal(err)
	}
	defer backend.Finalize()
	accuracy, err := run(backend, os.Stdout, 600)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("\n%.1f %% of the letters of new sequences are right\n", 100*accuracy)
}

func run(backend compute.Backend, out io.Writer, steps int) (accuracy float64, err error) {
	store := model.NewStore()
	if err := store.SetRNGStateFromSeed(1); err != nil {
		return 0, err
	}
	store.SetParam(model.ParamInitialSeed, int64(1))
	cfg := noise(steps)
	table, err := smoothout.Describe(cfg, backend, store, network, shapes.Make(dtypes.Int32, batch, length))
	if err != nil {
		return 0, err
	}
	if _, err := table.WriteTo(out); err != nil {
		return 0, err
	}

	trainer := train.NewTrainer(backend, store, smoothout.Wrap(cfg, network), loss.SparseCategoricalCrossEntropyLogits,
		optimizer.Adam().LearningRate(0.003).WeightDecay(0.01).Done(), nil, nil)
	rng := rand.New(rand.NewPCG(1, 0))
	for range steps {
		if _, err := trainer.TrainStep(sequences(rng, batch)); err != nil {
			return 0, err
		}
	}

	right, err := model.NewExec(backend, store, func(scope *model.Scope, x, y *Node) *Node {
		hit := Equal(ArgMax(network(scope, nil, []*Node{x})[0], -1, dtypes.Int32), Squeeze(y, -1))
		return ReduceAllMean(ConvertDType(hit, dtypes.Float32))
	})
	if err != nil {
		return 0, err
	}
	test := sequences(rand.New(rand.NewPCG(2, 0)), 500)
	return float64(tensors.ToScalar[float32](right.MustCall1(test.Inputs[0], test.Labels[0]))), nil
}

// sequences are letters, and the same letters from the end.
func sequences(rng *rand.Rand, n int) train.Batch {
	x, y := make([]int32, n*length), make([]int32, n*length)
	for i := range n {
		for j := range length {
			letter := int32(rng.IntN(letters))
			x[i*length+j], y[i*length+length-1-j] = letter, letter
		}
	}
	return train.Batch{
		Inputs: []*tensors.Tensor{tensors.FromFlatDataAndDimensions(x, n, length)},
		Labels: []*tensors.Tensor{tensors.FromFlatDataAndDimensions(y, n, length, 1)},
	}
}
