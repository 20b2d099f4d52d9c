package nets

import (
	"fmt"
	"math"
	"math/rand/v2"

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
func dense(scope *model.Scope, x *Node, out int) *Node { return linear(scope, x, out, true) }

// denseOnly is dense without b, for layers that batch norm follows.
func denseOnly(scope *model.Scope, x *Node, out int) *Node { return linear(scope, x, out, false) }

func linear(scope *model.Scope, x *Node, out int, bias bool) *Node {
	scope = scope.In("dense")
	g, in := x.Graph(), x.Shape().Dim(-1)
	bound := 1 / math.Sqrt(float64(in))
	y := Dot(x, uniform(scope, "weights", x.DType(), bound, in, out).NodeValue(g)).Product()
	if bias {
		y = Add(y, ExpandDims(uniform(scope, "biases", x.DType(), bound, out).NodeValue(g), 0))
	}
	return noted(scope, "dense", y, int64(in)*int64(out))
}

// A filter is the shape of a convolution.
type filter struct {
	out, size, stride, pad int
}

// conv convolves x [batch, height, width, in] with a kernel
// [size, size, in, out], without bias. Initial values are those of the
// reference's ResNets: normal with variance 2/(size·size·out), He et al. (2015).
func conv(scope *model.Scope, x *Node, f filter) *Node {
	deviation := math.Sqrt(2 / float64(f.size*f.size*f.out))
	return convolve(scope, x, f, func(src rand.Source, values []float32) { seed.Normal32(src, deviation, values) })
}

// convUniform is conv with the initial values of PyTorch's Conv2d, for the
// networks in which the reference leaves them: uniform within ±1/√(size·size·in).
func convUniform(scope *model.Scope, x *Node, f filter) *Node {
	bound := float32(1 / math.Sqrt(float64(f.size*f.size*x.Shape().Dim(-1))))
	return convolve(scope, x, f, func(src rand.Source, values []float32) { seed.Uniform32(src, -bound, bound, values) })
}

func convolve(scope *model.Scope, x *Node, f filter, draw func(rand.Source, []float32)) *Node {
	scope = scope.In("conv")
	in := x.Shape().Dim(-1)
	w := drawn(scope, "weights", x.DType(), draw, f.size, f.size, in, f.out).NodeValue(x.Graph())
	y := Convolve(x, w).Strides(f.stride).PaddingPerDim([][2]int{{f.pad, f.pad}, {f.pad, f.pad}}).Done()
	pixels := y.Shape().Dim(1) * y.Shape().Dim(2)
	return noted(scope, fmt.Sprintf("conv %dx%d%s", f.size, f.size, strided(f.stride)), y, int64(pixels)*int64(f.size*f.size*in)*int64(f.out))
}

// maxPool takes the largest value of windows 3 wide, 2 apart.
func maxPool(scope *model.Scope, x *Node, pad int) *Node {
	y := MaxPool(x).Window(3).Strides(2).PaddingPerDim([][2]int{{pad, pad}, {pad, pad}}).Done()
	return noted(scope.In("max_pool"), "max pool 3x3 /2", y, 0)
}

// meanPool is the mean over all pixels: [batch, channels].
func meanPool(scope *model.Scope, x *Node) *Node {
	return noted(scope.In("mean_pool"), "mean pool", ReduceMean(x, 1, 2), 0)
}

// flat puts the features of each sample side by side: [batch, features].
func flat(x *Node) *Node { return Reshape(x, x.Shape().Dim(0), -1) }

func strided(stride int) string {
	if stride == 1 {
		return ""
	}
	return fmt.Sprintf(" /%d", stride)
}

// uniform declares a variable, drawn from ±bound.
func uniform(scope *model.Scope, name string, dtype dtypes.DType, bound float64, dims ...int) *model.Variable {
	return drawn(scope, name, dtype, func(src rand.Source, values []float32) {
		seed.Uniform32(src, float32(-bound), float32(bound), values)
	}, dims...)
}

// drawn declares a variable whose initial values draw takes from the stream at
// the address (seed of the store, path). The seed is the store's
// "initializer_seed".
func drawn(scope *model.Scope, name string, dtype dtypes.DType, draw func(rand.Source, []float32), dims ...int) *model.Variable {
	s := model.GetParamOr(scope, model.ParamInitialSeed, int64(0))
	path := model.JoinPath(scope.Scope(), name)
	initial := func(g *Graph, shape shapes.Shape) *Node {
		values := make([]float32, shape.Size())
		draw(seed.Stream(s, "initial value", path), values)
		return ConvertDType(Const(g, tensors.FromFlatDataAndDimensions(values, shape.Dimensions...)), shape.DType)
	}
	return scope.WithInitializer(initial).VariableWithShape(name, shapes.Make(dtype, dims...))
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
// Scale starts at 1 and offset at 0. (Of networks that do not say so, such as F1,
// C1 and AlexNet, the PyTorch 0.3 of the reference drew the scale from [0, 1);
// PyTorch has given that up since.)
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
		return noted(scope, "batch norm", affine(x, mean.NodeValue(g), variance.NodeValue(g), scale, offset), 0)
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
	return noted(scope, "batch norm", y, 0)
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

// relu has gradient 1 at 0, where PyTorch has 0; batch norm in front of it
// makes exact zeros rare.
func relu(x *Node) *Node { return Max(x, ZerosLike(x)) }
