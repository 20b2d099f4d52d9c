// Command flat takes a GoMLX program as one would write it without this module,
// and makes its minimum flat by wrapping the model in one line.
//
//	go run ./examples/flat
//
// It trains the same network on the same points (two spirals, a tenth of the
// labels wrong) from the same start, without and with AdaSmoothOut, and prints
// how much the loss rises when the final weights are shaken.
package main

import (
	"fmt"
	"log"
	"math"
	"math/rand/v2"

	"github.com/gomlx/compute"
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/layers/fnn"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/gomlx/gomlx/ml/train"
	"github.com/gomlx/gomlx/ml/train/loss"
	"github.com/gomlx/gomlx/ml/train/optimizer"

	_ "github.com/openpith/evidence/cpu"
	"github.com/openpith/evidence/smoothout"
)

func main() {
	backend, err := compute.New()
	if err != nil {
		log.Fatal(err)
	}
	defer backend.Finalize()
	for _, strength := range []float64{0, 0.3} {
		r, err := run(backend, strength, 1500)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("strength %.1f: training loss %.3f, shaken %.3f; test accuracy %.1f %%\n", strength, r.loss, r.shaken, 100*r.accuracy)
	}
}

// network is an ordinary GoMLX model.
func network(scope *model.Scope, _ any, inputs []*Node) []*Node {
	return []*Node{fnn.New(scope, inputs[0], 2).NumHiddenLayers(2, 64).Done()}
}

type result struct{ loss, shaken, accuracy float64 }

func run(backend compute.Backend, strength float64, steps int) (r result, err error) {
	store := model.NewStore()
	if err := store.SetRNGStateFromSeed(1); err != nil {
		return r, err
	}
	store.SetParam(model.ParamInitialSeed, int64(1))

	noise := smoothout.Config{Strength: strength, Adapt: smoothout.Filter, Seed: 1}
	flat := smoothout.Wrap(noise, network) // this is the line

	trainer := train.NewTrainer(backend, store, flat, loss.SparseCategoricalCrossEntropyLogits,
		optimizer.Adam().LearningRate(0.003).Done(), nil, nil)
	x, y := spirals(1, 300, 0.1)
	for range steps {
		if _, err := trainer.TrainStep(batch(x, y)); err != nil {
			return r, err
		}
	}

	// The loss at the final weights and at shaken ones: the same draws for all.
	noise.Strength = 0.3
	shaken, err := model.NewExec(backend, store, func(scope *model.Scope, inputs []*Node) *Node {
		logits := smoothout.WrapEval(noise, network)(scope, nil, []*Node{inputs[0], inputs[2], inputs[3]})
		return ReduceAllMean(loss.SparseCategoricalCrossEntropyLogits(inputs[1:2], logits))
	})
	if err != nil {
		return r, err
	}
	const draws = 20
	at := func(factor float32, draw int64) float64 {
		b := batch(x, y)
		return float64(tensors.ToScalar[float32](shaken.MustCall1(b.Inputs[0], b.Labels[0], factor, draw)))
	}
	r.loss = at(0, 0)
	for d := range int64(draws) {
		r.shaken += at(1, d) / draws
	}

	accuracy, err := model.NewExec(backend, store, func(scope *model.Scope, x, y *Node) *Node {
		hit := Equal(ArgMax(network(scope, nil, []*Node{x})[0], -1), Squeeze(y, -1))
		return ReduceAllMean(ConvertDType(hit, x.DType()))
	})
	if err != nil {
		return r, err
	}
	test := batch(spirals(2, 2000, 0))
	r.accuracy = float64(tensors.ToScalar[float32](accuracy.MustCall1(test.Inputs[0], test.Labels[0])))
	return r, nil
}

// spirals draws points on two arms; a fraction of the labels is wrong.
func spirals(seed uint64, n int, wrong float64) (x []float32, y []int32) {
	rng := rand.New(rand.NewPCG(seed, 0))
	for i := range n {
		t := 0.5 + 3*math.Sqrt(rng.Float64())
		arm := i % 2
		angle := 1.6*t + math.Pi*float64(arm)
		x = append(x, float32(t*math.Cos(angle)+0.1*rng.NormFloat64()), float32(t*math.Sin(angle)+0.1*rng.NormFloat64()))
		if rng.Float64() < wrong {
			arm = 1 - arm
		}
		y = append(y, int32(arm))
	}
	return x, y
}

func batch(x []float32, y []int32) train.Batch {
	return train.Batch{
		Inputs: []*tensors.Tensor{tensors.FromFlatDataAndDimensions(x, len(y), 2)},
		Labels: []*tensors.Tensor{tensors.FromFlatDataAndDimensions(y, len(y), 1)},
	}
}
