package smoothout_test

import (
	"fmt"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/gobackend"
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/gomlx/gomlx/ml/train"
	"github.com/gomlx/gomlx/ml/train/optimizer"

	"github.com/openpith/evidence/smoothout"
)

// A wide bowl with its minimum at 0 and a narrow dip in its slope at 2:
//
//	L(w) = w²/2 - exp(-((w-2)/0.05)²)
//
// Plain SGD that starts in the dip stays there. SmoothOut sees the average over
// a box that is wider than the dip, in which the dip is gone.
func ExampleWrap() {
	backend, err := gobackend.New("ops_sequential")
	if err != nil {
		panic(err)
	}
	defer backend.Finalize()

	modelFn := func(scope *model.Scope, _ any, inputs []*Node) []*Node {
		w := scope.VariableWithValue("w", float32(2)).NodeValue(inputs[0].Graph())
		dip := Exp(Neg(Square(DivScalar(AddScalar(w, -2), 0.05))))
		return []*Node{Sub(DivScalar(Square(w), 2), dip)}
	}
	fmt.Printf("SGD       ends at w = %.0f\n", descend(backend, modelFn))
	fmt.Printf("SmoothOut ends at w = %.0f\n", descend(backend,
		smoothout.Wrap(smoothout.Config{Strength: 0.5, Seed: 1}, modelFn)))
	// Output:
	// SGD       ends at w = 2
	// SmoothOut ends at w = 0
}

// descend minimises the output of the model and returns where it ends.
func descend(backend compute.Backend, modelFn train.ModelFn) float32 {
	store := model.NewStore()
	loss := func(_, predictions []*Node) *Node { return predictions[0] }
	sgd := optimizer.StochasticGradientDescent().WithDecay(false).WithLearningRate(0.002).Done()
	trainer := train.NewTrainer(backend, store, modelFn, loss, sgd, nil, nil)
	for range 2500 {
		nothing := train.Batch{
			Inputs: []*tensors.Tensor{tensors.FromValue(float32(0))},
			Labels: []*tensors.Tensor{tensors.FromValue(float32(0))},
		}
		if _, err := trainer.TrainStep(nothing); err != nil {
			panic(err)
		}
	}
	for v := range store.IterVariables() {
		if v.Name() == "w" {
			return tensors.ToScalar[float32](v.MustValue())
		}
	}
	panic("the model has no variable w")
}
