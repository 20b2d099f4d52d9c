package nets

import (
	"fmt"
	"math"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/layers/norm"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/gomlx/gomlx/ml/model/initializer"
	"github.com/gomlx/gomlx/ml/train"

	"github.com/openpith/evidence/internal/seed"
)

// dense is y = x·W + b with x [batch, in], W [in, out], both drawn as
// PyTorch's Linear draws them: uniform within ±1/√in.
func dense(scope *model.Scope, x *Node, out int) *Node {
	scope = scope.In("dense")
	g, in := x.Graph(), x.Shape().Dim(-1)
	bound := 1 / math.Sqrt(float64(in))
	w := uniform(scope, "weights", bound, in, out)
	b := uniform(scope, "biases", bound, out)
	return Add(Dot(x, w.NodeValue(g)).Product(), ExpandDims(b.NodeValue(g), 0))
}

// uniform declares a float32 variable, drawn from ±bound at the address
// (seed of the store, path). The seed is the store's "initializer_seed".
func uniform(scope *model.Scope, name string, bound float64, dims ...int) *model.Variable {
	s := model.GetParamOr(scope, model.ParamInitialSeed, int64(0))
	path := model.JoinPath(scope.Scope(), name)
	draw := func(g *Graph, shape shapes.Shape) *Node {
		values := make([]float32, shape.Size())
		seed.Uniform32(seed.Stream(s, "initial value", path), float32(-bound), float32(bound), values)
		return Const(g, tensors.FromFlatDataAndDimensions(values, shape.Dimensions...))
	}
	return scope.WithInitializer(draw).VariableWithShape(name, shapes.Make(dtypes.Float32, dims...))
}

// Batch norm as in PyTorch.
const (
	epsilon  = 1e-5
	momentum = 0.1 // weight of the newest batch in the running statistics
)

// BatchNorm normalises each feature (the last axis) of x over all other axes:
//
//	y = scale·(x - mean)/√(variance + 1e-5) + offset
//
// In training graphs mean and variance are those of the batch, the variance
// divided by n, and the gradient flows through both. The running statistics
// move by a tenth towards those of the batch, the variance there divided by
// n-1. Elsewhere y uses the running statistics and is differentiable. All of
// this is PyTorch's convention; one sample per feature is refused in training.
//
// When the graph parameter train.BatchNormalizationUpdatePhase is set, the
// layer normalises with the batch and makes the running statistics the plain
// average over the batches since norm.ResetBatchNormWeights. Scope and
// variables are named as in GoMLX's layer, so its tools work on this one.
//
// GoMLX's layer is not used because without the backend's own operation its
// training gradient treats mean and variance as constants.
func BatchNorm(scope *model.Scope, x *Node) *Node {
	scope = scope.In(norm.BatchNormalizationScopeName)
	g, features := x.Graph(), x.Shape().Dim(-1)
	shape := shapes.Make(x.DType(), features)
	zero, one := scope.WithInitializer(initializer.Zero), scope.WithInitializer(initializer.One)
	scale := one.VariableWithShape("scale", shape).NodeValue(g)
	offset := zero.VariableWithShape("offset", shape).NodeValue(g)
	mean := zero.VariableWithShape("mean", shape).SetTrainable(false)
	variance := one.VariableWithShape("variance", shape).SetTrainable(false)
	batches := zero.VariableWithShape("avg_weight", shapes.Make(x.DType())).SetTrainable(false)

	recalibrating := model.GetGraphParamOr(scope, g, train.BatchNormalizationUpdatePhase, -1) >= 0
	if !recalibrating && !scope.IsTraining(g) {
		return affine(x, mean.NodeValue(g), variance.NodeValue(g), scale, offset)
	}

	n := x.Shape().Size() / features
	if n < 2 {
		panic(fmt.Errorf("batch norm in %s: 1 value per feature has no variance; use larger batches", scope.Scope()))
	}
	y, batchMean, batchVariance := normalize(x, scale, offset)
	keep := Scalar(g, x.DType(), 1-momentum)
	if recalibrating {
		k := batches.NodeValue(g) // batches seen before this one
		batches.SetNodeValue(OnePlus(k))
		keep = Div(k, OnePlus(k))
	}
	update := func(v *model.Variable, batch *Node) {
		v.SetNodeValue(Add(Mul(keep, v.NodeValue(g)), Mul(OneMinus(keep), StopGradient(batch))))
	}
	update(mean, batchMean)
	update(variance, MulScalar(batchVariance, float64(n)/float64(n-1)))
	return y
}

// normalize is batch norm with the statistics of the batch, the variance
// divided by n: by the operation of the backend where there is one, with its
// gradient, and in basic operations elsewhere.
func normalize(x, scale, offset *Node) (y, mean, variance *Node) {
	ops := x.Graph().Backend().Capabilities().Operations
	if ops[compute.OpTypeBatchNormForTraining] && ops[compute.OpTypeBatchNormGradient] {
		return InternalBatchNormForTraining(x, scale, offset, epsilon, -1)
	}
	over := make([]int, x.Rank()-1)
	for i := range over {
		over[i] = i
	}
	mean = ReduceMean(x, over...)
	variance = ReduceMean(Square(Sub(x, spread(mean, x))), over...)
	return affine(x, mean, variance, scale, offset), mean, variance
}

func affine(x, mean, variance, scale, offset *Node) *Node {
	factor := Div(scale, Sqrt(AddScalar(variance, epsilon)))
	return Add(Mul(Sub(x, spread(mean, x)), spread(factor, x)), spread(offset, x))
}

// spread gives a vector of features leading axes of size 1, to broadcast
// against x.
func spread(v, x *Node) *Node { return ExpandLeftToRank(v, x.Rank()) }
