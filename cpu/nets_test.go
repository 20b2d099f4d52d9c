package cpu_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/layers"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/gomlx/gomlx/ml/model/initializer"
	"github.com/gomlx/gomlx/ml/train"
	"github.com/gomlx/gomlx/ml/train/loss"
	"github.com/gomlx/gomlx/ml/train/optimizer"
)

// The networks of the SmoothOut experiments, written with GoMLX layers, and the
// stock trainer.

type network = func(scope *model.Scope, x *Node) *Node

func relu(x *Node) *Node { return Max(x, ZerosLike(x)) }

// batchNorm normalises the last axis, by the operation of the backend if there
// is one, else by basic operations.
func batchNorm(scope *model.Scope, x *Node) *Node {
	g := x.Graph()
	d := x.Shape().Dimensions
	c := d[len(d)-1]
	scale := scope.WithInitializer(initializer.One).VariableWithShape("scale", shapes.Make(dtypes.Float32, c)).NodeValue(g)
	offset := scope.WithInitializer(initializer.Zero).VariableWithShape("offset", shapes.Make(dtypes.Float32, c)).NodeValue(g)
	const epsilon = 1e-5
	if g.Backend().Capabilities().Operations[compute.OpTypeBatchNormForTraining] {
		y, _, _ := InternalBatchNormForTraining(x, scale, offset, epsilon, -1)
		return y
	}
	rows := Reshape(x, x.Shape().Size()/c, c)
	centered := Sub(rows, ReduceAndKeep(rows, ReduceMean, 0))
	variance := ReduceAndKeep(Square(centered), ReduceMean, 0)
	y := Mul(centered, Div(Reshape(scale, 1, c), Sqrt(AddScalar(variance, epsilon))))
	return Reshape(Add(y, Reshape(offset, 1, c)), d...)
}

// f1 has hidden layers of the given width, each with batch norm and ReLU.
func f1(layersCount, width int) network {
	return func(scope *model.Scope, x *Node) *Node {
		x = Reshape(x, x.Shape().Dimensions[0], -1)
		for i := range layersCount {
			s := scope.In("l%d", i)
			x = relu(batchNorm(s, layers.DenseWithBias(s, x, width)))
		}
		return layers.DenseWithBias(scope.In("out"), x, 10)
	}
}

func conv(s *model.Scope, x *Node, channels, kernel, stride int) *Node {
	return layers.Convolution(s, x).Channels(channels).KernelSize(kernel).Strides(stride).UseBias(false).PadSame().Done()
}

// c1 has two convolutions with max pooling and two hidden layers.
func c1(channels, wide, narrow int) network {
	return func(scope *model.Scope, x *Node) *Node {
		for i := range 2 {
			s := scope.In("c%d", i)
			x = conv(s, x, channels, 5, 1)
			x = MaxPool(x).Window(3).Strides(2).NoPadding().Done()
			x = relu(batchNorm(s, x))
		}
		x = Reshape(x, x.Shape().Dimensions[0], -1)
		for i, n := range []int{wide, narrow} {
			s := scope.In("f%d", i)
			x = relu(batchNorm(s, layers.Dense(s, x, false, n)))
		}
		return layers.DenseWithBias(scope.In("out"), x, 10)
	}
}

// resnet has three stages of the given number of blocks of two convolutions.
func resnet(blocks int, widths ...int) network {
	return func(scope *model.Scope, x *Node) *Node {
		channels := widths[0]
		x = relu(batchNorm(scope.In("bn0"), conv(scope.In("c0"), x, channels, 3, 1)))
		for stage, out := range widths {
			for k := range blocks {
				s := scope.In("s%d_%d", stage, k)
				stride := 1
				if stage > 0 && k == 0 {
					stride = 2
				}
				y := relu(batchNorm(s.In("b1"), conv(s.In("c1"), x, out, 3, stride)))
				y = batchNorm(s.In("b2"), conv(s.In("c2"), y, out, 3, 1))
				if stride != 1 || channels != out {
					x = batchNorm(s.In("bd"), conv(s.In("cd"), x, out, 1, stride))
				}
				channels = out
				x = relu(Add(x, y))
			}
		}
		return layers.DenseWithBias(scope.In("out"), ReduceMean(x, 1, 2), 10)
	}
}

// A training is a network, its input and the batches it sees.
type training struct {
	name  string
	net   network
	shape []int
}

// batches makes batches with something to learn.
func (tr training) batches(n int) []train.Batch {
	rng := rand.New(rand.NewPCG(1, 2))
	list := make([]train.Batch, n)
	for i := range list {
		size := shapes.Make(dtypes.Float32, tr.shape...).Size()
		x, labels := make([]float32, size), make([]int32, tr.shape[0])
		for j := range x {
			x[j] = float32(rng.NormFloat64())
		}
		for j := range labels {
			labels[j] = int32(j % 10)
			x[j*(size/len(labels))] += float32(labels[j])
		}
		list[i] = train.Batch{
			Inputs: []*tensors.Tensor{tensors.FromFlatDataAndDimensions(x, tr.shape...)},
			Labels: []*tensors.Tensor{tensors.FromFlatDataAndDimensions(labels, len(labels), 1)},
		}
	}
	return list
}

// fixedInit draws initial weights on the host, so that they are the same on
// every backend: uniform with the spread of Glorot's rule, zero for vectors.
func fixedInit(g *Graph, shape shapes.Shape) *Node {
	if shape.Rank() <= 1 {
		return Zeros(g, shape)
	}
	rng := rand.New(rand.NewPCG(uint64(shape.Size()), 3))
	d := shape.Dimensions
	last := d[len(d)-1]
	limit := math.Sqrt(6 / float64(shape.Size()/last+last*shape.Size()/last/d[len(d)-2]))
	w := make([]float32, shape.Size())
	for i := range w {
		w[i] = float32((2*rng.Float64() - 1) * limit)
	}
	return Const(g, tensors.FromFlatDataAndDimensions(w, d...))
}

// start prepares the trainer and returns a function that takes a step.
func (tr training) start(t testing.TB, backend compute.Backend) func(batch train.Batch) float64 {
	store := model.NewStore()
	store.SetParams(map[string]any{optimizer.ParamLearningRate: 0.1, initializer.ParamInitialSeed: int64(7)})
	net := func(scope *model.Scope, x *Node) *Node { return tr.net(scope.WithInitializer(fixedInit), x) }
	trainer := train.NewTrainer(backend, store, net, loss.SparseCategoricalCrossEntropyLogits,
		optimizer.StochasticGradientDescent().WithDecay(false).Done(), nil, nil)
	store.SetRNGStateFromSeed(7)
	return func(batch train.Batch) float64 {
		metrics, err := trainer.TrainStep(batch)
		if err != nil {
			t.Fatal(err)
		}
		v := float64(metrics[0].Value().(float32))
		for _, m := range metrics {
			m.FinalizeAll()
		}
		return v
	}
}
