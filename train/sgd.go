package train

import (
	"github.com/gomlx/compute/dtypes"
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/gomlx/gomlx/ml/model/initializer"
	"github.com/gomlx/gomlx/ml/train/optimizer"
)

// SGD is stochastic gradient descent as torch.optim.SGD does it, after
// clipping by the global norm as torch.nn.utils.clip_grad_norm_ does it:
//
//	g = g · min(1, ClipNorm / (‖all g‖ + 1e-6))    if ClipNorm > 0
//	g = g + WeightDecay·w
//	v = Momentum·v + g
//	w = w - lr·v              (Nesterov: w - lr·(g + Momentum·v))
//
// The learning rate is the variable of [optimizer.LearningRateVar], so it can
// be set between steps without compiling again. SGD works alone and with
// Trainer.AccumulateGradients, which hands it the mean over the micro-steps.
type SGD struct {
	LearningRate float64 // initial value of the variable
	Momentum     float64
	Nesterov     bool
	WeightDecay  float64 // L2, on every trainable variable
	ClipNorm     float64 // 0: no clipping
}

// sgdScope holds the momentum of each variable, under the variable's own path.
const sgdScope = "/" + optimizer.Scope + "/sgd"

// UpdateGraph implements optimizer.Interface.
func (o SGD) UpdateGraph(scope *model.Scope, _ *Graph, loss *Node) {
	o.UpdateGraphWithGradients(scope, scope.BuildTrainableVariablesGradientsGraph(loss), loss.DType())
}

// UpdateGraphWithGradients implements train.OptimizeWithGradients: gradients
// are those of the trainable variables in use, in the order of the store.
func (o SGD) UpdateGraphWithGradients(scope *model.Scope, gradients []*Node, lossDType dtypes.DType) {
	if len(gradients) == 0 {
		return
	}
	g := gradients[0].Graph()
	rate := optimizer.LearningRateVar(scope, lossDType, o.LearningRate).NodeValue(g)
	optimizer.IncrementGlobalStep(g, lossDType)
	if o.ClipNorm > 0 {
		gradients = clipByGlobalNorm(gradients, o.ClipNorm)
	}
	i := 0
	for w := range scope.IterVariables() {
		if !w.Trainable || !w.InUseByGraph(g) {
			continue
		}
		grad, value := gradients[i], w.NodeValue(g)
		i++
		if o.WeightDecay > 0 {
			grad = Add(grad, MulScalar(value, o.WeightDecay))
		}
		if o.Momentum > 0 {
			path := model.JoinPath(sgdScope, w.Path())
			v := scope.Store().VariableWithShape(path, w.Shape(), initializer.Zero).SetTrainable(false)
			velocity := Add(MulScalar(v.NodeValue(g), o.Momentum), grad)
			v.SetNodeValue(velocity)
			if o.Nesterov {
				velocity = Add(grad, MulScalar(velocity, o.Momentum))
			}
			grad = velocity
		}
		w.SetNodeValue(Sub(value, Mul(ConvertDType(rate, grad.DType()), grad)))
	}
}

// Clear implements optimizer.Interface: it forgets the momentum.
func (o SGD) Clear(scope *model.Scope) error {
	return scope.Store().DeleteVariablesInScope(sgdScope)
}

// clipByGlobalNorm scales all gradients alike so that their joint Euclidean
// norm is at most limit.
func clipByGlobalNorm(gradients []*Node, limit float64) []*Node {
	var sum *Node // of squares
	for _, grad := range gradients {
		s := ConvertDType(ReduceAllSum(Square(grad)), gradients[0].DType())
		if sum == nil {
			sum = s
		} else {
			sum = Add(sum, s)
		}
	}
	// 1e-6 is torch's.
	factor := MinScalar(Div(Scalar(sum.Graph(), sum.DType(), limit), AddScalar(Sqrt(sum), 1e-6)), 1.0)
	clipped := make([]*Node, len(gradients))
	for i, grad := range gradients {
		clipped[i] = Mul(grad, ConvertDType(factor, grad.DType()))
	}
	return clipped
}
